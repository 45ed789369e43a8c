"""Nodes of modalities: masked means and softmax, the spectral filter, and conflict between present modalities."""

from __future__ import annotations

import itertools

import pytest
import torch

from mmpsr.layers.nodes import conflicts, masked_mean, masked_softmax, mean_conflict, present_pairs, spectral_filter
from tests.support.graph_cases import all_masks, normalized_adjacency, uniform


def test_masked_mean() -> None:
    # Present 1 and 5: mean 3. Only 2: 2. None: 0.
    nodes = torch.tensor([[1.0, 5.0, 9.0], [1.0, 2.0, 9.0], [1.0, 5.0, 9.0]]).unsqueeze(-1)
    mask = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    assert masked_mean(nodes, mask).tolist() == [[3.0], [2.0], [0.0]]


def test_masked_softmax_takes_extreme_scores() -> None:
    scores = torch.tensor([[1e30, 1e30, 0.0], [-1e30, -1e30, 0.0]])
    mask = torch.tensor([True, True, False])
    assert masked_softmax(scores, mask).tolist() == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]


def test_spectral_filter_is_the_function_of_the_matrix() -> None:
    # f(A) = 2 I - A + 3 A^2: f(1) = 4, f(0) = 2, f(-s) = 2 + s + 3 s^2 with s = 1/(n - 1).
    masks = all_masks(5)
    nodes = uniform(32, 5, 3, dtype=torch.float64)
    share = 1 / (masks.sum(dim=1) - 1).clamp(min=1).double()[:, None, None]
    found = spectral_filter(nodes, masks, 4.0, 2 + share + 3 * share**2, 2.0)
    for clip in range(32):
        adjacency = normalized_adjacency(masks[clip])
        function = 2 * torch.eye(5) - adjacency + 3 * adjacency @ adjacency
        torch.testing.assert_close(found[clip], function @ nodes[clip])


MASKS = torch.tensor(list(itertools.product([False, True], repeat=3)))


def test_by_hand() -> None:
    nodes = torch.tensor([[[1.0, 5.0], [4.0, -1.0], [0.0, 2.0]]]).repeat(3, 1, 1)
    mask = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    # |1 - 4|, |5 + 1|; |1 - 0|, |5 - 2|; |4 - 0|, |-1 - 2|
    all_three = [[3.0, 6.0], [1.0, 3.0], [4.0, 3.0]]
    expected = torch.tensor([all_three, [[0.0, 0.0], [1.0, 3.0], [0.0, 0.0]], [[0.0, 0.0]] * 3])
    assert torch.equal(conflicts(nodes, mask), expected)
    # (3 + 1 + 4) / 3 and (6 + 3 + 3) / 3; one pair; no pair
    torch.testing.assert_close(mean_conflict(nodes, mask), torch.tensor([[8 / 3, 4.0], [1.0, 3.0], [0.0, 0.0]]))
    assert present_pairs(mask).tolist() == [[True] * 3, [False, True, False], [False] * 3]


@pytest.mark.parametrize("num_nodes", [1, 2, 4, 6])
def test_is_a_loop_over_present_pairs(num_nodes: int) -> None:
    torch.manual_seed(0)
    nodes, mask = torch.randn(30, num_nodes, 5), torch.rand(30, num_nodes) < 0.6
    found, mean = conflicts(nodes, mask), mean_conflict(nodes, mask)
    assert found.shape == (30, num_nodes * (num_nodes - 1) // 2, 5)
    for clip in range(30):
        present = []
        for place, (i, j) in enumerate(itertools.combinations(range(num_nodes), 2)):
            there = bool(mask[clip, i] and mask[clip, j])
            expected = (nodes[clip, i] - nodes[clip, j]).abs() if there else torch.zeros(5)
            assert torch.equal(found[clip, place], expected)
            present += [expected] if there else []
        torch.testing.assert_close(mean[clip], torch.stack(present).mean(dim=0) if present else torch.zeros(5))


def test_absent_nodes_never_matter() -> None:
    nodes = torch.randn(8, 3, 4)
    for fill in (7.0, 1e30, float("nan")):
        filled = torch.where(MASKS.unsqueeze(-1), nodes, fill).requires_grad_()
        found = conflicts(filled, MASKS)
        assert torch.equal(found, conflicts(nodes, MASKS))
        found.square().sum().backward()
        assert not filled.grad[~MASKS].any()
        assert torch.isfinite(filled.grad).all()
