from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from mmpsr.calibration.reliability import (
    calibration_pairs,
    confidences,
    correct_shares,
    reliability_curve,
    trained_targets,
)
from mmpsr.tasks import AMBIVALENCE, EMOTION, PERSONALITY, TaskSpec

MOODS = TaskSpec(kind="multi_label", classes=("calm", "joy", "fear"), loss="cross_entropy", metrics=(), neutral="calm")
SOFT = MOODS.model_copy(update={"loss": "soft_cross_entropy"})
SIGMOID = MOODS.model_copy(update={"loss": "binary_cross_entropy"})
THREE = TaskSpec(kind="single_label", classes=("a", "b", "c"), loss="cross_entropy", metrics=())


def random_softmax(num_clips: int, num_classes: int, seed: int) -> np.ndarray:
    logits = 2 * np.random.default_rng(seed).normal(size=(num_clips, num_classes))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_a_curve_by_hand() -> None:
    # Bins (0, 1/2] and (1/2, 1]: 0.5 and 0.1 lie in the first, 0.6, 0.8 and 1 in the second.
    # First: mean 0.3, true 1/2; second: mean 0.8, true 2/3. Error 2/5 * 0.2 + 3/5 * 2/15 = 0.16.
    predicted, observed = np.array([0.5, 0.6, 0.1, 1.0, 0.8]), np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    curve = reliability_curve(predicted, observed, num_bins=2)
    assert curve.counts.tolist() == [2, 3]
    assert curve.predicted == pytest.approx([0.3, 0.8])
    assert curve.observed == pytest.approx([0.5, 2 / 3])
    assert curve.error == pytest.approx(0.16)
    # By mass: the median 0.6 ends the first: 0.1, 0.5, 0.6 with mean 0.4 and 1/3 true; 0.8, 1 with 0.9 and all true.
    # Error 3/5 * 1/15 + 2/5 * 0.1 = 0.08.
    curve = reliability_curve(predicted, observed, num_bins=2, bins="mass")
    assert curve.counts.tolist() == [3, 2]
    assert curve.error == pytest.approx(0.08)


def test_empty_bins_and_no_predictions() -> None:
    curve = reliability_curve(np.array([0.9, 0.95]), np.array([1.0, 1.0]), num_bins=4)
    assert curve.counts.tolist() == [0, 0, 0, 2]
    assert np.isnan(curve.predicted).tolist() == [True, True, True, False]
    assert curve.error == pytest.approx(0.075)
    for bins in ("width", "mass"):
        empty = reliability_curve(np.zeros(0), np.zeros(0), bins=bins)  # type: ignore[arg-type]
        assert empty.counts.tolist() == [0] * 15
        assert np.isnan(empty.error)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("bins", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_curves_are_scikit_learns(bins: str, strategy: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    predicted = generator.random(400) ** 3
    observed = (generator.random(400) < predicted).astype(float)
    curve = reliability_curve(predicted, observed, 10, bins)  # type: ignore[arg-type]
    true, mean = calibration_curve(observed, predicted, n_bins=10, strategy=strategy)
    filled = curve.counts > 0
    assert curve.observed[filled] == pytest.approx(true)
    assert curve.predicted[filled] == pytest.approx(mean)
    if bins == "mass":
        assert set(curve.counts) == {40}


@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_torchmetrics(seed: int) -> None:
    probabilities, generator = random_softmax(300, 7, seed), np.random.default_rng(seed)
    labels = generator.integers(0, 7, 300)
    found = reliability_curve(*calibration_pairs(probabilities, np.eye(7)[labels], EMOTION), num_bins=15).error
    expected = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels), 7, n_bins=15)
    assert found == pytest.approx(expected.item(), abs=1e-6)
    present = (generator.random((300, 3)) < 0.3).astype(float)
    found = reliability_curve(*calibration_pairs(probabilities[:, :3], present, SIGMOID), num_bins=15).error
    flat = torch.from_numpy(probabilities[:, :3].ravel()), torch.from_numpy(present.ravel()).long()
    # torchmetrics' binary error compares the share of positives with the probability of presence, as here
    assert found == pytest.approx(binary_calibration_error(*flat, n_bins=15).item(), abs=1e-6)


def test_equal_probabilities_share_a_bin_whatever_their_order() -> None:
    predicted = np.repeat([0.2, 0.7], [50, 10])
    observed = (np.arange(60) % 3 == 0).astype(float)
    plain = reliability_curve(predicted, observed, 5, "mass")
    assert sorted(plain.counts.tolist()) == [0, 0, 0, 10, 50]
    order = np.random.default_rng(0).permutation(60)
    assert reliability_curve(predicted[order], observed[order], 5, "mass").error == pytest.approx(plain.error)
    constant = reliability_curve(np.full(9, 0.4), np.ones(9), 5, "mass")
    assert constant.counts.tolist() == [9, 0, 0, 0, 0]
    assert constant.error == pytest.approx(0.6)


def test_trained_targets_by_loss() -> None:
    targets = np.array([[0.0, 0.3, 0.1], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert trained_targets(targets, MOODS).tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert trained_targets(targets, SOFT) == pytest.approx(np.array([[0, 0.75, 0.25], [1, 0, 0], [0, 0, 0]]))
    assert trained_targets(targets, SIGMOID).tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_pairs_by_loss() -> None:
    probabilities, targets = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]), np.array([[0.0, 0.3, 0.1], [1.0, 0.0, 0.0]])
    for spec, expected in (
        (MOODS, ([0.5, 0.6], [0, 1])),
        (SOFT, ([0.5, 0.6], [0.25, 1])),
        (SIGMOID, ([0.2, 0.3, 0.5, 0.6, 0.3, 0.1], [0, 1, 1, 1, 0, 0])),
    ):
        for found, values in zip(calibration_pairs(probabilities, targets, spec), expected, strict=True):
            assert found == pytest.approx(values)


def test_confidences_by_kind_of_task() -> None:
    two = np.array([[0.7, 0.3], [0.2, 0.8]])
    assert confidences(two, AMBIVALENCE).tolist() == [0.7, 0.8]
    # present from 0.25: the first clip is decided present, with 0.3
    assert confidences(two, AMBIVALENCE, np.array([0.75, 0.25])).tolist() == [0.3, 0.8]
    three = np.array([[0.2, 0.3, 0.5], [0.9, 0.45, 0.1]])
    # decided are joy (0.3) alone, and calm (0.9) alone, which at 2/3 silences joy
    assert confidences(three, MOODS, np.array([0.9, 0.1, 0.9])).tolist() == [0.3, 0.9]
    # decided are fear (0.5), and calm (0.9); the many absent classes make neither surer
    assert confidences(three, SIGMOID).tolist() == [0.5, 0.9]
    # joy from 0.4 in the second: the less sure of 0.9 and 0.45
    assert confidences(three, SIGMOID, np.array([0.5, 0.4, 0.5])).tolist() == [0.5, 0.45]
    # none is present: sure of it is 1 less the likeliest, 1 - 0.5 and 1 - 0.9
    assert confidences(three, SIGMOID, np.array([0.95, 0.95, 0.95])) == pytest.approx([0.5, 0.1])
    assert np.isnan(confidences(np.array([[0.9, np.nan, 0.2]]), SIGMOID)).all()
    with pytest.raises(ValueError, match="hold no confidence"):
        confidences(np.zeros((2, 5)), PERSONALITY)


def test_correct_shares_by_kind_of_task() -> None:
    probabilities, targets = np.array([[0.7, 0.3], [0.2, 0.8]]), np.eye(2)[[1, 1]]
    assert correct_shares(probabilities, targets, AMBIVALENCE).tolist() == [0.0, 1.0]
    assert correct_shares(probabilities, targets, AMBIVALENCE, np.array([0.75, 0.25])).tolist() == [1.0, 1.0]
    # Decided joy and fear (from 1/3), true joy: 2 of 3 right; with fear from 0.6, all.
    probabilities, targets = np.array([[0.1, 0.4, 0.5]]), np.array([[0.0, 0.2, 0.0]])
    assert correct_shares(probabilities, targets, MOODS) == pytest.approx([2 / 3])
    assert correct_shares(probabilities, targets, MOODS, np.array([0.3, 0.3, 0.6])) == pytest.approx([1.0])
