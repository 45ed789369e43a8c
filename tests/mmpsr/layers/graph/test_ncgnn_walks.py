from __future__ import annotations

import itertools

import pytest
import torch

from mmpsr.layers.graph.ncgnn import all_walks, anonymous_ranks, sample_walks, walk_probabilities
from tests.support.graph_cases import all_masks


def ranks(walk: tuple[int, ...]) -> list[int]:
    order = list(dict.fromkeys(walk))
    return [order.index(node) for node in walk]


@pytest.mark.parametrize("length", [2, 4, 5])
def test_anonymous_ranks_of_every_sequence(length: int) -> None:
    sequences = list(itertools.product(range(4), repeat=length))
    assert anonymous_ranks(torch.tensor(sequences)).tolist() == [ranks(sequence) for sequence in sequences]


@pytest.mark.parametrize(("num_nodes", "length"), [(1, 4), (2, 3), (3, 4), (4, 4)])
def test_all_walks(num_nodes: int, length: int) -> None:
    walks = all_walks(num_nodes, length)
    assert walks.shape == (num_nodes, (num_nodes - 1) ** (length - 1) + 1, length)
    for start in range(num_nodes):
        found = {tuple(walk) for walk in walks[start].tolist()}
        moving = {
            walk
            for walk in itertools.product(range(num_nodes), repeat=length)
            if walk[0] == start and all(now != after for now, after in itertools.pairwise(walk))
        }
        assert found == moving | {(start,) * length}
        assert torch.equal(anonymous_ranks(walks[start]), anonymous_ranks(walks[0]))


def test_probabilities_are_those_of_the_walk_step_by_step() -> None:
    walks, masks = all_walks(4, 4), all_masks(4)
    for start in range(4):
        found = walk_probabilities(walks[start], masks, torch.float64)
        for clip, mask in enumerate(masks.tolist()):
            others = {i: [j for j in range(4) if mask[j] and j != i] or [i] for i in range(4)}
            for index, walk in enumerate(walks[start].tolist()):
                expected = float(mask[start])
                for now, after in itertools.pairwise(walk):
                    expected *= (after in others[now]) / len(others[now])
                assert found[clip, index] == pytest.approx(expected)
        torch.testing.assert_close(found.sum(dim=1), masks[:, start].double())


def test_sampled_walks_follow_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.tensor([[True, True, True, True], [True, False, True, True], [False, False, True, False]])
    found = sample_walks(torch.rand(3, 3, 4, 4000, 4, generator=generator), masks)
    walks = all_walks(4, 4)
    for start in range(4):
        probabilities = walk_probabilities(walks[start], masks, torch.float32)
        for clip in masks[:, start].nonzero().flatten():
            counts = (found[clip, start, :, None] == walks[start]).all(dim=-1).float().mean(dim=0)
            assert counts.sum().item() == pytest.approx(1)
            # Five standard deviations of a share of 4,000 draws.
            spread = (probabilities[clip] * (1 - probabilities[clip]) / 4000).sqrt()
            assert ((counts - probabilities[clip]).abs() <= 5 * spread).all()


def test_walks_of_a_clip_depend_on_its_scores_and_presence_only() -> None:
    scores = torch.rand(1, 4, 4, 3, 4, generator=torch.Generator().manual_seed(0))
    masks = all_masks(4)
    together = sample_walks(scores, masks)
    alone = torch.cat([sample_walks(scores, masks[clip : clip + 1]) for clip in range(16)])
    assert torch.equal(together, alone)
    assert together.shape == (16, 4, 3, 5)
