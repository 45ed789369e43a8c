"""Metrics of the corpora, each with its published definition, on numpy arrays.

Targets are `[N, C]`, float, of labelled clips only; predictions are the probabilities or scores of
`mmpsr.probabilities`. All metrics are percentages: higher is better, 100 is best. Those that decide do so with the
default thresholds of `mmpsr.probabilities` where no others are given; thresholds of a multi-label task say what is
present, so that its single-label metrics take the most probable class whatever they are.

Shape suffixes: N clips, C classes or traits.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmpsr.decisions import Array, decide_classes, decide_present
from mmpsr.tasks import TaskSpec

__all__ = ["METRICS", "Metric", "evaluate", "labeled_rows"]


class Metric(Protocol):
    """A figure of labelled clips."""

    def __call__(self, targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None) -> float:
        """Map targets `[N, C]`, predictions `[N, C]`, the task and thresholds `[C]` to a percentage."""


def labeled_rows(targets_NC: Array, spec: TaskSpec) -> NDArray[np.bool_]:
    """Mark rows with a label: all classes known, or for regression any trait."""
    known = np.isfinite(targets_NC)
    return known.any(axis=1) if spec.kind == "regression" else known.all(axis=1)


def _scored(
    targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Mark where each scored class (not neutral) is present (intensity > 0), and where it is decided, `[N, C]`."""
    scored = [index for index, name in enumerate(spec.classes) if name != spec.neutral]
    return targets[:, scored] > 0, decide_present(predicted, spec, thresholds)[:, scored]


def _f1(right: NDArray, actual: NDArray, decided: NDArray) -> Array:
    """Compute F1 of clips right in, truly of and decided as each class; 0 of a class that is neither."""
    either = np.asarray(actual + decided, dtype=np.float64)
    return np.divide(2.0 * right, either, out=np.zeros_like(either), where=either > 0)


def _f1_of_presence(present_NC: NDArray[np.bool_], decided_NC: NDArray[np.bool_]) -> tuple[Array, NDArray[np.int64]]:
    """Compute F1 of each class's absence and presence, and count the clips of both, `[2, C]` each."""
    right, actual, decided = (
        np.stack([(~first & ~second).sum(axis=0), (first & second).sum(axis=0)])
        for first, second in ((present_NC, decided_NC), (present_NC, present_NC), (decided_NC, decided_NC))
    )
    return _f1(right, actual, decided), actual


def _f1_by_class(actual_N: NDArray[np.int64], decided_N: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64]]:
    """Compute F1 of each class that occurs in either, and count its clips, both by rising class."""
    num_classes = int(max(actual_N.max(), decided_N.max())) + 1
    cells = np.bincount(actual_N * num_classes + decided_N, minlength=num_classes**2).reshape(num_classes, -1)
    actual, decided = cells.sum(axis=1), cells.sum(axis=0)
    occurs = actual + decided > 0
    return _f1(np.diagonal(cells), actual, decided)[occurs], actual[occurs]


def _f1_of_class(actual: NDArray[np.bool_], decided: NDArray[np.bool_]) -> float:
    return float(_f1((actual & decided).sum(), actual.sum(), decided.sum()))


def multilabel_macro_f1(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None) -> float:
    """Compute macro F1 of CMU-MOSEI (mMF1): per emotion the mean F1 of present and absent, then the mean over emotions.

    mMF1 = mean over emotions of (F1(present) + F1(absent)) / 2,   F1 = 2 TP / (2 TP + FP + FN)
    """
    f1, _ = _f1_of_presence(*_scored(targets, predicted, spec, thresholds))
    return 100 * float(np.mean(f1.mean(axis=0)))


def multilabel_weighted_accuracy(
    targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None
) -> float:
    """Compute weighted accuracy of CMU-MOSEI (mWACC).

        mWACC = mean over emotions of (TP * N / P + TN) / (2 N)

    P positives, N negatives: the mean of sensitivity and specificity. Emotions without either are left out.

    References:
        Zadeh et al.: Multimodal language analysis in the wild: CMU-MOSEI dataset and interpretable dynamic fusion
        graph. ACL 2018.
    """
    values = []
    for present, decided in zip(*(marked.T for marked in _scored(targets, predicted, spec, thresholds)), strict=True):
        positives, negatives = present.sum(), (~present).sum()
        if positives and negatives:
            true_positives, true_negatives = (present & decided).sum(), (~present & ~decided).sum()
            values.append((true_positives * negatives / positives + true_negatives) / (2 * negatives))
    return 100 * float(np.mean(values)) if values else float("nan")


def multilabel_weighted_f1(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None) -> float:
    """Compute weighted F1 of CMU-MOSEI (mWF1): per emotion F1 of present and absent by number of clips, then the mean.

    mWF1 = mean over emotions of (P F1(present) + N F1(absent)) / (P + N)
    """
    f1, counts = _f1_of_presence(*_scored(targets, predicted, spec, thresholds))
    return 100 * float(np.mean(np.average(f1, axis=0, weights=counts)))


def _classes(predicted: Array, spec: TaskSpec, thresholds: Array | None) -> NDArray[np.int64]:
    return decide_classes(predicted, thresholds if spec.kind == "single_label" else None)


def macro_f1(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None) -> float:
    """Average F1 over classes, single label; classes that occur in neither targets nor decisions are left out.

        MF1 = mean over c of F1_c,   F1_c = 2 TP_c / (2 TP_c + FP_c + FN_c)

    For two classes this is BAH's AVGF1.
    """
    actual, decided = decide_classes(targets), _classes(predicted, spec, thresholds)
    return 100 * float(np.mean(_f1_by_class(actual, decided)[0]))


def weighted_f1(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None) -> float:
    """Average F1 over classes with their number of clips as weights, single label.

    WF1 = sum_c N_c F1_c / N
    """
    actual, decided = decide_classes(targets), _classes(predicted, spec, thresholds)
    f1, counts = _f1_by_class(actual, decided)
    return 100 * float(np.average(f1, weights=counts))


def uar(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None) -> float:
    """Compute unweighted average recall over the classes that occur, single label.

    UAR = mean over c of TP_c / N_c
    """
    actual, decided = decide_classes(targets), _classes(predicted, spec, thresholds)
    return 100 * float(np.mean([(decided[actual == c] == c).mean() for c in np.unique(actual)]))


def positive_f1(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None) -> float:
    """Compute F1 of the last class (`present`), single label.

    F1 = 2 TP / (2 TP + FP + FN)
    """
    last = spec.num_outputs - 1
    actual, decided = decide_classes(targets), _classes(predicted, spec, thresholds)
    return 100 * _f1_of_class(actual == last, decided == last)


def negative_f1(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None) -> float:
    """Compute F1 of the first class (`absent`), single label.

    F1 = 2 TN / (2 TN + FP + FN)
    """
    actual, decided = decide_classes(targets), _classes(predicted, spec, thresholds)
    return 100 * _f1_of_class(actual == 0, decided == 0)


def average_precision(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None) -> float:
    """Compute the usual average precision of the last class, over the distinct probabilities.

        AP = sum_k (R_k - R_{k-1}) P_k

    NaN without any clip of the class.
    """
    actual = decide_classes(targets) == spec.num_outputs - 1
    if not actual.any():
        return float("nan")
    order = np.argsort(-predicted[:, -1], kind="stable")
    ends = np.flatnonzero(np.diff(predicted[order, -1], append=-np.inf))  # the last clip of each probability
    right = np.cumsum(actual[order])[ends]
    recall = right / right[-1]
    return 100 * float((np.diff(recall, prepend=0.0) * (right / (ends + 1)))[::-1].sum())


def bah_average_precision(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None) -> float:
    """Compute BAH's own average precision of the last class, which is not scikit-learn's.

        AP = trapezoid over (R(t), P(t)), t = 0, 0.001 ... 0.999

    Decisions are `>= t`; precision is 0 where nothing is predicted.

    References:
        González-González et al.: BAH dataset for ambivalence/hesitancy recognition in videos for behavioural change.
        2025, arXiv:2505.19328.
    """
    from scipy.integrate import trapezoid

    actual = decide_classes(targets) == spec.num_outputs - 1
    if not actual.any():
        return float("nan")
    thresholds = np.arange(1000) / 1000
    decided = predicted[:, -1][None, :] >= thresholds[:, None]
    true_positives = (decided & actual).sum(axis=1)
    precision = true_positives / np.maximum(decided.sum(axis=1), 1)
    recall = true_positives / actual.sum()
    return 100 * float(trapezoid(precision[::-1], recall[::-1]))


def _labeled_traits(targets: Array, predicted: Array) -> list[tuple[Array, Array]]:
    """List targets and predictions of each trait's labelled clips, for traits that have any."""
    known = np.isfinite(targets)
    return [(targets[known[:, c], c], predicted[known[:, c], c]) for c in np.flatnonzero(known.any(axis=0))]


def mean_accuracy(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None) -> float:
    """Compute mean accuracy of First Impressions (mACC), over labelled traits.

        mACC = mean over traits of 1 - mean_clips |x - y|

    References:
        Ponce-López et al.: ChaLearn LAP 2016: first round challenge on first impressions - dataset and results.
        ECCV workshops 2016.
    """
    return 100 * float(np.mean([1 - np.abs(x - y).mean() for x, y in _labeled_traits(targets, predicted)]))


def mean_ccc(targets: Array, predicted: Array, spec: TaskSpec, thresholds: Array | None = None) -> float:
    """Average the concordance correlation coefficients of labelled traits, First Impressions' mean concordance (mCCC).

        CCC = 2 cov / (var_x + var_y + (mean_x - mean_y)^2)

    with population moments; never pooled over traits.

    References:
        Lin: A concordance correlation coefficient to evaluate reproducibility. Biometrics 45, 1989.
    """
    values = []
    for x, y in _labeled_traits(targets, predicted):
        spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
        values.append(2 * ((x - x.mean()) * (y - y.mean())).mean() / spread if spread != 0 else 0.0)
    return 100 * float(np.mean(values))


METRICS: Mapping[str, Metric] = {
    "multilabel_macro_f1": multilabel_macro_f1,
    "multilabel_weighted_accuracy": multilabel_weighted_accuracy,
    "multilabel_weighted_f1": multilabel_weighted_f1,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "uar": uar,
    "positive_f1": positive_f1,
    "negative_f1": negative_f1,
    "average_precision": average_precision,
    "bah_average_precision": bah_average_precision,
    "mean_accuracy": mean_accuracy,
    "mean_ccc": mean_ccc,
}


def evaluate(
    targets_NC: Array, predicted_NC: Array, spec: TaskSpec, names: tuple[str, ...], thresholds_C: Array | None = None
) -> dict[str, float]:
    """Compute metrics of one task over the labelled rows; NaN where no row is labelled, or a probability is no number.

    Args:
        targets_NC: NaN where unknown.
        predicted_NC: probabilities or scores.
        spec: the task.
        names: of `METRICS`.
        thresholds_C: probabilities from which classes are decided; see `mmpsr.probabilities`.

    Raises:
        KeyError: a metric is unknown.
    """
    rows = labeled_rows(targets_NC, spec)
    if not rows.any():
        return dict.fromkeys(names, float("nan"))
    targets, predicted = targets_NC[rows].astype(np.float64), predicted_NC[rows].astype(np.float64)
    if spec.kind != "regression" and np.isnan(predicted).any():  # nothing can be decided
        return dict.fromkeys(names, float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=RuntimeWarning)
        return {name: METRICS[name](targets, predicted, spec, thresholds_C) for name in names}
