"""Soft targets of independent classes, and likelihoods with a learned deviation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Laplace, Normal
from torch.nn import functional

from mmpsr.batch import Batch, Predictions
from mmpsr.config import validate
from mmpsr.decisions import decide_present
from mmpsr.objective.config import ObjectiveConfig, SemiSupervisionConfig
from mmpsr.objective.objective import Objective
from mmpsr.objective.supervised import balanced_weights, supervised_loss, trained_targets
from mmpsr.probabilities import log_deviations
from mmpsr.tasks import EMOTION, PERSONALITY, TaskSpec
from tests.mmpsr.objective.test_objective import BINARY, NAN, draw, random

GRADED = EMOTION.model_copy(update={"loss": "soft_binary_cross_entropy"})
TWO = TaskSpec(kind="multi_label", classes=("a", "b"), loss="soft_binary_cross_entropy", metrics=())
GAUSSIAN = PERSONALITY.model_copy(update={"loss": "gaussian_nll"})
LAPLACE = PERSONALITY.model_copy(update={"loss": "laplace_nll"})


# ------------------------------------------------------------------------------------------------------- soft targets


def test_soft_targets_rise_with_the_intensity_from_the_floor() -> None:
    intensities = torch.tensor([[0.0, 1 / 3], [2 / 3, 1.0]])
    # 0.5 + 0.5 / 3 = 0.666667, 0.5 + 0.5 * 2 / 3 = 0.833333; with 0.8: 0.8 + 0.2 / 3 = 0.866667, 0.933333.
    torch.testing.assert_close(trained_targets(intensities, TWO), torch.tensor([[0.0, 0.666667], [0.833333, 1.0]]))
    high = TWO.model_copy(update={"presence_floor": 0.8})
    torch.testing.assert_close(trained_targets(intensities, high), torch.tensor([[0.0, 0.866667], [0.933333, 1.0]]))


def test_soft_binary_cross_entropy_by_hand() -> None:
    # Probabilities 0.75 and 0.2; targets 0.5 + 0.5 * 0.5 = 0.75 and 0:
    # -(0.75 ln 0.75 + 0.25 ln 0.25) = 0.562335, -ln 0.8 = 0.223144; the mean is 0.392739. The second row is unknown.
    logits = torch.tensor([[math.log(3.0), math.log(0.25)], [1.0, 1.0]])
    labels = torch.tensor([[0.5, 0.0], [NAN, 1.0]])
    found = supervised_loss(logits, labels, TWO)
    assert (found.total.item(), found.count.item()) == (pytest.approx(0.392739, abs=1e-6), 1)
    # Weights 2 for absent and 4 for present: (0.75 * 4 * 0.287682 + 0.25 * 2 * 1.386294 + 2 * 0.223144) / 2 = 1.001240.
    weights = torch.tensor([[2.0, 2.0], [4.0, 4.0]])
    assert supervised_loss(logits, labels, TWO, weights).total.item() == pytest.approx(1.001240, abs=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_soft_target_is_a_share_of_both_sides(weighted: bool, smoothing: float) -> None:
    predicted, targets, _ = draw(GRADED)
    weights = random(2, 7, seed=2) + 0.5 if weighted else None
    shares = trained_targets(targets, GRADED)
    sides = [
        functional.binary_cross_entropy_with_logits(
            predicted, torch.full_like(predicted, side), None if weights is None else weights[index].expand(40, 7),
            reduction="none",
        )
        for index, side in enumerate((smoothing / 2, 1 - smoothing / 2))
    ]  # fmt: skip
    expected = ((1 - shares) * sides[0] + shares * sides[1]).mean(dim=1).sum()
    torch.testing.assert_close(supervised_loss(predicted, targets, GRADED, weights, smoothing).total, expected)


def test_a_floor_of_one_is_binary_cross_entropy() -> None:
    sure = GRADED.model_copy(update={"presence_floor": 1.0})
    predicted, _, partly = draw(BINARY)
    weights = balanced_weights(partly, BINARY)
    torch.testing.assert_close(balanced_weights(partly, sure), weights)
    hard = supervised_loss(predicted, partly, BINARY, weights, 0.1)
    soft = supervised_loss(predicted, partly, sure, weights, 0.1)
    torch.testing.assert_close(soft.total, hard.total)
    assert torch.equal(soft.count, hard.count)


def test_what_is_fitted_to_soft_targets_decides_for_every_presence_at_one_half() -> None:
    labels = torch.tensor([[0.0, 0.01], [0.3, 0.0], [1.0, 1 / 3], [0.0, 0.0]])
    logits = torch.zeros_like(labels).requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=200)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = supervised_loss(logits, labels, TWO).total
        loss.backward()
        return loss

    optimizer.step(step)
    fitted = torch.sigmoid(logits.detach())
    assert (decide_present(fitted.double().numpy(), TWO) == (labels > 0).numpy()).all()
    assert fitted[2, 0] > fitted[1, 0] > 0.5  # the higher intensity is more surely present
    torch.testing.assert_close(fitted, trained_targets(labels, TWO), atol=0.01, rtol=0)


def test_balanced_weights_count_soft_targets_as_shares() -> None:
    labels = torch.tensor([[1.0, 0.5], [0.0, 0.5], [0.0, 0.0], [0.0, 0.0], [NAN, 1.0]])
    # a: 1 present, 3 absent of 4: 4 / 6, 4 / 2. b: 0.75 + 0.75 = 1.5 present, 2.5 absent: 4 / 5, 4 / 3.
    expected = torch.tensor([[4 / 6, 4 / 5], [2.0, 4 / 3]])
    torch.testing.assert_close(balanced_weights(labels, TWO), expected)


@pytest.mark.parametrize("floor", [0.49, 1.01])
def test_a_floor_below_one_half_could_not_be_decided(floor: float) -> None:
    with pytest.raises(Exception, match="presence_floor"):
        validate(TaskSpec, {**GRADED.model_dump(), "presence_floor": floor}, "test")


# --------------------------------------------------------------------------------------------------------- likelihoods


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    return random(30, 5), random(30, 5, seed=1), log_deviations(4 * random(30, 5, seed=2) - 2)


def test_likelihoods_by_hand() -> None:
    # s - y = 0.1, d = 0.2: ln(0.2 / 0.01) + 0.01 / (2 * 0.04) = 2.995732 + 0.125 = 3.120732.
    # Laplace, b = 0.2 / sqrt 2 and b_0 = 0.01 / sqrt 2: 2.995732 + 0.1 * sqrt 2 / 0.2 = 3.702839.
    scores, labels = torch.full((1, 5), 0.6), torch.tensor([[0.5, NAN, NAN, NAN, NAN]])
    logs = torch.full((1, 5), math.log(0.2))
    found = supervised_loss(scores, labels, GAUSSIAN, log_deviations_BC=logs)
    assert (found.total.item(), found.count.item()) == (pytest.approx(3.120732, abs=1e-5), 1)
    laplace = supervised_loss(scores, labels, LAPLACE, log_deviations_BC=logs)
    assert laplace.total.item() == pytest.approx(3.702839, abs=1e-5)
    # beta = 0.5: times d = 0.2 for the normal, times sqrt b = sqrt 0.141421 for the Laplace distribution.
    half = [
        supervised_loss(scores, labels, spec, log_deviations_BC=logs, beta=0.5).total for spec in (GAUSSIAN, LAPLACE)
    ]
    assert [float(each) for each in half] == pytest.approx([0.624146, 1.392486], abs=1e-5)


@pytest.mark.parametrize("spec", [GAUSSIAN, LAPLACE])
def test_likelihoods_are_torchs_up_to_a_constant(spec: TaskSpec) -> None:
    scores, labels, logs = drawn()
    if spec is GAUSSIAN:
        expected, least = -Normal(scores, logs.exp()).log_prob(labels), math.log(0.01) + math.log(2 * math.pi) / 2
    else:
        expected = -Laplace(scores, logs.exp() / math.sqrt(2)).log_prob(labels)
        least = math.log(2 * 0.01 / math.sqrt(2))
    found = supervised_loss(scores, labels, spec, log_deviations_BC=logs)
    torch.testing.assert_close(found.mean(), expected.mean() - least)


@pytest.mark.parametrize("spec", [GAUSSIAN, LAPLACE])
@pytest.mark.parametrize("outputs", [-200.0, -3.0, 0.0, 200.0])
def test_likelihoods_stay_finite_and_above_zero_with_a_gradient(spec: TaskSpec, outputs: float) -> None:
    scores, raw = torch.full((1, 5), 0.7), torch.full((1, 5), outputs).requires_grad_()
    labels = torch.tensor([[0.7, 0.7, 0.7, 0.7, 0.0]])  # four without an error, for which the likelihood is the highest
    loss = supervised_loss(scores, labels, spec, log_deviations_BC=log_deviations(raw)).total
    loss.backward()
    assert 0.0 <= loss.item() < 1e4
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


@pytest.mark.parametrize(("spec", "plain"), [(GAUSSIAN, "mse"), (LAPLACE, "mae")])
def test_with_beta_one_scores_have_the_gradient_of_the_plain_loss(spec: TaskSpec, plain: str) -> None:
    scores, labels, logs = drawn()
    leaf, other = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    supervised_loss(leaf, labels, spec, log_deviations_BC=logs, beta=1.0).total.backward()
    usual = supervised_loss(other, labels, spec.model_copy(update={"loss": plain})).total
    (usual / 2 if plain == "mse" else usual).backward()
    assert leaf.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(leaf.grad, other.grad)


def test_the_likelihood_is_lowest_at_the_deviation_of_the_errors() -> None:
    # Errors 0.1 and 0.3: root mean square sqrt(0.05) = 0.223607; Laplace: b = mean 0.2, d = sqrt 2 * 0.2 = 0.282843.
    scores, labels = torch.zeros(1, 5), torch.tensor([[0.1, 0.3, NAN, NAN, NAN]])
    for spec, best in ((GAUSSIAN, 0.223607), (LAPLACE, 0.282843)):
        log = torch.tensor(math.log(best)).requires_grad_()
        supervised_loss(scores, labels, spec, log_deviations_BC=log.expand(1, 5)).total.backward()
        assert log.grad is not None
        assert log.grad.item() == pytest.approx(0.0, abs=1e-5)


def test_a_likelihood_needs_deviations_and_others_do_not_read_them() -> None:
    scores, labels, logs = drawn()
    with pytest.raises(ValueError, match="loss 'gaussian_nll' needs the deviations of the scores"):
        supervised_loss(scores, labels, GAUSSIAN)
    plain = supervised_loss(scores, labels, PERSONALITY, log_deviations_BC=logs, beta=0.5)
    assert torch.equal(plain.total, supervised_loss(scores, labels, PERSONALITY).total)


@pytest.mark.parametrize("values", [{"loss": "gaussian_nll"}, {"kind": "regression"}])
def test_likelihoods_fit_regressions_alone(values: dict[str, Any]) -> None:
    tree = {"kind": "single_label", "classes": ("a", "b"), "loss": "cross_entropy", "metrics": (), **values}
    with pytest.raises(Exception, match="does not fit a"):
        validate(TaskSpec, tree, "test")


def test_the_objective_passes_deviations_and_beta_to_both_heads() -> None:
    scores, labels, logs = drawn()
    others, rows = random(30, 5, seed=3), torch.arange(30) < 10
    batch = Batch({"text": torch.zeros(30, 1)}, torch.ones(30, 1, dtype=torch.bool), {"traits": labels})
    config = ObjectiveConfig(nll_beta=0.5, auxiliary_weight=0.25)
    objective = Objective({"traits": GAUSSIAN}, config, {}, SemiSupervisionConfig(method="none"))

    def loss(predicted: Tensor, weights: Tensor | None) -> Tensor:
        return supervised_loss(predicted, labels, GAUSSIAN, None, 0.0, weights, logs, 0.5).total

    alone = objective(Predictions({}, {"traits": scores}, log_deviations={"traits": logs}), batch)
    torch.testing.assert_close(alone["supervised", "traits"].total, loss(scores, None))
    both = objective(Predictions({}, {"traits": scores}, {"traits": others}, rows, {"traits": logs}), batch)
    expected = loss(scores, 1 - 0.25 * rows.float()) + loss(others, 0.25 * rows.float())
    torch.testing.assert_close(both["supervised", "traits"].total, expected)
