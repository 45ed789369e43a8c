"""Differences between modalities, by hand and against loops over pairs."""

from __future__ import annotations

import itertools

import pytest
import torch

from mmpsr.layers.nodes import conflicts, mean_conflict, present_pairs

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
