from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmpsr.layers.graph.ncgnn import NCGNN, GRUCell
from tests.support.graph_cases import all_masks, uniform


def create(width: int = 6, num_nodes: int = 4, **options: Any) -> NCGNN:
    torch.manual_seed(0)
    return NCGNN(width, num_nodes, dropout=0.0, **options).double().eval()


def as_torch(cells: list[GRUCell]) -> nn.GRU:
    """Torch's GRU of one layer with a cell's weights, or two cells' as its directions."""
    width_in, width = cells[0].from_input.in_features, cells[0].from_state.in_features
    gru = nn.GRU(width_in, width, bidirectional=len(cells) == 2, batch_first=True).double()
    for cell, suffix in zip(cells, ("", "_reverse"), strict=False):
        for name, linear in (("ih", cell.from_input), ("hh", cell.from_state)):
            getattr(gru, f"weight_{name}_l0{suffix}").data.copy_(linear.weight)
            getattr(gru, f"bias_{name}_l0{suffix}").data.copy_(linear.bias)
    return gru


def final_states(layer: NCGNN, nodes_MH: Tensor, walks: list[tuple[int, ...]]) -> Tensor:
    """What torch's GRUs make of the walks, `[W, I]`."""
    encoded, read = [], []
    for walk in walks:
        order = list(dict.fromkeys(walk))
        angles = [2 * math.pi * order.index(node) / len(walk) for node in reversed(walk)]
        encoded.append([[math.sin(angle), math.cos(angle)] for angle in angles])
        read.append(nodes_MH[list(reversed(walk))])
    _, both = as_torch([layer.forward_cell, layer.backward_cell])(torch.tensor(encoded, dtype=torch.float64))
    _, last = as_torch([layer.cell])(torch.stack(read), both.mean(dim=0, keepdim=True))
    return last[0]


def expected(layer: NCGNN, nodes_MH: Tensor, mask_M: Tensor, length: int) -> Tensor:
    """The expectation over walks, by enumeration, `[n, H]` of present nodes."""
    present = mask_M.nonzero().flatten().tolist()
    rows = []
    for start in present:
        walks = [
            (start, *rest)
            for rest in itertools.product(present, repeat=length - 1)
            if all(now != after for now, after in itertools.pairwise((start, *rest)))
        ] or [(start,) * length]
        rows.append(nodes_MH[start] + layer.up(final_states(layer, nodes_MH, walks).mean(dim=0)))
    return torch.stack(rows)


def test_the_cell_is_torchs_cell() -> None:
    torch.manual_seed(0)
    cell, oracle = GRUCell(5, 3), nn.GRUCell(5, 3)
    oracle.load_state_dict(
        {
            "weight_ih": cell.from_input.weight,
            "weight_hh": cell.from_state.weight,
            "bias_ih": cell.from_input.bias,
            "bias_hh": cell.from_state.bias,
        }
    )
    inputs, state = uniform(7, 5), uniform(7, 3, seed=1)
    torch.testing.assert_close(cell(cell.from_input(inputs), state), oracle(inputs, state))


def test_a_cell_starts_as_torchs() -> None:
    torch.manual_seed(0)
    cell = GRUCell(30, 25)
    for parameter in cell.parameters():
        # Uniform in +-1/sqrt(25) = +-0.2.
        assert parameter.abs().max() <= 0.2
        assert parameter.abs().max() > 0.18
        assert parameter.std().item() == pytest.approx(0.2 / math.sqrt(3), rel=0.15)


@pytest.mark.parametrize(
    ("num_nodes", "length", "inner"), [(1, 3, None), (2, 2, None), (3, 4, 5), (4, 3, None), (4, 4, 4)]
)
@torch.no_grad()
def test_evaluation_is_the_expectation_by_torchs_gru_on_every_subset(
    num_nodes: int, length: int, inner: int | None
) -> None:
    layer, masks = create(num_nodes=num_nodes, walk_length=length, inner_width=inner), all_masks(num_nodes)
    nodes = uniform(len(masks), num_nodes, 6, dtype=torch.float64)
    found = layer(nodes, masks)
    assert layer.exact
    for clip in range(1, len(masks)):
        torch.testing.assert_close(found[clip, masks[clip]], expected(layer, nodes[clip], masks[clip], length))


@torch.no_grad()
def test_sampled_walks_are_read_as_torchs_gru_reads_them() -> None:
    layer = create(num_nodes=5, walk_length=6, num_walks=2)
    assert not layer.exact
    nodes, masks = uniform(32, 5, 6, dtype=torch.float64), all_masks(5)
    found = layer(nodes, masks)
    for clip in (31, 13, 8):
        present = masks[clip].tolist()
        for start in masks[clip].nonzero().flatten().tolist():
            walks = []
            for index in range(2):
                walk = [start]
                for step in range(5):
                    # The present neighbour of the highest score.
                    others = [node for node in range(5) if present[node] and node != walk[-1]]
                    scores = layer.scores[0, step, start, index].tolist()
                    walk.append(max(others, key=scores.__getitem__) if others else walk[-1])
                walks.append(tuple(walk))
            mean = final_states(layer, nodes[clip], walks).mean(dim=0)
            torch.testing.assert_close(found[clip, start], nodes[clip, start] + mean)


@torch.no_grad()
def test_training_samples_around_the_expectation() -> None:
    layer, nodes = create(num_walks=64), uniform(16, 4, 6, dtype=torch.float64)
    masks = all_masks(4)
    exact = layer(nodes, masks)
    layer.train()
    torch.manual_seed(0)
    draws = torch.stack([layer(nodes, masks) for _ in range(40)])
    spread = draws.std(dim=0) / math.sqrt(40) + 1e-9
    distance = ((draws.mean(dim=0) - exact).abs() / spread)[masks]
    assert distance.max() < 5
    # A lone node, and two of them, have one walk only.
    few = masks & (masks.sum(dim=1, keepdim=True) <= 2)
    torch.testing.assert_close(draws[0][few], exact[few])
    assert (draws[0] != draws[1])[masks & ~few].any(dim=-1).all()


@torch.no_grad()
def test_draws_follow_torchs_seed_and_differ_between_clips() -> None:
    layer = create(num_walks=1).train()
    nodes, masks = uniform(1, 4, 6, dtype=torch.float64).expand(64, 4, 6), torch.ones(64, 4, dtype=torch.bool)
    torch.manual_seed(1)
    first = layer(nodes, masks)
    torch.manual_seed(1)
    assert torch.equal(layer(nodes, masks), first)
    assert not torch.equal(layer(nodes, masks), first)
    assert len(first[:, 0].unique(dim=0)) > 5


@pytest.mark.parametrize(("num_nodes", "length"), [(4, 4), (5, 4), (4, 5)])
@torch.no_grad()
def test_evaluation_draws_nothing(num_nodes: int, length: int) -> None:
    first = create(num_nodes=num_nodes, walk_length=length)
    torch.manual_seed(5)
    again = NCGNN(6, num_nodes, length, dropout=0.0).double().eval()
    again.load_state_dict(first.state_dict())
    nodes, masks = uniform(3, num_nodes, 6, dtype=torch.float64), torch.ones(3, num_nodes, dtype=torch.bool)
    state = torch.get_rng_state()
    assert torch.equal(first(nodes, masks), again(nodes, masks))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.exact == (num_nodes == length == 4)


def test_dropout_falls_on_the_walks_only() -> None:
    layer = NCGNN(6, 3, dropout=0.999).train()
    nodes = uniform(2, 3, 6)
    torch.manual_seed(0)
    assert (layer(nodes, torch.ones(2, 3, dtype=torch.bool)) == nodes).float().mean() > 0.9


def test_no_values_are_stored_that_are_not_learnt() -> None:
    layer = create()
    assert set(layer.state_dict()) == {name for name, _ in layer.named_parameters()}


def test_wrong_numbers_of_nodes() -> None:
    with pytest.raises(ValueError, match=r"number of modalities.*found 0 and 4"):
        NCGNN(4, 0)
    with pytest.raises(ValueError, match=r"at least 2 nodes; found 3 and 1"):
        NCGNN(4, 3, walk_length=1)
    with pytest.raises(ValueError, match="made for 3 modalities; found 4"):
        NCGNN(4, 3)(torch.zeros(1, 4, 4), torch.ones(1, 4, dtype=torch.bool))
