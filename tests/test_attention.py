from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from mmpsr.attention import CrossAttention
from mmpsr.graph import masked_mean

MASKS = torch.tensor(list(itertools.product([False, True], repeat=4)))
WIDTH, NUM_HEADS = 16, 4


def layer_with_biases(dropout: float = 0.0) -> CrossAttention:
    torch.manual_seed(0)
    layer = CrossAttention(WIDTH, NUM_HEADS, dropout)
    nn.init.normal_(layer.in_proj_bias)
    nn.init.normal_(layer.out_proj.bias)
    return layer


def nodes() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 16, 4, WIDTH, generator=generator).unbind()


def test_is_torchs_layer_on_every_subset() -> None:
    layer, (queries, keys) = layer_with_biases(), nodes()
    oracle = nn.MultiheadAttention(WIDTH, NUM_HEADS, batch_first=True)
    oracle.load_state_dict(layer.state_dict())
    some = MASKS.any(dim=1)
    expected, _ = oracle(queries[some], keys[some], keys[some], key_padding_mask=~MASKS[some])
    found = layer(queries, keys, MASKS)
    torch.testing.assert_close(found[some], expected, rtol=1e-5, atol=1e-6)


def test_nothing_present_leaves_the_output_bias_and_pools_to_zero() -> None:
    layer, (queries, keys) = layer_with_biases(), nodes()
    nothing = torch.zeros(16, 4, dtype=torch.bool)
    found = layer(queries, keys, nothing)
    assert torch.equal(found, layer.out_proj.bias.expand(16, 4, WIDTH))
    assert torch.equal(masked_mean(found, nothing), torch.zeros(16, WIDTH))


def test_absent_keys_are_not_read() -> None:
    layer, (queries, keys) = layer_with_biases(), nodes()
    changed = torch.where(MASKS.unsqueeze(-1), keys, 1e30)
    assert torch.equal(layer(queries, changed, MASKS), layer(queries, keys, MASKS))


def test_starts_like_torchs_layer() -> None:
    torch.manual_seed(0)
    layer, oracle = CrossAttention(WIDTH, NUM_HEADS, 0.1), nn.MultiheadAttention(WIDTH, NUM_HEADS)
    assert {name: tensor.shape for name, tensor in layer.state_dict().items()} == {
        name: tensor.shape for name, tensor in oracle.state_dict().items()
    }
    assert not layer.in_proj_bias.any()
    assert not layer.out_proj.bias.any()
    # Both draw in_proj from the uniform law of Xavier, bounded by sqrt(6 / (3 H + H)) = sqrt(1.5 / 16) = 0.3062.
    assert 0.29 < layer.in_proj_weight.abs().max() < 0.3062
    assert 0.29 < oracle.in_proj_weight.abs().max() < 0.3062
    # Linear's own law, bounded by 1 / sqrt(H) = 0.25.
    assert 0.24 < layer.out_proj.weight.abs().max() <= 0.25


def test_permutations_of_keys_change_nothing_and_of_queries_follow() -> None:
    layer, (queries, keys) = layer_with_biases(), nodes()
    order = torch.tensor([2, 0, 3, 1])
    found = layer(queries, keys, MASKS)
    torch.testing.assert_close(layer(queries, keys[:, order], MASKS[:, order]), found)
    torch.testing.assert_close(layer(queries[:, order], keys, MASKS), found[:, order])


def test_dropout_falls_on_the_attention_weights_in_training_only() -> None:
    layer, (queries, keys) = layer_with_biases(dropout=0.5), nodes()
    everything = torch.ones(16, 4, dtype=torch.bool)
    plain = layer_with_biases()(queries, keys, everything)
    assert torch.equal(layer.eval()(queries, keys, everything), plain)
    torch.manual_seed(0)
    # Values are all 1 and the output is the identity: a head's output is its kept weights' sum, twice their share.
    layer.in_proj_weight.data[2 * WIDTH :] = 0.0
    layer.in_proj_bias.data[2 * WIDTH :] = 1.0
    layer.out_proj.weight.data.copy_(torch.eye(WIDTH))
    layer.out_proj.bias.data.zero_()
    sums = layer.train()(queries, keys, everything).view(16, 4, NUM_HEADS, -1)
    assert sums.std() > 0.1
    assert torch.equal(sums.amax(dim=-1), sums.amin(dim=-1))
    assert 0.8 < sums.mean() < 1.2


def test_gradients_reach_all_weights_queries_and_present_keys() -> None:
    layer, (queries, keys) = layer_with_biases().double(), nodes()
    queries, keys = queries.double().requires_grad_(), keys.double().requires_grad_()
    layer(queries, keys, MASKS).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert layer.in_proj_weight.grad is not None
    for part in layer.in_proj_weight.grad.chunk(3):
        assert (part.abs().sum(dim=1) > 0).all()
    assert keys.grad is not None
    assert queries.grad is not None
    assert torch.equal(keys.grad.abs().sum(dim=-1) > 0, MASKS)
    # With one key its weight is 1 whatever the query asks.
    asked = (MASKS.sum(dim=1) >= 2).unsqueeze(1).expand(16, 4)
    assert torch.equal(queries.grad.abs().sum(dim=-1) > 1e-12, asked)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"number of heads \(3\) must divide the hidden width \(16\)"):
        CrossAttention(16, 3, 0.0)


def test_parameter_count() -> None:
    with torch.device("meta"):
        layer = CrossAttention(512, 8, 0.2)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 1_050_624
