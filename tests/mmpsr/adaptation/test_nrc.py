from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from mmpsr.adaptation.base import AdaptationConfig, NrcConfig, Places, Target
from mmpsr.adaptation.build import create_method
from mmpsr.adaptation.network import FeatureNetwork
from mmpsr.adaptation.nrc import Neighbors, find_neighbors, neighbor_term


def at(*degrees: float) -> torch.Tensor:
    """Unit vectors in the plane."""
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_neighbours_and_weights_by_hand() -> None:
    # on a circle at 0, 10, 25, 45 and 180 degrees; K = 3, M = 2
    found = find_neighbors(torch.tensor([0, 3]), at(0, 10, 25, 45, 180), NrcConfig())
    # of 0: 10, 25, 45. Two nearest of 10: 0, 25; of 25: 10, 45; of 45: 25, 10. Only 10 has 0 among them.
    # of 45: 25, 10, 0. Two nearest of 25: 10 (15 away), 45 (20 away); of 10: 0, 25; of 0: 10, 25. Only 25 has 45.
    assert found.first.tolist() == [[1, 2, 3], [2, 1, 0]]
    assert found.second.tolist() == [[[0, 2], [1, 3], [2, 1]], [[1, 3], [0, 2], [1, 2]]]
    torch.testing.assert_close(found.first_weights, torch.tensor([[1.0, 0.1, 0.1], [1.0, 0.1, 0.1]]))
    torch.testing.assert_close(found.second_weights, torch.full((2, 3, 2), 0.1))


def test_a_row_leaves_itself_out_by_number_among_equal_rows() -> None:
    bank = at(0, 0, 0, 90)
    for row in range(3):
        found = find_neighbors(torch.tensor([row]), bank, NrcConfig(num_neighbors=2))
        assert set(found.first[0].tolist()) == {0, 1, 2} - {row}
        assert row in found.second[0].flatten().tolist()  # it stays among the neighbours of its neighbours
        assert found.first_weights.tolist() == [[1.0, 1.0]]


def test_fewer_rows_than_neighbours() -> None:
    found = find_neighbors(torch.tensor([0]), at(0, 30), NrcConfig())
    assert found.first[0, 0] == 1
    assert found.first_weights.tolist() == [[1.0, 0.0]]  # K is 2 of 2 rows, one of which is itself
    assert found.second_weights[0, 0].tolist() == [pytest.approx(0.1), 0.0]
    assert found.second_weights[0, 1].tolist() == [0.0, 0.0]


def test_rows_near_in_time_are_no_neighbours() -> None:
    places = Places(torch.tensor([0, 0, 0, 1]), torch.tensor([0.0, 0.4, 2.0, 0.1]))
    config = NrcConfig(num_neighbors=2, num_second=1, min_gap=1.0)
    found = find_neighbors(torch.tensor([0]), at(0, 1, 40, 80), config, places)
    assert found.first.tolist() == [[2, 3]]  # the second row is 0.4 s away, the fourth is of another video
    with pytest.raises(ValueError, match=r"nrc.min_gap needs the video and the seconds"):
        find_neighbors(torch.tensor([0]), at(0, 1), config)


def test_the_term_by_hand() -> None:
    p = torch.tensor([[0.8, 0.2]], requires_grad=True)
    scores = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]])
    neighbors = Neighbors(
        torch.tensor([[1, 2]]), torch.tensor([[[0], [1]]]), torch.tensor([[1.0, 0.1]]), torch.full((1, 2, 1), 0.1)
    )
    # p.S1 = 0.74, p.S2 = 0.38; of second neighbours p.S0 = 0.5, p.S1 = 0.74
    # -(0.74 + 0.1 x 0.38 + 0.1 (0.5 + 0.74)) + 0.8 log 0.80001 + 0.2 log 0.20001
    expected = -(0.74 + 0.038 + 0.124) + 0.8 * np.log(0.80001) + 0.2 * np.log(0.20001)
    assert float(neighbor_term(p, scores, neighbors)) == pytest.approx(expected, abs=1e-6)


def test_against_the_form_of_divergences() -> None:
    """sum_k w KL(S_k || p as logits) differs from -sum_k w p.S_k by what has no gradient."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(20, 2, generator=generator, dtype=torch.float64).softmax(dim=1)
    bank = functional.normalize(torch.randn(20, 3, generator=generator, dtype=torch.float64), dim=1)
    rows = torch.arange(5)
    neighbors = find_neighbors(rows, bank, NrcConfig())
    p = logits.softmax(dim=1)
    ours = torch.autograd.grad(neighbor_term(p, scores, neighbors), logits, retain_graph=True)[0]

    def divergence(of: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        repeated = p.view(5, *[1] * (of.dim() - 2), 2).expand_as(of)
        return (functional.kl_div(repeated, of, reduction="none").sum(-1) * weights).flatten(1).sum(1).mean()

    loss = divergence(scores[neighbors.first], neighbors.first_weights)
    loss = loss + divergence(scores[neighbors.second], neighbors.second_weights)
    mean = p.mean(dim=0)
    loss = loss + (mean * (mean + 1e-5).log()).sum()
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], ours)


def adapted(places: Places | None = None, **changes: Any) -> FeatureNetwork:
    torch.manual_seed(0)
    network = FeatureNetwork(4, bottleneck=3)
    config = AdaptationConfig.model_validate({"nrc": changes, "source_free": {"num_epochs": 2, "batch_size": 8}})
    target = Target(torch.randn(20, 4), places=places)
    create_method("nrc", config).adapt(network, target, None, torch.Generator().manual_seed(0), lambda _: None)
    return network


def test_the_classifier_is_trained_too_and_a_gap_changes_what_is_learnt() -> None:
    torch.manual_seed(0)
    fresh, plain = FeatureNetwork(4, bottleneck=3), adapted()
    assert not torch.equal(fresh.classifier.weight, plain.classifier.weight)
    places = Places(torch.zeros(20, dtype=torch.int64), torch.arange(20) / 24)
    assert torch.equal(adapted(places).classifier.weight, plain.classifier.weight)
    assert not torch.equal(adapted(places, min_gap=0.2).classifier.weight, plain.classifier.weight)
