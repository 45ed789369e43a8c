"""Metrics from sums: the same values as `mmpsr.metrics.definitions`, for any clips and any repetition of groups."""

from __future__ import annotations

import numpy as np
import pytest

from mmpsr.metrics import sums as metric_sums
from mmpsr.metrics.definitions import METRICS
from mmpsr.metrics.sums import METRIC_SUMS, class_statistics, metric_statistic
from mmpsr.tasks import AMBIVALENCE, EMOTION, PERSONALITY, TaskSpec

Array = np.ndarray
SIGMOIDS = EMOTION.model_copy(update={"loss": "binary_cross_entropy"})
SEVEN = EMOTION.model_copy(update={"kind": "single_label", "neutral": None})
OF_KIND = {
    "single_label": (
        "macro_f1", "weighted_f1", "uar", "positive_f1", "negative_f1", "average_precision", "bah_average_precision",
    ),
    "multi_label": (
        "multilabel_macro_f1", "multilabel_weighted_accuracy", "multilabel_weighted_f1", "macro_f1", "weighted_f1",
        "uar",
    ),
    "regression": ("mean_accuracy", "mean_ccc"),
}  # fmt: skip
CASES = [(spec, name) for spec in (AMBIVALENCE, SEVEN, EMOTION, SIGMOIDS, PERSONALITY) for name in OF_KIND[spec.kind]]


def clips(spec: TaskSpec, seed: int, num_clips: int = 80) -> tuple[Array, Array, Array | None]:
    """Targets, predictions and thresholds with rare classes, ties, and of a regression absent traits."""
    generator = np.random.default_rng(seed)
    if spec.kind == "regression":
        targets = generator.random((num_clips, 5)).round(1)
        targets[generator.random(targets.shape) < 0.3] = np.nan
        targets[:, 4] = np.nan
        return targets, generator.random((num_clips, 5)).round(1), None
    predicted = generator.dirichlet(np.ones(spec.num_outputs), size=num_clips).round(2)
    if spec.kind == "multi_label":
        targets = generator.random((num_clips, 7)) * (generator.random((num_clips, 7)) < 0.2)
        targets[:, 3] = 0.0  # no clip has this class
        return targets, predicted, generator.random(7) * 0.5
    shares = np.arange(1.0, spec.num_outputs + 1)
    shares[2:3] = 0.0
    targets = np.eye(spec.num_outputs)[generator.choice(spec.num_outputs, num_clips, p=shares / shares.sum())]
    return targets, predicted, generator.random(spec.num_outputs) + 0.2


def test_every_metric_has_sums_and_is_tested() -> None:
    assert set(METRIC_SUMS) | {"average_precision"} == {name for _, name in CASES} == set(METRICS)


@pytest.mark.parametrize(("spec", "name"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_values_are_those_of_the_metric(spec: TaskSpec, name: str, seed: int) -> None:
    targets, predicted, own = clips(spec, seed)
    groups = np.random.default_rng(seed).integers(12, size=80)
    counts = np.random.default_rng(seed).integers(3, size=(4, 12)).astype(float)
    for thresholds in (None, own):
        found = metric_statistic(name, groups, targets, predicted, spec, thresholds)(counts)
        for row, value in zip(counts, found, strict=True):
            chosen = np.repeat(np.arange(80), row[groups].astype(int))
            expected = METRICS[name](targets[chosen], predicted[chosen], spec, thresholds)
            assert value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("spec", "name"), CASES)
def test_a_metric_is_the_mean_of_its_classes(spec: TaskSpec, name: str) -> None:
    targets, predicted, thresholds = clips(spec, 3)
    found = class_statistics(name, np.arange(80), targets, predicted, spec, thresholds)
    if name in ("weighted_f1", "positive_f1", "negative_f1", "average_precision", "bah_average_precision"):
        assert found == {}
        return
    assert list(found) == [each for each in spec.classes if each != spec.neutral or "multilabel" not in name]
    values = [statistic(np.ones((1, 80)))[0] for statistic in found.values()]
    assert np.nanmean(values) == pytest.approx(METRICS[name](targets, predicted, spec, thresholds), abs=1e-9)


def test_classes_by_hand() -> None:
    # absent: 2 of 3 right; present: 1 of 2; decided absent 3 times: F1 = 4 / 6 and 2 / 4
    targets, predicted = np.eye(2)[[0, 0, 0, 1, 1]], np.eye(2)[[0, 0, 1, 0, 1]]
    for name, expected in (("uar", [200 / 3, 50]), ("macro_f1", [400 / 6, 50])):
        found = class_statistics(name, np.arange(5), targets, predicted, AMBIVALENCE, None)
        assert [found[each](np.ones((1, 5)))[0] for each in ("absent", "present")] == pytest.approx(expected)


@pytest.mark.parametrize("name", OF_KIND["single_label"])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only(name: str, label: int) -> None:
    targets, predicted = np.eye(2)[[label] * 6], np.repeat([[0.7, 0.3], [0.2, 0.8]], 3, axis=0)
    found = metric_statistic(name, np.arange(6), targets, predicted, AMBIVALENCE, None)(np.ones((1, 6)))
    assert found[0] == pytest.approx(METRICS[name](targets, predicted, AMBIVALENCE, None), nan_ok=True)


def test_average_precision_of_many_resamples_is_made_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, predicted, _ = clips(AMBIVALENCE, 0)
    counts = np.random.default_rng(0).integers(3, size=(7, 80)).astype(float)
    whole = metric_statistic("average_precision", np.arange(80), targets, predicted, AMBIVALENCE, None)(counts)
    monkeypatch.setattr(metric_sums, "MOST_CELLS", 200)  # two resamples at a time
    pieces = metric_statistic("average_precision", np.arange(80), targets, predicted, AMBIVALENCE, None)(counts)
    np.testing.assert_allclose(pieces, whole)


@pytest.mark.parametrize("name", OF_KIND["single_label"])
def test_probabilities_that_are_no_numbers_give_none(name: str) -> None:
    targets, predicted, _ = clips(AMBIVALENCE, 0)
    predicted[3] = np.nan
    found = metric_statistic(name, np.arange(80), targets, predicted, AMBIVALENCE, None)(np.ones((2, 80)))
    assert np.isnan(found).tolist() == [True, True]


def test_constant_predictions_have_no_concordance() -> None:
    targets = np.tile(np.linspace(0.1, 0.9, 5)[:, None], 5)
    for predicted in (np.full((5, 5), 0.3), targets):
        found = metric_statistic("mean_ccc", np.arange(5), targets, predicted, PERSONALITY, None)
        assert found(np.ones((1, 5)))[0] == pytest.approx(0.0 if predicted is not targets else 100.0, abs=1e-9)
        # one clip alone: no spread, and the metric is 0 where both agree
        assert found(np.eye(5)[:1])[0] == pytest.approx(0.0, abs=1e-9)


def test_a_metric_without_sums_is_recomputed_for_every_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, predicted, _ = clips(AMBIVALENCE, 0)
    groups, counts = np.arange(80) % 7, np.random.default_rng(0).integers(1, 3, size=(3, 7)).astype(float)
    expected = metric_statistic("uar", groups, targets, predicted, AMBIVALENCE, None)(counts)
    monkeypatch.delitem(METRIC_SUMS, "uar")  # type: ignore[arg-type]
    found = metric_statistic("uar", groups, targets, predicted, AMBIVALENCE, None)(counts)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(("spec", "name"), CASES)
def test_a_row_that_counts_several_times_is_that_many_rows(
    spec: TaskSpec, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_sums, "MOST_ROWS", 30)  # three blocks
    targets, predicted, own = clips(spec, 3)
    generator = np.random.default_rng(3)
    groups, numbers = generator.choice(list("abcdef"), size=80), generator.integers(4, size=80)
    draws = generator.integers(3, size=(5, 6)).astype(float)
    repeated = [np.repeat(values, numbers, axis=0) for values in (groups, targets, predicted)]
    expected = metric_statistic(name, *repeated, spec, own)(draws)
    found = metric_statistic(name, groups, targets, predicted, spec, own, numbers)(draws)
    assert np.allclose(found, expected, rtol=1e-9, equal_nan=True)


def test_without_rows_there_is_no_value() -> None:
    for name in ("macro_f1", "average_precision", "bah_average_precision"):
        nothing = metric_statistic(name, np.zeros(0), np.zeros((0, 2)), np.zeros((0, 2)), AMBIVALENCE, None)
        assert np.isnan(nothing(np.ones((3, 2)))).all()
