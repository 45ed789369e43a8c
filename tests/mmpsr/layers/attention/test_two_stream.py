"""The two-stream layers against torch's modules on the present modalities of one clip at a time."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from mmpsr.layers.attention.cross import CrossAttention
from mmpsr.layers.attention.two_stream import BiCA, CrossMPT, TwoStreams
from mmpsr.layers.nodes import masked_mean

MASKS = torch.tensor(list(itertools.product([False, True], repeat=4)))
WIDTH, NUM_HEADS = 16, 4
KINDS: tuple[type[CrossMPT] | type[BiCA], ...] = (CrossMPT, BiCA)


def randomized(layer: TwoStreams) -> TwoStreams:
    torch.manual_seed(0)
    for parameter in layer.parameters():
        parameter.data.add_(torch.randn(parameter.shape), alpha=0.3)
    return layer.double()


def nodes() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    queries, keys = torch.randn(2, 16, 4, WIDTH, generator=generator, dtype=torch.float64)
    return queries, keys


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_tokens_pool_to_the_mean_over_both_streams(kind: type[CrossMPT] | type[BiCA]) -> None:
    layer, (queries, keys) = randomized(kind(WIDTH, NUM_HEADS, 0.0)), nodes()
    first, second = layer.streams(queries, keys, MASKS)
    assert first.shape == second.shape == (16, 4, WIDTH)
    expected = masked_mean(torch.cat([first, second], dim=1), MASKS.repeat(1, 2))
    torch.testing.assert_close(masked_mean(layer(queries, keys, MASKS), MASKS), expected, rtol=0, atol=1e-12)


def torchs_attention(layer: CrossAttention) -> nn.MultiheadAttention:
    oracle = nn.MultiheadAttention(WIDTH, NUM_HEADS, batch_first=True, dtype=torch.float64)
    oracle.load_state_dict(
        {
            "in_proj_weight": torch.cat([layer.query.weight, layer.key_value.weight]),
            "in_proj_bias": torch.cat([layer.query.bias, layer.key_value.bias]),
            "out_proj.weight": layer.output.weight,
            "out_proj.bias": layer.output.bias,
        }
    )
    return oracle


@torch.no_grad()
def test_message_passing_is_torchs_modules_in_turn() -> None:
    layer, (queries, keys) = randomized(CrossMPT(WIDTH, NUM_HEADS, 0.0)), nodes()
    assert isinstance(layer, CrossMPT)
    attention = torchs_attention(layer.attention)
    norms = [nn.LayerNorm(WIDTH, dtype=torch.float64) for _ in range(3)]
    for norm, mine in zip(norms, (layer.attention_norm, layer.hidden_norm, layer.norm), strict=True):
        norm.load_state_dict(mine.state_dict())
    wide, narrow = nn.Linear(WIDTH, 4 * WIDTH).double(), nn.Linear(4 * WIDTH, WIDTH).double()
    wide.load_state_dict(layer.hidden[0].state_dict())
    narrow.load_state_dict(layer.hidden[3].state_dict())
    streams = layer.streams(queries, keys, MASKS)
    for clip, mask in enumerate(MASKS[1:], start=1):
        x, c = queries[clip, mask], keys[clip, mask]
        x = x + attention(norms[0](x), c, c)[0]
        x = x + narrow(nn.functional.gelu(wide(norms[1](x))))
        c = c + attention(norms[0](c), x, x)[0]
        c = c + narrow(nn.functional.gelu(wide(norms[1](c))))
        for found, expected in zip(streams, (norms[2](x), norms[2](c)), strict=True):
            torch.testing.assert_close(found[clip, mask], expected, rtol=0, atol=1e-11)


@torch.no_grad()
def test_bidirectional_attention_is_the_sum_over_present_modalities() -> None:
    layer, (queries, keys) = randomized(BiCA(WIDTH, NUM_HEADS, 0.0)), nodes()
    assert isinstance(layer, BiCA)
    width = WIDTH // NUM_HEADS
    streams = layer.streams(queries, keys, MASKS)
    for clip, mask in enumerate(MASKS[1:], start=1):
        x, c = queries[clip, mask], keys[clip, mask]
        (ours, our_values), (theirs, their_values) = (
            linear.weight.chunk(2) for linear in (layer.query_value, layer.key_value)
        )
        first, second = torch.zeros_like(x), torch.zeros_like(c)
        for head in range(NUM_HEADS):
            part = slice(head * width, (head + 1) * width)
            similar = (ours[part] @ x.T).T @ (theirs[part] @ c.T) / math.sqrt(width)
            for i, j in itertools.product(range(len(x)), repeat=2):
                first[i, part] += similar[i, j].exp() / similar[i].exp().sum() * (their_values[part] @ c[j])
                second[j, part] += similar[i, j].exp() / similar[:, j].exp().sum() * (our_values[part] @ x[i])
        for found, expected in (
            (streams[0], first @ layer.query_output.weight.T + layer.query_output.bias),
            (streams[1], second @ layer.key_output.weight.T + layer.key_output.bias),
        ):
            torch.testing.assert_close(found[clip, mask], expected, rtol=0, atol=1e-11)


@torch.no_grad()
def test_bidirectional_attention_by_hand() -> None:
    layer = BiCA(1, 1, 0.0).double()
    for linear in (layer.query_value, layer.key_value, layer.query_output, layer.key_output):
        linear.weight.fill_(1.0)
    layer.query_output.bias.fill_(0.0)
    layer.key_output.bias.fill_(10.0)
    # Queries 0 and 1, keys 0 and log 3: similarities [[0, 0], [0, log 3]]. By rows the weights are 1/2, 1/2 and 1/4,
    # 3/4 of keys, that is log 3 / 2 = 0.549306 and 3 log 3 / 4 = 0.823959; by columns 1/2, 1/2 and 1/4, 3/4 of queries,
    # that is 0.5 and 0.75, plus 10. Means: 5.524653 and 5.786980.
    queries = torch.tensor([[[0.0], [1.0]]], dtype=torch.float64)
    keys = torch.tensor([[[0.0], [math.log(3)]]], dtype=torch.float64)
    found = layer(queries, keys, torch.ones(1, 2, dtype=torch.bool))
    expected = torch.tensor([[[5.524653], [5.786980]]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_second_stream_reads_the_updated_first() -> None:
    layer, (queries, keys) = randomized(CrossMPT(WIDTH, NUM_HEADS, 0.0)), nodes()
    assert isinstance(layer, CrossMPT)
    everything = torch.ones_like(MASKS)
    _, second = layer.streams(queries, keys, everything)
    from_the_start, _ = layer.streams(keys, queries, everything)
    assert (second - from_the_start).abs().max() > 1e-3


@torch.no_grad()
def test_dropout_of_both_directions_of_one_similarity_is_drawn_apart() -> None:
    layer, (queries, _) = randomized(BiCA(WIDTH, NUM_HEADS, 0.5)).train(), nodes()
    assert isinstance(layer, BiCA)
    # Values are what one projection makes of equal inputs, so that equal masks would give equal streams.
    layer.key_value.load_state_dict(layer.query_value.state_dict())
    layer.key_output.load_state_dict(layer.query_output.state_dict())
    first, second = layer.streams(queries, queries, torch.ones_like(MASKS))
    assert (first - second).abs().max() > 0.1
    layer.eval()
    first, second = layer.streams(queries, queries, torch.ones_like(MASKS))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-12)
