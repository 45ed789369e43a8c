import math
from typing import Any

import pytest
import torch

from mmpsr.balancing.base import Balancer
from mmpsr.balancing.build import create_balancer
from mmpsr.balancing.config import BalancingConfig
from mmpsr.config import ConfigError

KEYS = [(branch, task) for branch in ("supervised", "pseudo") for task in ("emotion", "personality")]
ALL = torch.ones(2, 2, dtype=torch.bool)


def create(method: str, **values: Any) -> Balancer:
    return create_balancer(KEYS, BalancingConfig(method=method, **values))


def test_fixed_weights_by_task() -> None:
    balancer = create("fixed", weights={"personality": 3.0}, pseudo_weight=0.5)
    assert balancer.update(torch.ones(2, 2), ALL).tolist() == [[1.0, 3.0], [0.5, 1.5]]
    assert balancer.needs(0) == "nothing"


def test_fixed_weights_of_an_unknown_task() -> None:
    with pytest.raises(ConfigError, match=r"balancing.weights: no task is named 'emotoin'; did you mean 'emotion'"):
        create("fixed", weights={"emotoin": 2.0})


def test_uncertainty_by_hand() -> None:
    balancer = create("uncertainty", pseudo_weight=0.5, rate_supervised=0.1, rate_pseudo=0.2)
    # s = -rate (1 - L): supervised -0.1 (1 - 3) = 0.2 and -0.1 (1 - 0.5) = -0.05; pseudo -0.2 (1 - 2) = 0.2, absent 0.
    present = torch.tensor([[True, True], [True, False]])
    found = balancer.update(torch.tensor([[3.0, 0.5], [2.0, 7.0]]), present)
    expected = [[math.exp(-0.2), math.exp(0.05)], [0.5 * math.exp(-0.2), 0.5]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_uncertainty_tends_to_the_reciprocal_of_the_loss() -> None:
    balancer = create("uncertainty", pseudo_weight=1.0, rate_supervised=0.1, rate_pseudo=0.1)
    losses = torch.tensor([[0.25, 4.0], [1.0, 2.0]])
    for _ in range(400):
        found = balancer.update(losses, ALL)
    torch.testing.assert_close(found, 1 / losses, rtol=1e-3, atol=1e-3)
    for _ in range(5):
        balancer.update(torch.full((2, 2), math.nan), ALL)
    assert torch.isfinite(balancer.weights).all()


def test_rates_of_the_last_two_epochs_by_hand() -> None:
    balancer = create("dwa", pseudo_weight=0.1)
    assert balancer.update(torch.ones(2, 2), ALL).tolist() == [[1.0, 1.0], [pytest.approx(0.1)] * 2]
    balancer.epoch_ended(torch.tensor([[2.0, 1.0], [1.0, math.nan]]))
    torch.testing.assert_close(balancer.weights, torch.tensor([[1.0, 1.0], [0.1, 0.1]]))  # no epoch before it
    balancer.epoch_ended(torch.tensor([[1.0, 1.0], [3.0, 1.0]]))
    # r = (0.5, 1): softmax(0.25, 0.5) = 1 / (1 + e^0.25) = 0.437823 and 0.562177, times 2.
    # pseudo: r = (3, 1 for want of an epoch before): softmax(1.5, 0.5) = 0.731059, 0.268941, times 2 and 0.1.
    expected = torch.tensor([[0.875646, 1.124354], [0.1462117, 0.0537883]])
    torch.testing.assert_close(balancer.weights, expected, rtol=1e-5, atol=1e-6)


def test_random_weights_keep_the_budget_and_follow_the_seed() -> None:
    torch.manual_seed(3)
    first = create("random", pseudo_weight=0.1)
    torch.manual_seed(3)
    second = create("random", pseudo_weight=0.1)
    torch.manual_seed(4)
    third = create("random", pseudo_weight=0.1)
    found = [first.update(torch.ones(2, 2), ALL).clone() for _ in range(5)]
    assert all(torch.equal(one, second.update(torch.ones(2, 2), ALL)) for one in found)
    assert not torch.equal(found[0], third.update(torch.ones(2, 2), ALL))
    assert len({tuple(each.flatten().tolist()) for each in found}) == 5
    for each in found:
        torch.testing.assert_close(each.sum(dim=1), torch.tensor([2.0, 0.2]))
    resumed = create("random")
    resumed.load_state_dict(first.state_dict())
    assert torch.equal(resumed.update(torch.ones(2, 2), ALL), first.update(torch.ones(2, 2), ALL))
