"""The metrics of `definitions` as functions of sums over clips, so that thousands of resamples cost one product.

Every metric there but one is decided by how many clips are in each cell of a confusion matrix, or by moments; both add
up over clips. (The usual average precision ranks the clips, each of which counts as often as its group.) The values are
the same as those of `METRICS`, which are computed another way.

Shape suffixes: N clips, C classes or traits, K sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmpsr.decisions import Array, decide_classes, decide_present
from mmpsr.metrics.bootstrap import Statistic, of_rows, of_sums
from mmpsr.metrics.definitions import METRICS
from mmpsr.tasks import TaskSpec

__all__ = ["METRIC_SUMS", "MetricSums", "class_statistics", "metric_limits", "metric_statistic"]

Sums = Callable[[Array, Array, TaskSpec, Array | None], Array]

NUM_THRESHOLDS = 1000  # of BAH's average precision
MOST_CELLS = 4_000_000  # of one array, which bounds memory
MOST_ROWS = 4096  # that are added up at a time where rows count several times
SMALLEST_SPREAD = 1e-12  # what rounding leaves of a spread of zero


@dataclass(frozen=True)
class MetricSums:
    """A metric in two steps.

    Attributes:
        sums: targets `[N, C]`, predictions `[N, C]`, task and thresholds to what each clip adds, `[N, K]`.
        figure: sums `[..., K]` to percentages `[...]`.
        by_class: the same of each class, `[..., C]`, where the metric is their mean; NaN of classes that are left out.
            Of several labels only those classes that are scored.
    """

    sums: Sums
    figure: Callable[[Array], Array]
    by_class: Callable[[Array], Array] | None = None


def _mean_of(sums: Sums, by_class: Callable[[Array], Array]) -> MetricSums:
    """Make a metric that is a mean over the classes that have it; NaN where none has."""

    def figure(sums: Array) -> Array:
        values = by_class(sums)
        known = np.isfinite(values)
        return np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1)

    return MetricSums(sums, figure, by_class)


def metric_limits(name: str, is_difference: bool = False) -> tuple[float, float]:
    """Give the least and the most percent that a metric, or the difference of two of its values, can be.

    Example:
        >>> metric_limits("uar"), metric_limits("mean_ccc"), metric_limits("uar", is_difference=True)
        ((0.0, 100.0), (-100.0, 100.0), (-100.0, 100.0))
    """
    least, most = (-100.0 if name == "mean_ccc" else 0.0), 100.0
    return (least - most, most - least) if is_difference else (least, most)


def metric_statistic(
    name: str,
    groups_N: NDArray,
    targets_NC: Array,
    predicted_NC: Array,
    spec: TaskSpec,
    thresholds_C: Array | None,
    counts_N: NDArray[np.integer] | None = None,
) -> Statistic:
    """Make a metric of labelled clips a statistic to resample.

    Args:
        name: of `METRICS`; one that has no sums here is recomputed for every resample.
        groups_N: each clip's group.
        targets_NC: of labelled clips.
        predicted_NC: probabilities or scores.
        spec: the task.
        thresholds_C: probabilities from which classes are decided; see `mmpsr.probabilities`.
        counts_N: how many equal rows each row stands for, as frames of a span that share label and prediction; one
            each where it is left out.
    """
    is_undecided = spec.kind != "regression" and np.isnan(predicted_NC).any()
    if is_undecided or not len(targets_NC):
        return lambda counts_BG: np.full(len(counts_BG), np.nan)
    if name == "average_precision":
        return _average_precision(groups_N, targets_NC, predicted_NC, counts_N)
    if name in METRIC_SUMS and counts_N is not None:
        return _of_counted_sums(METRIC_SUMS[name], groups_N, targets_NC, predicted_NC, spec, thresholds_C, counts_N)
    if name not in METRIC_SUMS:
        metric = METRICS[name]
        if counts_N is not None:
            groups_N, targets_NC, predicted_NC = (
                np.repeat(values, counts_N, axis=0) for values in (groups_N, targets_NC, predicted_NC)
            )
        return of_rows(lambda x, y: metric(x, y, spec, thresholds_C), groups_N, targets_NC, predicted_NC)
    parts = METRIC_SUMS[name]
    return of_sums(parts.figure, groups_N, parts.sums(targets_NC, predicted_NC, spec, thresholds_C))


def _of_counted_sums(
    parts: MetricSums,
    groups_N: NDArray,
    targets_NC: Array,
    predicted_NC: Array,
    spec: TaskSpec,
    thresholds_C: Array | None,
    counts_N: NDArray[np.integer],
) -> Statistic:
    """Add the sums of rows that count several times up by group, a block of rows at a time, which bounds memory."""
    groups_G, codes_N = np.unique(groups_N, return_inverse=True)
    sums_GK = None
    for start in range(0, len(codes_N), MOST_ROWS):
        rows = slice(start, start + MOST_ROWS)
        added = parts.sums(targets_NC[rows], predicted_NC[rows], spec, thresholds_C)
        shares = np.zeros((len(groups_G), len(added)))
        shares[codes_N[rows], np.arange(len(added))] = counts_N[rows]
        sums_GK = shares @ added + (0.0 if sums_GK is None else sums_GK)
    assert sums_GK is not None  # there are rows
    return of_sums(parts.figure, groups_G, sums_GK)


def _average_precision(
    groups_N: NDArray, targets_NC: Array, predicted_NC: Array, counts_N: NDArray[np.integer] | None = None
) -> Statistic:
    """Rank clips for the last class's usual average precision, whose thresholds are their own: no sums are fixed."""
    order = np.argsort(-predicted_NC[:, -1], kind="stable")
    codes = np.unique(groups_N, return_inverse=True)[1][order]
    number = 1.0 if counts_N is None else counts_N[order].astype(np.float64)
    actual = targets_NC.argmax(axis=1)[order] == targets_NC.shape[1] - 1
    ends = np.flatnonzero(np.diff(predicted_NC[order, -1], append=-np.inf))  # the last clip of each probability
    step = max(1, MOST_CELLS // len(codes))

    def values(counts_BG: Array) -> Array:
        pieces = [counts_BG[start : start + step, codes] for start in range(0, len(counts_BG), step)]
        return np.concatenate([area(weights_BN) for weights_BN in pieces])

    def area(weights_BN: Array) -> Array:
        weights_BN = weights_BN * number
        right = np.cumsum(weights_BN * actual, axis=1)[:, ends]
        precision = right / np.maximum(np.cumsum(weights_BN, axis=1)[:, ends], 1)
        with np.errstate(invalid="ignore"):
            return 100 * (np.diff(right, axis=1, prepend=0) * precision).sum(axis=1) / right[:, -1]

    return values


def class_statistics(
    name: str, groups_N: NDArray, targets_NC: Array, predicted_NC: Array, spec: TaskSpec, thresholds_C: Array | None
) -> dict[str, Statistic]:
    """Split by class or trait what a metric is the mean of; empty for metrics that are no such mean. Args as above."""
    parts = METRIC_SUMS.get(name)
    if parts is None or parts.by_class is None:
        return {}
    by_class, sums_NK = parts.by_class, parts.sums(targets_NC, predicted_NC, spec, thresholds_C)
    is_scored = parts.sums is _present_confusion
    names = [label for label in spec.classes if not (is_scored and label == spec.neutral)]

    def of_class(index: int) -> Statistic:
        return of_sums(lambda sums: by_class(sums)[..., index], groups_N, sums_NK)

    return {label: of_class(index) for index, label in enumerate(names)}


def _confusion(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None) -> Array:
    """Put 1 in a single label's cell (actual, decided), `[N, C * C]`."""
    decided = decide_classes(predicted, thresholds if spec.kind == "single_label" else None)
    return np.eye(spec.num_outputs**2)[targets.argmax(axis=1) * spec.num_outputs + decided]


def _present_confusion(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None) -> Array:
    """Count per scored class of several true and false positives, false and true negatives, `[N, 4 * classes]`."""
    scored = [index for index, name in enumerate(spec.classes) if name != spec.neutral]
    actual, decided = (targets > 0)[:, scored], decide_present(predicted, spec, thresholds)[:, scored]
    cells = [actual & decided, ~actual & decided, actual & ~decided, ~actual & ~decided]
    return np.stack(cells, axis=2).reshape(len(targets), -1).astype(np.float64)


def _f1(true: Array, wrong: Array) -> Array:
    """Compute F1 of true positives and the sum of false positives and false negatives; 0 where there is nothing."""
    return 2 * true / np.maximum(2 * true + wrong, 1e-300)


def _class_counts(sums: Array) -> tuple[Array, Array, Array]:
    """Count clips right in, truly of, and decided as each class, each `[..., C]`."""
    num_classes = math.isqrt(sums.shape[-1])
    cells = sums.reshape(*sums.shape[:-1], num_classes, num_classes)
    return np.diagonal(cells, axis1=-2, axis2=-1), cells.sum(axis=-1), cells.sum(axis=-2)


def _class_f1(sums: Array) -> Array:
    right, actual, decided = _class_counts(sums)
    return np.where(actual + decided > 0, 100 * _f1(right, actual + decided - 2 * right), np.nan)


def _weighted_f1(sums: Array) -> Array:
    actual = _class_counts(sums)[1]
    return (actual * np.nan_to_num(_class_f1(sums))).sum(axis=-1) / actual.sum(axis=-1)


def _recall(sums: Array) -> Array:
    right, actual, _ = _class_counts(sums)
    return 100 * right / actual


def _f1_of(place: int) -> Callable[[Array], Array]:
    return lambda sums: np.nan_to_num(_class_f1(sums)[..., place])


def _class_weighted_f1(sums: Array) -> Array:
    true_positives, false_positives, false_negatives, true_negatives = _per_class(sums, 4)
    wrong = false_positives + false_negatives
    positives, negatives = true_positives + false_negatives, true_negatives + false_positives
    weighted = positives * _f1(true_positives, wrong) + negatives * _f1(true_negatives, wrong)
    return 100 * weighted / (positives + negatives)


def _class_macro_f1(sums: Array) -> Array:
    true_positives, false_positives, false_negatives, true_negatives = _per_class(sums, 4)
    wrong = false_positives + false_negatives
    return 50 * (_f1(true_positives, wrong) + _f1(true_negatives, wrong))


def _weighted_accuracy(sums: Array) -> Array:
    true_positives, false_positives, false_negatives, true_negatives = _per_class(sums, 4)
    sensitivity = true_positives / (true_positives + false_negatives)
    return 50 * (sensitivity + true_negatives / (true_negatives + false_positives))


def _per_class(sums: Array, num_kinds: int) -> Array:
    """Put kinds of sums first, `[num_kinds, ..., classes]`."""
    return np.moveaxis(sums.reshape(*sums.shape[:-1], -1, num_kinds), -1, 0)


def _ranked(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None) -> Array:
    """Count, for BAH's average precision, all and true clips at each threshold, and true ones; `[N, 2 T + 1]`."""
    actual = (targets.argmax(axis=1) == spec.num_outputs - 1)[:, None]
    decided = predicted[:, -1:] >= np.arange(NUM_THRESHOLDS) / NUM_THRESHOLDS
    return np.concatenate([decided, decided & actual, actual], axis=1).astype(np.float64)


def _bah_average_precision(sums: Array) -> Array:
    from scipy.integrate import trapezoid

    decided, right = sums[..., :NUM_THRESHOLDS], sums[..., NUM_THRESHOLDS:-1]
    return 100 * trapezoid((right / np.maximum(decided, 1))[..., ::-1], (right / sums[..., -1:])[..., ::-1], axis=-1)


def _errors(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None) -> Array:
    """Give per trait, of clips that have it, 1 and the absolute error, `[N, 2 C]`."""
    known = np.isfinite(targets)
    errors = np.where(known, np.abs(targets - predicted), 0.0)
    return np.stack([known, errors], axis=2).reshape(len(targets), -1)


def _accuracy(sums: Array) -> Array:
    known, errors = _per_class(sums, 2)
    return 100 * (1 - errors / known)


def _moments(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None) -> Array:
    """Give per trait, of clips that have it, 1, x, y, x^2, y^2 and x y around 0.5, `[N, 6 C]`."""
    known = np.isfinite(targets)
    x, y = np.where(known, targets - 0.5, 0.0), np.where(known, predicted - 0.5, 0.0)
    return np.stack([known, x, y, x * x, y * y, x * y], axis=2).reshape(len(targets), -1)


def _ccc(sums: Array) -> Array:
    known, x, y, xx, yy, xy = _per_class(sums, 6)
    mean_x, mean_y = x / known, y / known
    spread = xx / known - mean_x**2 + yy / known - mean_y**2 + (mean_x - mean_y) ** 2
    values = np.where(spread > SMALLEST_SPREAD, 2 * (xy / known - mean_x * mean_y) / spread, 0.0)
    return np.where(known > 0, 100 * values, np.nan)


METRIC_SUMS: Mapping[str, MetricSums] = {
    "multilabel_macro_f1": _mean_of(_present_confusion, _class_macro_f1),
    "multilabel_weighted_accuracy": _mean_of(_present_confusion, _weighted_accuracy),
    "multilabel_weighted_f1": _mean_of(_present_confusion, _class_weighted_f1),
    "macro_f1": _mean_of(_confusion, _class_f1),
    "weighted_f1": MetricSums(_confusion, _weighted_f1),
    "uar": _mean_of(_confusion, _recall),
    "positive_f1": MetricSums(_confusion, _f1_of(-1)),
    "negative_f1": MetricSums(_confusion, _f1_of(0)),
    "bah_average_precision": MetricSums(_ranked, _bah_average_precision),
    "mean_accuracy": _mean_of(_errors, _accuracy),
    "mean_ccc": _mean_of(_moments, _ccc),
}
"""By name in `METRICS`; all but `average_precision`."""
