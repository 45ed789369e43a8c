"""Probabilities from logits, decisions from probabilities, and mixtures of predictions."""

from __future__ import annotations

import math

import pytest
import torch

from mmpsr.objective.supervised import LossSum
from mmpsr.probabilities import blend, has_one_class, mixture, probabilities
from mmpsr.tasks import AMBIVALENCE, EMOTION, PERSONALITY, TaskSpec
from tests.mmpsr.objective.test_objective import BINARY, SOFT


def test_probabilities() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    assert probabilities(logits, AMBIVALENCE)[0].tolist() == pytest.approx([0.25, 0.75])
    assert probabilities(logits, BINARY)[0].tolist() == pytest.approx([0.5, 0.75])
    assert probabilities(torch.tensor([[0.3]]), PERSONALITY)[0].tolist() == pytest.approx([0.3])


def test_outputs_are_one_distribution_unless_classes_are_independent() -> None:
    assert all(has_one_class(spec) for spec in (AMBIVALENCE, EMOTION, SOFT))
    assert not has_one_class(BINARY)
    assert not has_one_class(PERSONALITY)


def test_a_mean_of_nothing_is_zero() -> None:
    assert LossSum(torch.tensor(3.0), torch.tensor(4)).mean() == 0.75
    assert LossSum(torch.tensor(0.0), torch.tensor(0)).mean() == 0.0


@pytest.mark.parametrize("spec", [AMBIVALENCE, EMOTION, BINARY, PERSONALITY], ids=["two", "seven", "sigmoid", "scores"])
def test_a_mixture_has_the_mean_probabilities(spec: TaskSpec) -> None:
    torch.manual_seed(0)
    parts = [3 * torch.randn(20, spec.num_outputs, dtype=torch.float64) for _ in range(3)]
    weights = [0.2, 0.5, 0.3]
    expected = sum(weight * probabilities(part, spec) for weight, part in zip(weights, parts, strict=True))
    torch.testing.assert_close(probabilities(mixture(parts, weights, spec), spec), expected, rtol=1e-12, atol=1e-14)


def test_by_hand() -> None:
    even, likely = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 3.0]]).log1p()  # 1/2, 1/2 and 1/5, 4/5
    rows = torch.tensor([True])
    # 0.6 * 0.8 + 0.4 * 0.5 = 0.68
    torch.testing.assert_close(blend(even, likely, rows, 0.6, AMBIVALENCE).exp(), torch.tensor([[0.32, 0.68]]))
    # Sigmoids of 0 and of log 4: 0.5 and 0.8, so that log(0.68 / 0.32) = 0.753772.
    found = blend(torch.zeros(1, 7), torch.full((1, 7), 4.0).log(), rows, 0.6, BINARY)
    torch.testing.assert_close(found, torch.full((1, 7), 0.753772))
    # 0.6 * 0.9 + 0.4 * 0.4 = 0.7
    found = blend(torch.full((1, 5), 0.4), torch.full((1, 5), 0.9), rows, 0.6, PERSONALITY)
    torch.testing.assert_close(found, torch.full((1, 5), 0.7))


@pytest.mark.parametrize("spec", [AMBIVALENCE, BINARY, PERSONALITY], ids=["softmax", "sigmoid", "scores"])
def test_clips_without_an_auxiliary_prediction_keep_theirs(spec: TaskSpec) -> None:
    main, other = torch.randn(2, 3, spec.num_outputs)
    rows = torch.tensor([True, False, True])
    found = blend(main, other, rows, 0.3, spec)
    assert torch.equal(found[1], main[1])
    assert not torch.isclose(found[rows], main[rows]).all(dim=1).any()
    assert torch.equal(blend(main, torch.where(rows[:, None], other, torch.nan), rows, 0.3, spec), found)


@pytest.mark.parametrize("spec", [AMBIVALENCE, BINARY], ids=["softmax", "sigmoid"])
def test_sure_predictions_stay_finite(spec: TaskSpec) -> None:
    sure = torch.full((1, spec.num_outputs), 200.0)
    sure[0, 0] = -200.0
    for parts in ([sure, sure], [sure, -sure]):
        parts = [part.clone().requires_grad_() for part in parts]
        found = mixture(parts, [0.6, 0.4], spec)
        found.sum().backward()
        assert torch.isfinite(found).all()
        assert all(torch.isfinite(part.grad).all() for part in parts)
    assert mixture([sure.bfloat16()], [1.0], spec).dtype == torch.float32
