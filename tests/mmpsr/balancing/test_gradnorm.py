from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from mmpsr.balancing.build import create_balancer
from mmpsr.balancing.config import BalancingConfig
from mmpsr.balancing.gradnorm import EqualWeights, GradNorm

NAN = float("nan")
ALL = torch.ones(2, 3, dtype=torch.bool)


def create(num_branches: int = 2, num_tasks: int = 3, **values: Any) -> GradNorm:
    return GradNorm(num_branches, num_tasks, BalancingConfig(**values))


def random(shape: tuple[int, ...] = (2, 3), seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) + 0.1


def test_a_step_by_hand() -> None:
    balancer = create(pseudo_weight=0.5, alpha_supervised=1.0, alpha_pseudo=0.5, rate_supervised=0.1, rate_pseudo=0.02)
    assert balancer.weights.tolist() == [[1.0] * 3, [0.5] * 3]
    # Without gradients nothing moves; the losses become L_t0.
    balancer.update(torch.tensor([[2.0, 1.0, 4.0], [1.0, 1.0, 2.0]]), ALL, torch.zeros(2, 3))
    assert balancer.weights.tolist() == [[1.0] * 3, [0.5] * 3]
    # Supervised: L/L0 = (0.5, 1, 0.25), mean 7/12, r = (6/7, 12/7, 3/7). G = g = (3, 1, 2), mean 2, targets
    #   (1.714, 3.429, 0.857), signs (+, -, +): w = 1 - 0.1 (3, -1, 2) = (0.7, 1.1, 0.8), sum 2.6, times 3 / 2.6.
    # Pseudo: L/L0 = (4, 1, 1), mean 2, r = (2, 0.5, 0.5), roots (1.414, 0.707, 0.707). G = 0.5 (2, 2, 6), mean 5/3,
    #   targets (2.357, 1.179, 1.179), signs (-, -, +): w = 0.5 - 0.02 (-2, -2, 6) = (0.54, 0.54, 0.38), sum 1.46,
    #   times 1.5 / 1.46.
    found = balancer.update(
        torch.tensor([[1.0, 1.0, 1.0], [4.0, 1.0, 2.0]]), ALL, torch.tensor([[3.0, 1.0, 2.0], [2.0, 2.0, 6.0]])
    )
    expected = [[0.8076923, 1.2692308, 0.9230769], [0.5547945, 0.5547945, 0.3904110]]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert balancer.num_steps == 2


def expected_step(balancer: GradNorm, losses: Tensor, present: Tensor, norms: Tensor, row: int) -> Tensor:
    """One branch's step by autograd, over the present tasks."""
    here = present[row]
    weights = balancer.weights[row].clone().requires_grad_()
    sizes = (weights * norms[row])[here]
    ratios = (losses[row] / balancer.first_losses[row])[here]
    target = sizes.mean().detach() * (ratios / ratios.mean()) ** (1.0, 0.25)[row]
    (slope,) = torch.autograd.grad((sizes - target).abs().sum(), weights)
    stepped = (weights.detach() - (0.005, 0.004)[row] * slope).clamp(min=1e-3)
    return stepped / stepped.sum() * 3 * (1.0, 0.1)[row]


def test_steps_are_the_derivative_by_autograd() -> None:
    balancer = create()
    balancer.update(random(seed=1), ALL, random(seed=2))
    for step, pattern in enumerate(itertools.product([False, True], repeat=3)):
        present = torch.tensor([pattern, [True, step % 2 == 0, True]])
        if not present.any(dim=1).all():
            continue
        losses, norms = random(seed=step), 5 * random(seed=20 + step)
        expected = torch.stack([expected_step(balancer, losses, present, norms, row) for row in range(2)])
        losses = torch.where(present, losses, 0.0)
        norms = torch.where(present, norms, 0.0)
        torch.testing.assert_close(balancer.update(losses, present, norms), expected)


@pytest.mark.parametrize("renormalize", ["all", "present"])
def test_the_budget_is_kept(renormalize: str) -> None:
    balancer = create(pseudo_weight=0.3, renormalize=renormalize)
    generator = torch.Generator().manual_seed(0)
    for step in range(200):
        present = torch.rand(2, 3, generator=generator) < 0.6
        weights = balancer.update(random(seed=step), present, random(seed=step + 1))
        shared = torch.ones_like(present) if renormalize == "all" else present
        sums = torch.where(shared, weights, 0.0).sum(dim=1)
        some = present.any(dim=1) | (renormalize == "all")
        torch.testing.assert_close(sums[some], torch.tensor([3.0, 0.9])[some])
        assert (weights > 0).all()


def test_absent_tasks_keep_their_weight_up_to_the_budget() -> None:
    balancer = create(num_branches=1, rate_supervised=0.1)
    balancer.update(torch.ones(1, 3), ALL[:1], torch.zeros(1, 3))
    # Present: L/L0 = (1, 3), mean 2, r = (0.5, 1.5); G = (4, 2), mean 3, targets (1.5, 4.5), signs (+, -):
    # w = (1 - 0.4, 1 + 0.2, 1), sum 2.8, times 3 / 2.8. What the absent task reports is not read.
    for absent in (0.0, NAN, 1e30):
        again = create(num_branches=1, rate_supervised=0.1)
        again.load_state_dict(balancer.state_dict())
        present = torch.tensor([[True, True, False]])
        found = again.update(torch.tensor([[1.0, 3.0, absent]]), present, torch.tensor([[4.0, 2.0, absent]]))
        torch.testing.assert_close(found, torch.tensor([[0.6, 1.2, 1.0]]) * 3 / 2.8)


def test_a_batch_without_labels_changes_nothing() -> None:
    balancer = create()
    balancer.update(random(seed=1), ALL, random(seed=2))
    balancer.update(random(seed=3), ALL, random(seed=4))
    before = balancer.weights.clone()
    balancer.update(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 3))
    assert torch.equal(balancer.weights, before)


@pytest.mark.parametrize("value", [NAN, float("inf")])
@pytest.mark.parametrize("of_norms", [False, True])
def test_a_task_that_is_not_finite_counts_as_absent(value: float, of_norms: bool) -> None:
    balancer, other = create(), create()
    for each in (balancer, other):
        each.update(random(seed=1), ALL, random(seed=2))
    losses, norms, present = random(seed=3), random(seed=4), ALL.clone()
    present[0, 1] = False
    expected = other.update(losses, present, norms)
    (norms if of_norms else losses)[0, 1] = value
    assert torch.equal(balancer.update(losses, ALL, norms), expected)
    assert torch.isfinite(balancer.weights).all()


def test_first_losses_are_those_of_the_first_present_finite_step() -> None:
    balancer = create(num_branches=1)
    steps = [
        ([1.0, 9.0, NAN], [True, False, True], [1.0, NAN, NAN]),
        ([2.0, 8.0, float("inf")], [True, False, True], [1.0, NAN, NAN]),
        ([3.0, 5.0, 7.0], [True, True, False], [1.0, 5.0, NAN]),
        ([4.0, 6.0, 2.0], [True, True, True], [1.0, 5.0, 2.0]),
        ([5.0, 7.0, 3.0], [True, True, True], [1.0, 5.0, 2.0]),
    ]
    for losses, present, expected in steps:
        balancer.update(torch.tensor([losses]), torch.tensor([present]), torch.ones(1, 3))
        torch.testing.assert_close(balancer.first_losses, torch.tensor([expected]), equal_nan=True)
        assert torch.isfinite(balancer.weights).all()


def test_weights_stop_at_the_floor() -> None:
    # First step, so r = 1: G = (10, 1, 1), mean 4, signs (+, -, -); w = (1 - 50, 1 + 5, 1 + 5) -> (0.5, 6, 6),
    # sum 12.5, times 3 / 12.5.
    balancer = create(num_branches=1, rate_supervised=5.0, weight_floor=0.5)
    found = balancer.update(torch.ones(1, 3), ALL[:1], torch.tensor([[10.0, 1.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.12, 1.44, 1.44]]))


@pytest.mark.parametrize("renormalize", ["all", "present"])
def test_only_the_published_renormalisation_lets_a_rare_task_collapse(renormalize: str) -> None:
    # 42 % of batches hold no label of task 2, and no gradient moves any weight. Renormalising the present tasks only,
    # the others rise to 1.5 each while task 2 is absent; when it returns, w <- 3 w / (3 + w), so 1/w grows by 1/3 with
    # every return: w = 1 / (1 + K / 3) after K returns, here of about 0.42 * 0.58 * 720 = 175.
    balancer = create(num_branches=1, renormalize=renormalize)
    there = torch.rand(720, generator=torch.Generator().manual_seed(0)) >= 0.42
    there[-1] = True
    returns = int((~there[:-1] & there[1:]).sum())
    for present in there:
        weights = balancer.update(torch.ones(1, 3), torch.tensor([[True, True, present]]), torch.zeros(1, 3))
    assert 150 < returns < 200
    expected = 1.0 if renormalize == "all" else 1 / (1 + returns / 3)
    torch.testing.assert_close(weights[0, 2].item(), expected, rtol=1e-4, atol=0)
    if renormalize == "present":
        assert weights[0, 2] < 0.025


def test_a_restored_balancer_continues_identically() -> None:
    balancer, restored = create(), create()
    for step in range(5):
        balancer.update(random(seed=step), ALL, random(seed=10 + step))
    assert set(balancer.state_dict()) == {"weights", "first_losses", "num_steps"}
    restored.load_state_dict(balancer.state_dict())
    for step in range(5, 10):
        inputs = random(seed=step), ALL, random(seed=10 + step)
        assert torch.equal(balancer.update(*inputs), restored.update(*inputs))
    assert torch.equal(balancer.num_steps, restored.num_steps)
    assert restored.num_steps == 10


def test_branches_are_independent() -> None:
    balancer, other = create(), create()
    for step in range(4):
        losses, norms = random(seed=step), random(seed=10 + step)
        changed = torch.tensor([[0.0], [1.0]]) * random(seed=30 + step)
        found, expected = other.update(losses + changed, ALL, norms + 9 * changed), balancer.update(losses, ALL, norms)
        assert torch.equal(found[0], expected[0])
    assert not torch.equal(found[1], expected[1])


def test_one_branch_with_other_rates() -> None:
    # First step, so r = 1: G = (3, 1), mean 2, signs (+, -): w = (1 - 0.03, 1 + 0.01), sum 1.98, times 2 / 1.98.
    balancer = create(num_branches=1, num_tasks=2, rate_supervised=0.01)
    found = balancer.update(torch.tensor([[0.3, 8.0]]), torch.ones(1, 2, dtype=torch.bool), torch.tensor([[3.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.97, 1.01]]) * 2 / 1.98)


def test_equal_weights_never_move() -> None:
    balancer = EqualWeights(2, 3, BalancingConfig(pseudo_weight=0.25))
    for step in range(3):
        found = balancer.update(random(seed=step), ALL, random(seed=step))
        assert found.tolist() == [[1.0] * 3, [0.25] * 3]
    assert EqualWeights(1, 2, BalancingConfig()).weights.tolist() == [[1.0, 1.0]]


def test_create_balancer() -> None:
    keys = [(branch, task) for branch in ("supervised", "pseudo") for task in "abcd"]
    balancer = create_balancer(keys, BalancingConfig(pseudo_weight=0.0))
    assert isinstance(balancer, GradNorm)
    assert balancer.weights.tolist() == [[1.0] * 4, [0.0] * 4]
    equal = create_balancer(keys[:4], BalancingConfig(method="equal"))
    assert isinstance(equal, EqualWeights)
    assert equal.weights.tolist() == [[1.0] * 4]
    assert (balancer.needs(0), equal.needs(0)) == ("norms", "nothing")


@pytest.mark.parametrize("method", get_args(BalancingConfig.model_fields["method"].annotation))
@pytest.mark.parametrize(("cost", "every"), [("exact", 10), ("last_layer", 10), ("every_k", 3), ("every_k", 1)])
def test_the_configuration_knows_what_the_balancer_needs(method: str, cost: str, every: int) -> None:
    config = BalancingConfig(method=method, cost=cost, every=every)
    balancer = create_balancer([("supervised", "a"), ("supervised", "b")], config)
    assert config.always_needs_gradients == all(balancer.needs(step) != "nothing" for step in range(10))


def test_a_budget_of_zero_stays_zero() -> None:
    balancer = create(pseudo_weight=0.0)
    for step in range(3):
        weights = balancer.update(random(seed=step), ALL, random(seed=9 - step))
    assert weights[1].tolist() == [0.0] * 3
    assert weights[0].sum().item() == pytest.approx(3.0)
