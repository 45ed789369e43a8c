"""The one-stream layers against torch's own layer, torch's convolution, and sums written out."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.layers.attention.cross import FA, MTA, CrossAttention, join_heads, split_heads

MASKS = torch.tensor(list(itertools.product([False, True], repeat=4)))
WIDTH, NUM_HEADS = 16, 4


def randomized(layer: nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in layer.parameters():
        parameter.data.add_(torch.randn(parameter.shape), alpha=0.3)


def plain_attention(dropout: float = 0.0) -> CrossAttention:
    layer = CrossAttention(WIDTH, NUM_HEADS, dropout)
    randomized(layer)
    return layer


def nodes(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    queries, keys = torch.randn(2, 16, 4, WIDTH, generator=generator, dtype=torch.float64).to(dtype)
    return queries, keys


def test_heads_are_consecutive_parts_of_the_width() -> None:
    split = split_heads(torch.arange(12.0).view(1, 2, 6), 3)
    assert split.tolist() == [[[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]]
    assert join_heads(split).tolist() == [[[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]]


# ------------------------------------------------------------------------------------------------------ plain attention


def test_is_torchs_layer_on_every_subset() -> None:
    layer, (queries, keys) = plain_attention(), nodes()
    oracle = nn.MultiheadAttention(WIDTH, NUM_HEADS, batch_first=True)
    oracle.load_state_dict(
        {
            "in_proj_weight": torch.cat([layer.query.weight, layer.key_value.weight]),
            "in_proj_bias": torch.cat([layer.query.bias, layer.key_value.bias]),
            "out_proj.weight": layer.output.weight,
            "out_proj.bias": layer.output.bias,
        }
    )
    some = MASKS.any(dim=1)
    expected, _ = oracle(queries[some], keys[some], keys[some], key_padding_mask=~MASKS[some])
    found = layer(queries, keys, MASKS)
    torch.testing.assert_close(found[some], expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(found[~some], layer.output.bias.expand(1, 4, WIDTH))


@pytest.mark.parametrize("width", [16, 48])
def test_starts_with_the_weights_of_torchs_layer(width: int) -> None:
    torch.manual_seed(0)
    layer = CrossAttention(width, NUM_HEADS, 0.1)
    found = torch.rand(1)
    torch.manual_seed(0)
    oracle = nn.MultiheadAttention(width, NUM_HEADS)
    assert torch.equal(torch.cat([layer.query.weight, layer.key_value.weight]), oracle.in_proj_weight)
    assert torch.equal(layer.output.weight, oracle.out_proj.weight)
    assert torch.equal(found, torch.rand(1))
    for linear in (layer.query, layer.key_value, layer.output):
        assert not linear.bias.any()


def test_permutations_of_keys_change_nothing_and_of_queries_follow() -> None:
    layer, (queries, keys) = plain_attention(), nodes()
    order = torch.tensor([2, 0, 3, 1])
    found = layer(queries, keys, MASKS)
    torch.testing.assert_close(layer(queries, keys[:, order], MASKS[:, order]), found, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer(queries[:, order], keys, MASKS), found[:, order])


def test_dropout_falls_on_the_attention_weights() -> None:
    layer, (queries, keys) = plain_attention(dropout=0.5), nodes()
    # Values are all 1 and the output is the identity: a head's output is its kept weights' sum, twice their share.
    layer.key_value.weight.data[WIDTH:] = 0.0
    layer.key_value.bias.data[WIDTH:] = 1.0
    layer.output.weight.data.copy_(torch.eye(WIDTH))
    layer.output.bias.data.zero_()
    sums = layer.train()(queries, keys, torch.ones_like(MASKS)).view(16, 4, NUM_HEADS, -1)
    assert sums.std() > 0.1
    assert torch.equal(sums.amax(dim=-1), sums.amin(dim=-1))
    assert 0.8 < sums.mean() < 1.2


# -------------------------------------------------------------------------------------------------------- multi-token


def multi_token(num_nodes: int = 4, query_reach: int = 5, key_reach: int = 5) -> MTA:
    layer = MTA(WIDTH, NUM_HEADS, 0.0, num_nodes, query_reach, key_reach).double()
    randomized(layer)
    return layer


def convolved(maps_NMM: Tensor, kernel_NRC: Tensor, mixing_NN: Tensor) -> Tensor:
    """Torch's convolutions: one filter for each head, then one of size 1 over all heads."""
    padding = (kernel_NRC.shape[1] // 2, kernel_NRC.shape[2] // 2)
    filtered = functional.conv2d(maps_NMM[None], kernel_NRC[:, None], padding=padding, groups=len(maps_NMM))
    return functional.conv2d(filtered, mixing_NN[:, :, None, None])[0]


def multi_token_clip(layer: MTA, queries_MH: Tensor, keys_MH: Tensor, mask_M: Tensor) -> Tensor:
    """One clip, absent modalities being zero rows and columns of scores and weights, `[M, H]`."""
    width = WIDTH // NUM_HEADS
    asked, (offered, values) = layer.query(queries_MH), layer.key_value(keys_MH).chunk(2, dim=-1)
    scores = torch.zeros(NUM_HEADS, len(mask_M), len(mask_M), dtype=torch.float64)
    present = mask_M.nonzero().flatten().tolist()
    for head, i, j in itertools.product(range(NUM_HEADS), present, present):
        part = slice(head * width, (head + 1) * width)
        scores[head, i, j] = asked[i, part] @ offered[j, part] / math.sqrt(width)
    scores = convolved(scores, layer.score_kernel, layer.score_mixing)
    weights = torch.zeros_like(scores)
    for head, i in itertools.product(range(NUM_HEADS), present):
        weights[head, i, present] = scores[head, i, present].softmax(dim=0)
    weights = convolved(weights, layer.weight_kernel, layer.weight_mixing)
    out = torch.zeros(len(mask_M), WIDTH, dtype=torch.float64)
    for head, i in itertools.product(range(NUM_HEADS), present):
        part = slice(head * width, (head + 1) * width)
        heard = sum(weights[head, i, j] * values[j, part] for j in present)
        heard = heard / (heard.square().mean() + 1e-5).sqrt() * layer.gain
        out[i, part] = heard * torch.sigmoid(layer.gate.weight[0] @ heard + layer.gate.bias)
    return out @ layer.output.weight.T


@pytest.mark.parametrize(("query_reach", "key_reach"), [(5, 5), (1, 2), (0, 1), (0, 0)])
@torch.no_grad()
def test_multi_token_attention_is_torchs_convolution(query_reach: int, key_reach: int) -> None:
    layer, (queries, keys) = multi_token(4, query_reach, key_reach), nodes(torch.float64)
    assert layer.score_kernel.shape == (4, 2 * min(query_reach, 3) + 1, 2 * min(key_reach, 3) + 1)
    found = layer(queries, keys, MASKS)
    for clip, mask in enumerate(MASKS):
        expected = multi_token_clip(layer, queries[clip], keys[clip], mask)
        torch.testing.assert_close(found[clip], expected, rtol=0, atol=1e-11)


@torch.no_grad()
def test_convolved_weights_by_hand() -> None:
    layer = MTA(2, 1, 0.0, 2, 1, 1).double()
    # Each score gains the one to its left: (0, log 2) and (log 3, 0) become (0, log 2) and (log 3, log 3), whose
    # softmax is (1/3, 2/3) and (1/2, 1/2).
    layer.score_kernel[0, 1, 0] = 1.0
    scores = torch.tensor([[[[0.0, math.log(2)], [math.log(3), 0.0]]]], dtype=torch.float64)
    keys, everything = torch.zeros(1, 2, 2), torch.ones(1, 2, dtype=torch.bool)
    rows = {1: [[1 / 3, 2 / 3], [1 / 2, 1 / 2]], 0: [[0.0, 0.0], [1 / 3, 2 / 3]], 2: [[1 / 2, 1 / 2], [0.0, 0.0]]}
    for row, expected in rows.items():
        # Weights are those of this query, of the one before (the first has none), of the one after (the last has none).
        layer.weight_kernel.zero_()
        layer.weight_kernel[0, row, 1] = 1.0
        found = layer.weigh(scores, keys, everything)
        torch.testing.assert_close(found[0, 0], torch.tensor(expected, dtype=torch.float64))


@torch.no_grad()
def test_multi_token_attention_starts_as_plain_attention_normalised_and_gated() -> None:
    layer, (queries, keys) = MTA(WIDTH, NUM_HEADS, 0.0, 4, 5, 5).double(), nodes(torch.float64)
    plain = CrossAttention(WIDTH, NUM_HEADS, 0.0, bias=False).double()
    plain.load_state_dict({name: layer.state_dict()[name] for name in plain.state_dict()})
    plain.output.weight.copy_(torch.eye(WIDTH))
    heads = plain(queries, keys, MASKS).unflatten(-1, (NUM_HEADS, -1))
    heads = functional.rms_norm(heads, (WIDTH // NUM_HEADS,), eps=1e-5)
    expected = layer.output((heads * torch.sigmoid(layer.gate(heads))).flatten(2))
    found = layer(queries, keys, MASKS)
    torch.testing.assert_close(found[MASKS], expected[MASKS], rtol=0, atol=1e-12)
    assert not found[~MASKS].any()


@torch.no_grad()
def test_only_at_either_end_can_an_absent_modality_be_removed_from_multi_token_attention() -> None:
    layer, (queries, keys) = multi_token(), nodes(torch.float64)
    everything = torch.ones(16, 3, dtype=torch.bool)
    for absent in range(4):
        kept = torch.arange(4) != absent
        masked = layer(queries, keys, kept.expand(16, 4))[:, kept]
        removed = layer(queries[:, kept], keys[:, kept], everything)
        assert torch.allclose(masked, removed, rtol=0, atol=1e-12) == (absent in (0, 3)), absent
    local = multi_token(4, 0, 0)
    kept = torch.tensor([True, False, True, True])
    torch.testing.assert_close(
        local(queries, keys, kept.expand(16, 4))[:, kept],
        local(queries[:, kept], keys[:, kept], everything),
        rtol=0,
        atol=1e-12,
    )


# --------------------------------------------------------------------------------------------------------- forgetting


@torch.no_grad()
def test_forgetting_attention_is_the_sum_over_keys() -> None:
    layer, (queries, keys) = FA(WIDTH, NUM_HEADS, 0.0).double(), nodes(torch.float64)
    randomized(layer)
    width = WIDTH // NUM_HEADS
    found = layer(queries, keys, MASKS)
    for clip, mask in enumerate(MASKS):
        present = mask.nonzero().flatten().tolist()
        asked, (offered, values) = layer.query(queries[clip]), layer.key_value(keys[clip]).chunk(2, dim=-1)
        gates = 1 / (1 + torch.exp(-layer.forget(keys[clip])))
        expected = torch.zeros(4, WIDTH, dtype=torch.float64)
        for head, i in itertools.product(range(NUM_HEADS), range(4)):
            part = slice(head * width, (head + 1) * width)
            total = torch.zeros((), dtype=torch.float64)
            for j in present:
                kept = math.prod(gates[later, head].item() for later in present if later > j)
                share = kept * torch.exp(asked[i, part] @ offered[j, part] / math.sqrt(width))
                total += share
                expected[i, part] += share * values[j, part]
            expected[i, part] /= total if present else 1
        torch.testing.assert_close(found[clip], expected @ layer.output.weight.T, rtol=0, atol=1e-12)


@torch.no_grad()
def test_forgetting_by_hand() -> None:
    layer = FA(1, 1, 0.0).double()
    layer.forget.weight.fill_(1.0)
    layer.forget.bias.zero_()
    # Gates of keys log 1, log 3, log 1/3 are 1/2, 3/4, 1/4. All scores are equal, so weights are as the products of
    # later gates: 3/4 * 1/4 = 3/16, 1/4 and 1, that is 3 : 4 : 16 of 23; without the second key 1/4 : 1, of 5/4.
    keys = torch.tensor([1.0, 3.0, 1 / 3], dtype=torch.float64).log().view(1, 3, 1).expand(2, 3, 1)
    mask = torch.tensor([[True, True, True], [True, False, True]])
    found = layer.weigh(torch.zeros(2, 1, 3, 3, dtype=torch.float64), keys, mask)
    expected = torch.tensor([[3 / 23, 4 / 23, 16 / 23], [0.2, 0.0, 0.8]], dtype=torch.float64)
    torch.testing.assert_close(found[:, 0, 1], expected)
    assert torch.equal(found[:, 0, 0], found[:, 0, 2])


@torch.no_grad()
def test_gates_are_added_in_thirty_two_bits() -> None:
    layer = FA(1, 1, 0.0)
    layer.forget.weight.zero_()
    layer.forget.bias.fill_(-2.0)
    scores, keys = torch.zeros(1, 1, 6, 6, dtype=torch.bfloat16), torch.zeros(1, 6, 1, dtype=torch.bfloat16)
    found = layer.to(torch.bfloat16).weigh(scores, keys, torch.ones(1, 6, dtype=torch.bool))
    assert found.dtype == torch.bfloat16
    # Five times log f = -log(1 + e^2) is -10.63, which eight bits would round by up to 0.03, 3 in 100 of the weight;
    # rounding the weight itself costs 2^-9 of it.
    gate = 1 / (1 + math.exp(2))
    expected = torch.tensor([gate**later for later in range(5, -1, -1)])
    torch.testing.assert_close(found[0, 0, 0].float(), expected / expected.sum(), rtol=2**-8, atol=0)


@torch.no_grad()
def test_shut_gates_leave_the_last_present_key() -> None:
    layer, (queries, keys) = FA(WIDTH, NUM_HEADS, 0.0), nodes()
    layer.forget.weight.zero_()
    layer.forget.bias.fill_(-1e4)
    found = layer(queries, keys, MASKS)
    for clip, mask in enumerate(MASKS[1:], start=1):
        last = int(mask.nonzero()[-1])
        expected = layer.output(layer.key_value(keys[clip, last])[WIDTH:])
        torch.testing.assert_close(found[clip], expected.expand(4, WIDTH))
