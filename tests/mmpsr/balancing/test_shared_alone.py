"""Balancing beside tasks with trunks of their own: as if these were not there."""

from __future__ import annotations

import pytest
import torch

from mmpsr.balancing.build import create_balancer
from mmpsr.balancing.config import BalancingConfig

BRANCHES = ("supervised", "pseudo")
SHARED = [0, 2]


def keys(*tasks: str) -> list[tuple[str, str]]:
    return [(branch, task) for branch in BRANCHES for task in tasks]


@pytest.mark.parametrize("method", ["gradnorm", "mgda", "dwa", "uncertainty", "equal"])
def test_the_other_tasks_are_balanced_as_if_alone(method: str) -> None:
    config = BalancingConfig(method=method, rate_supervised=0.1, pseudo_weight=0.3)
    both = create_balancer(keys("a", "own", "b"), config, ["own"])
    alone = create_balancer(keys("a", "b"), config)
    generator = torch.Generator().manual_seed(0)
    for step in range(5):
        losses, present = torch.rand(2, 3, generator=generator), torch.rand(2, 3, generator=generator) < 0.8
        gradients, part = None, None
        if both.needs(step) == "norms":
            gradients = torch.rand(2, 3, generator=generator)
            part = gradients[:, SHARED]
        elif both.needs(step) == "gramian":
            flat = torch.randn(6, 9, generator=generator)
            flat[[1, 4]] = 0.0  # what reaches no shared parameter has no gradient there
            gradients = flat @ flat.T
            rows = [0, 2, 3, 5]
            part = gradients[rows][:, rows]
        weights = both.update(losses, present, gradients)
        torch.testing.assert_close(weights[:, SHARED], alone.update(losses[:, SHARED], present[:, SHARED], part))
        assert weights[:, 1].tolist() == [1.0, 0.0]
        if alone.tower_weights is not None:
            torch.testing.assert_close(both.tower_weights[:, SHARED], alone.tower_weights)
            assert both.tower_weights[:, 1].tolist() == [1.0, 0.0]
        both.epoch_ended(losses)
        alone.epoch_ended(losses[:, SHARED])
    assert both.needs(5) == alone.needs(5)
    assert (both.tower_weights is None) == (alone.tower_weights is None)


def test_fixed_weights_hold_for_all_tasks() -> None:
    config = BalancingConfig(method="fixed", weights={"own": 2.0, "b": 3.0}, pseudo_weight=0.5)
    balancer = create_balancer(keys("a", "own", "b"), config, ["own"])
    assert balancer.weights.tolist() == [[1.0, 2.0, 3.0], [0.5, 0.0, 1.5]]


def test_a_checkpoint_holds_the_weights_and_what_they_follow_from() -> None:
    first, second = (create_balancer(keys("a", "own", "b"), BalancingConfig(), ["own"]) for _ in range(2))
    present = torch.ones(2, 3, dtype=torch.bool)
    first.update(torch.rand(2, 3), present, torch.rand(2, 3))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.weights, first.weights)
    losses, norms = torch.rand(2, 3), torch.rand(2, 3)
    assert torch.equal(first.update(losses, present, norms), second.update(losses, present, norms))
