"""What every cross-attention layer keeps: counts, absence, independence of clips, order, gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from mmpsr.layers.attention.build import NoAttention, create_attention
from mmpsr.layers.attention.config import AttentionConfig
from mmpsr.layers.attention.cross import MTA
from mmpsr.layers.nodes import masked_mean
from mmpsr.layers.recorded import Tape

KINDS = ("mha", "mta", "crossmpt", "bica", "fa")
UNORDERED = ("mha", "crossmpt", "bica")
MASKS = torch.tensor(list(itertools.product([False, True], repeat=4)))
WIDTH, NUM_HEADS = 16, 4


def layer(kind: str, num_nodes: int = 4, width: int = WIDTH, num_heads: int = NUM_HEADS) -> nn.Module:
    """A layer none of whose parameters is zero, one or the identity."""
    torch.manual_seed(0)
    made = create_attention(kind, width, num_heads, 0.0, num_nodes, AttentionConfig())
    for parameter in made.parameters():
        parameter.data.add_(torch.randn(parameter.shape), alpha=0.3)
    return made


def nodes(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    queries, keys = torch.randn(2, *shape or (16, 4, WIDTH), generator=generator, dtype=torch.float64).to(dtype)
    return queries, keys


def pooled(attention: nn.Module, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    return masked_mean(attention(queries, keys, mask), mask)


@pytest.mark.parametrize(
    ("kind", "num_nodes", "expected"),
    [
        ("mha", 4, 1_050_624),
        # 4 * 512^2 + 2 * 8 * 7 * 7 + 2 * 8^2 + 2 * 64 + 1
        ("mta", 4, 1_049_617),
        # kernels of 11 * 11, and of 1 * 1
        ("mta", 6, 1_048_576 + 2 * 8 * 121 + 128 + 129),
        ("mta", 1, 1_048_576 + 2 * 8 + 128 + 129),
        ("crossmpt", 4, 3_153_408),
        ("bica", 4, 1_573_888),
        ("fa", 4, 1_052_680),
        ("none", 4, 0),
    ],
)
def test_parameter_counts(kind: str, num_nodes: int, expected: int) -> None:
    with torch.device("meta"):
        made = create_attention(kind, 512, 8, 0.2, num_nodes, AttentionConfig())
    assert sum(parameter.numel() for parameter in made.parameters()) == expected


def test_published_count_of_multi_token_attention() -> None:
    with torch.device("meta"):
        made = create_attention("mta", 512, 8, 0.2, 6, AttentionConfig(query_reach=2, key_reach=5))
    assert isinstance(made, MTA)
    assert made.score_kernel.shape == made.weight_kernel.shape == (8, 5, 11)
    # Published kernels are 6 * 11, an even side that a centred kernel cannot have: one row more in both.
    assert sum(parameter.numel() for parameter in made.parameters()) + 2 * 8 * 11 == 1_049_889


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_nodes", [1, 2, 6])
def test_one_token_for_each_of_any_number_of_modalities(kind: str, num_nodes: int) -> None:
    made, (queries, keys) = layer(kind, num_nodes), nodes(3, num_nodes, WIDTH)
    found = made(queries, keys, torch.ones(3, num_nodes, dtype=torch.bool))
    assert found.shape == (3, num_nodes, WIDTH)
    assert torch.isfinite(found).all()
    assert (found.std(dim=(0, 1)) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fill", [1e30, -1e30, 7.0])
def test_what_stands_in_an_absent_modality_is_not_read(kind: str, fill: float) -> None:
    made, (queries, keys) = layer(kind), nodes()
    expected = pooled(made, queries, keys, MASKS)
    absent = ~MASKS.unsqueeze(-1)
    changed = queries.masked_fill(absent, fill).requires_grad_(), keys.masked_fill(absent, fill).requires_grad_()
    found = pooled(made, *changed, MASKS)
    assert torch.equal(found, expected)
    found.square().sum().backward()
    for each in changed:
        assert each.grad is not None
        assert torch.isfinite(each.grad).all()
        assert not each.grad.masked_select(absent).any()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mta"])
def test_an_absent_modality_can_as_well_be_removed(kind: str) -> None:
    made, (queries, keys) = layer(kind).double(), nodes(dtype=torch.float64)
    found = made(queries, keys, MASKS)
    for clip, mask in enumerate(MASKS):
        if mask.any():
            everything = torch.ones(1, int(mask.sum()), dtype=torch.bool)
            expected = made(queries[clip, mask][None], keys[clip, mask][None], everything)
            torch.testing.assert_close(found[clip, mask][None], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_without_any_modality_pools_to_zero_with_finite_gradients(kind: str) -> None:
    made, (queries, keys) = layer(kind), nodes()
    queries.requires_grad_()
    found = pooled(made, queries, keys, torch.zeros_like(MASKS))
    assert torch.equal(found, torch.zeros(16, WIDTH))
    found.sum().backward()
    assert queries.grad is not None
    for gradient in (queries.grad, *(parameter.grad for parameter in made.parameters())):
        assert gradient is not None
        assert not gradient.any()


@pytest.mark.parametrize("kind", KINDS)
def test_clips_do_not_meet(kind: str) -> None:
    made, (queries, keys) = layer(kind).double(), nodes(dtype=torch.float64)
    found = made(queries, keys, MASKS)
    for clip in range(16):
        only = slice(clip, clip + 1)
        expected = made(queries[only], keys[only], MASKS[only])
        torch.testing.assert_close(found[only], expected, rtol=0, atol=1e-12)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = made(queries[order], keys[order], MASKS[order])
    torch.testing.assert_close(moved, found[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_modalities_matters_where_a_layer_has_one(kind: str) -> None:
    made, (queries, keys) = layer(kind).double(), nodes(dtype=torch.float64)
    order = torch.tensor([2, 0, 3, 1])
    found = made(queries[:, order], keys[:, order], MASKS[:, order])
    difference = (found - made(queries, keys, MASKS)[:, order]).masked_fill(~MASKS[:, order, None], 0.0)
    moved = difference.abs().amax(dim=(1, 2)) > 1e-3
    if kind in UNORDERED:
        assert not (difference.abs() > 1e-12).any()
    else:
        # One modality alone has no neighbour in MTA and nothing after it in FA, except by its place: none here.
        assert torch.equal(moved[MASKS.all(dim=1)], torch.tensor([True]))
        assert not moved[MASKS.sum(dim=1) <= 1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_one_modality_alone(kind: str) -> None:
    made, (queries, keys) = layer(kind).double(), nodes(dtype=torch.float64)
    alone = MASKS.sum(dim=1) == 1
    found = pooled(made, queries[alone], keys[alone], MASKS[alone])
    changed = pooled(made, queries[alone] + 1.0, keys[alone], MASKS[alone])
    # Its weight is 1 whatever is asked, so that only layers that keep the query as a stream of its own see it.
    assert bool((changed - found).abs().max() > 1e-9) == (kind in ("crossmpt", "bica"))
    assert (pooled(made, queries[alone], keys[alone] + 1.0, MASKS[alone]) != found).any(dim=1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_finite_differences(kind: str) -> None:
    made = layer(kind, num_nodes=3, width=4, num_heads=2).double()
    mask = torch.tensor([[True, True, True], [False, True, True], [True, False, False], [False, False, False]])
    names, parameters = zip(*made.named_parameters(), strict=True)

    def call(queries: Tensor, keys: Tensor, *values: Tensor) -> Tensor:
        return masked_mean(functional_call(made, dict(zip(names, values, strict=True)), (queries, keys, mask)), mask)

    inputs = [each.requires_grad_() for each in nodes(4, 3, 4, dtype=torch.float64)]
    assert torch.autograd.gradcheck(call, (*inputs, *parameters))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight_and_all_that_is_present(kind: str) -> None:
    made, (queries, keys) = layer(kind).double(), nodes(dtype=torch.float64)
    queries.requires_grad_()
    keys.requires_grad_()
    pooled(made, queries, keys, MASKS).pow(3).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).flatten(1 if parameter.ndim > 1 else 0).any(dim=-1).all(), name
    assert keys.grad is not None
    assert queries.grad is not None
    assert torch.equal(keys.grad.abs().sum(dim=-1) > 0, MASKS)
    asked = MASKS & (MASKS.sum(dim=1, keepdim=True) >= (1 if kind in ("crossmpt", "bica") else 2))
    assert torch.equal(queries.grad.abs().sum(dim=-1) > 1e-12, asked)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_formed_from_records_with_a_weight_for_each_clip(kind: str) -> None:
    made, (queries, keys) = layer(kind).double(), nodes(dtype=torch.float64)
    weights = torch.linspace(-1, 2, 16, dtype=torch.float64)
    with Tape() as tape:
        losses = pooled(made, queries, keys, MASKS).pow(3).sum(dim=1)
    at_outputs = torch.autograd.grad(losses.sum(), [record.outputs for record in tape.records], retain_graph=True)
    formed: dict[Tensor, Tensor] = {each: torch.zeros_like(each) for each in made.parameters()}
    for record, at_output in zip(tape.records, at_outputs, strict=True):
        weighted = at_output * weights.view(-1, *[1] * (at_output.ndim - 1))
        if record.kind == "expanded":
            first, second = weighted.sum(dim=0), None
        else:
            inputs, flat = record.inputs, weighted.flatten(0, -2)
            assert inputs is not None
            if record.kind == "norm":
                inputs = functional.layer_norm(inputs, inputs.shape[-1:])
                first = (weighted * inputs).flatten(0, -2).sum(dim=0)
            else:
                first = flat.T @ inputs.flatten(0, -2)
            second = flat.sum(dim=0)
        for parameter, gradient in zip(record.parameters, (first, second), strict=False):
            if parameter is not None and gradient is not None:
                formed[parameter] += gradient
    (losses @ weights).backward()
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(formed[parameter], parameter.grad, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_in_training_only(kind: str) -> None:
    torch.manual_seed(0)
    made, (queries, keys) = create_attention(kind, WIDTH, NUM_HEADS, 0.5, 4, AttentionConfig()), nodes()
    plain = create_attention(kind, WIDTH, NUM_HEADS, 0.0, 4, AttentionConfig())
    plain.load_state_dict(made.state_dict())
    expected = plain(queries, keys, MASKS)
    assert torch.equal(made.eval()(queries, keys, MASKS), expected)
    for dropout in [module for module in made.modules() if isinstance(module, nn.Dropout)]:
        dropout.train()
        assert not torch.equal(made(queries, keys, MASKS), expected)
        dropout.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_bit_arithmetic_stays_near(kind: str) -> None:
    made, (queries, keys) = layer(kind), nodes()
    expected = pooled(made, queries, keys, MASKS)
    with torch.autocast("cpu", torch.bfloat16):
        found = pooled(made, queries, keys, MASKS)
    assert torch.isfinite(found).all()
    # Eight bits of mantissa, a few roundings of numbers about 3: well under 2 in 100 of the spread.
    assert (found - expected).abs().mean() < 0.02 * expected[1:].std()


@pytest.mark.parametrize("kind", KINDS)
def test_heads_must_divide_the_width(kind: str) -> None:
    with pytest.raises(ValueError, match=r"number of heads \(3\) must divide the hidden width \(16\)"):
        create_attention(kind, 16, 3, 0.0, 4, AttentionConfig())


def test_no_attention_passes_the_queries() -> None:
    queries, keys = nodes()
    made = create_attention("none", WIDTH, NUM_HEADS, 0.5, 4, AttentionConfig())
    assert isinstance(made, NoAttention)
    assert made(queries, keys, MASKS) is queries


def test_an_unknown_layer_names_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match="no attention layer is named 'linear'; known are mha, mta, crossmpt, bica, fa"
    ):
        create_attention("linear", 16, 4, 0.0, 4, AttentionConfig())
