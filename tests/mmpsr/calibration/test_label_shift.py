"""`LabelShift` against its definition, an optimizer of the same likelihood, and a corpus that was shifted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax

from mmpsr.calibration.label_shift import LabelShift


def sigmoids(num_clips: int = 400, num_classes: int = 4, seed: int = 0) -> np.ndarray:
    return expit(np.random.default_rng(seed).normal(0.3, 1.5, (num_clips, num_classes)))


def test_two_mirrored_clips() -> None:
    """Logits 1, -1 and -1, 1 have mean 0 and deviation 1; by symmetry the shares are halves, so P = sigmoid(2)."""
    found = LabelShift.fit(expit(np.array([[1.0, -1.0], [-1.0, 1.0]])), "sigmoid")
    np.testing.assert_allclose(found.means, 0.0, atol=1e-12)
    np.testing.assert_allclose(found.deviations, 1.0)
    np.testing.assert_allclose(found.shares, 0.5)
    expected = expit(2.0)
    np.testing.assert_allclose(found.apply(expit(np.array([[1.0, -1.0]]))), [[expected, 1 - expected]], atol=1e-12)


def test_shares_maximise_the_likelihood() -> None:
    predicted = sigmoids()
    predicted[:, 1] = expit(2.0 * np.abs(logit(predicted[:, 1])) - 3.0)
    found = LabelShift.fit(predicted, "sigmoid")
    logits = logit(predicted)
    likelihoods = np.exp((logits - logits.mean(axis=0)) / logits.std(axis=0))

    def loss(free: np.ndarray) -> float:
        return -np.log(likelihoods @ softmax(free)).sum()

    best = softmax(
        minimize(loss, np.zeros(4), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20_000}).x
    )
    assert found.shares.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found.shares, best, atol=1e-4)
    assert np.ptp(found.shares) > 0.04  # far from equal shares, which iterations start from


def test_what_shifts_and_stretches_a_class_does_not_matter() -> None:
    predicted = sigmoids()
    moved = expit(logit(predicted) * [1.0, 0.5, 3.0, 2.0] + [1.0, -2.0, 0.0, 4.0])
    expected = LabelShift.fit(predicted, "sigmoid").apply(predicted)
    np.testing.assert_allclose(LabelShift.fit(moved, "sigmoid").apply(moved), expected, atol=1e-6)


def test_classes_that_exclude_each_other() -> None:
    predicted = softmax(np.random.default_rng(0).normal(size=(300, 3)), axis=1)
    found = LabelShift.fit(predicted, "softmax")
    centred = np.log(predicted) - np.log(predicted).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found.means, centred.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.apply(predicted).sum(axis=1), 1.0)


def test_it_decides_a_shifted_corpus_that_the_model_gets_wrong() -> None:
    dice = np.random.default_rng(0)
    actual = dice.choice(3, size=2000, p=[0.6, 0.3, 0.1])
    logits = dice.normal(size=(2000, 3))
    logits[np.arange(2000), actual] += 3.0
    predicted = expit(0.4 * logits + [0.0, 4.0, 0.0])  # to the model, everything is of the second class
    assert (predicted.argmax(axis=1) == actual).mean() < 0.35
    found = LabelShift.fit(predicted, "sigmoid")
    assert (found.apply(predicted).argmax(axis=1) == actual).mean() > 0.85
    assert found.shares.argsort().tolist() == [2, 1, 0]


def test_a_class_that_is_always_the_same_takes_part_with_its_share() -> None:
    predicted = sigmoids()
    predicted[:, 2] = 0.7
    found = LabelShift.fit(predicted, "sigmoid")
    assert found.deviations[2] == 1.0
    assert np.isfinite(found.apply(predicted)).all()


@pytest.mark.parametrize(
    ("predicted", "form", "told"),
    [
        (np.zeros((0, 2)), "softmax", "found 0 clips of form 'softmax'"),
        (np.array([[0.5, np.nan]]), "sigmoid", "found 1 clips of form 'sigmoid', 1 values of them not finite"),
        (np.ones((3, 5)), "score", "of form 'score'"),
    ],
)
def test_what_cannot_be_fitted(predicted: np.ndarray, form: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LabelShift.fit(predicted, form)  # type: ignore[arg-type]
