"""Reliability of probabilities: curves of what came true and their error, confidences, and shares of right decisions.

Shape suffixes: N clips, C classes, K bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmpsr.decisions import Array, decide_classes, decide_present
from mmpsr.tasks import TaskSpec

__all__ = [
    "CONFIDENCE",
    "ReliabilityCurve",
    "calibration_pairs",
    "confidences",
    "correct_shares",
    "reliability_curve",
    "trained_targets",
]

CONFIDENCE = "How sure: the probability of what is decided; of several labels, that of the least sure one"
"""What users are told that `confidences` are."""


@dataclass(frozen=True)
class ReliabilityCurve:
    """Predictions in bins of like probability.

    Attributes:
        counts: int `[K]`, predictions of each bin.
        predicted: `[K]`, their mean probability, NaN in empty bins.
        observed: `[K]`, the share that came true, NaN in empty bins.
    """

    counts: NDArray[np.int64]
    predicted: Array
    observed: Array

    @property
    def error(self) -> float:
        """Expected calibration error, sum_k n_k/N |observed_k - predicted_k|, in [0, 1]; NaN without predictions."""
        if not self.counts.sum():
            return float("nan")
        gaps = np.nan_to_num(np.abs(self.observed - self.predicted))
        return float((self.counts * gaps).sum() / self.counts.sum())


def trained_targets(targets_NC: Array, spec: TaskSpec) -> Array:
    """Turn targets into what the probabilities of a classification task are held against.

    One-hot of the largest target for `cross_entropy`, its distribution for `soft_cross_entropy`, and present (above 0)
    or absent for `binary_cross_entropy`, as in `mmpsr.objective.supervised`. For `soft_binary_cross_entropy` presence,
    too: whatever intensities have taught, a calibrated probability is the share of clips in which the class is present.
    """
    if spec.is_binary:
        return (targets_NC > 0).astype(np.float64)
    if spec.loss == "soft_cross_entropy":
        return targets_NC / targets_NC.sum(axis=1, keepdims=True).clip(min=1e-6)
    return np.eye(targets_NC.shape[1])[targets_NC.argmax(axis=1)]


def calibration_pairs(probabilities_NC: Array, targets_NC: Array, spec: TaskSpec) -> tuple[Array, Array]:
    """Pair probabilities that a calibrated model would keep with what came of them; both flat, in [0, 1].

    Softmax: per clip the top class' probability and its trained target (0 or 1, or a share for `soft_cross_entropy`).
    Sigmoid: each class of each clip.

    Args:
        probabilities_NC: finite.
        targets_NC: of labelled clips.
        spec: the task, not regression.
    """
    wanted_NC = trained_targets(targets_NC, spec)
    if spec.is_binary:
        return probabilities_NC.ravel(), wanted_NC.ravel()
    top = np.arange(len(probabilities_NC)), probabilities_NC.argmax(axis=1)
    return probabilities_NC[top], wanted_NC[top]


def reliability_curve(
    predicted: Array, observed: Array, num_bins: int = 15, bins: Literal["width", "mass"] = "width"
) -> ReliabilityCurve:
    """Bin probabilities and compare them with what came true.

        ECE = sum_k n_k/N |observed_k - predicted_k|, `ReliabilityCurve.error`

    Bins are open below and closed above. Those of equal width divide [0, 1]; those of equal mass are bounded by the
    probabilities' quantiles, equal probabilities staying together. The error of few bins is too small, of many too
    large (each bin's noise counts); equal width leaves most bins nearly empty where a model is sure of everything,
    which equal mass does not.

    Args:
        predicted: probabilities.
        observed: whether or how far each came true, in [0, 1].
        num_bins: K.
        bins: of equal width or of equal mass.

    References:
        Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML 2017.
        Nixon et al.: Measuring calibration in deep learning. CVPR workshops 2019 (equal mass).

    Example:
        >>> curve = reliability_curve(np.array([0.6, 0.8, 0.9]), np.array([1.0, 0.0, 1.0]), num_bins=2)
        >>> curve.counts.tolist(), round(curve.error, 3)
        ([0, 3], 0.1)
    """
    inner = np.linspace(0, 1, num_bins + 1)[1:-1]
    if bins == "mass" and len(predicted):
        inner = np.quantile(predicted, inner)
    places = np.searchsorted(inner, predicted)
    counts = np.bincount(places, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(places, values, num_bins) / counts for values in (predicted, observed)]
    return ReliabilityCurve(counts, *means)


def confidences(probabilities_NC: Array, spec: TaskSpec, thresholds_C: Array | None = None) -> Array:
    """Tell how sure each clip's decisions are, `[N]` in [0, 1]: the probability that is given to what is decided.

        single label: p_d,   several labels: min over present c of p_c,   none present: 1 - max_c p_c

    d is the decided class, by default the most probable one. Of several labels it is the least sure one that is decided
    for, so that no label is less sure than what is said; a mean over classes would praise a doubtful label for the many
    that are absent.

    Raises:
        ValueError: a regression task, whose scores say nothing about their own error.
    """
    if spec.kind == "regression":
        raise ValueError(
            "scores of a regression task hold no confidence: the deviation of its residuals is the same for every clip"
        )
    if spec.kind == "single_label":
        return probabilities_NC[np.arange(len(probabilities_NC)), decide_classes(probabilities_NC, thresholds_C)]
    present = decide_present(probabilities_NC, spec, thresholds_C)
    least = np.where(present | np.isnan(probabilities_NC), probabilities_NC, np.inf).min(axis=1)
    return np.where(present.any(axis=1), least, 1 - probabilities_NC.max(axis=1))


def correct_shares(
    probabilities_NC: Array, targets_NC: Array, spec: TaskSpec, thresholds_C: Array | None = None
) -> Array:
    """Give the share of each labelled clip's decisions that are right, `[N]`: 0 or 1, or over several classes."""
    if spec.kind == "multi_label":
        return (decide_present(probabilities_NC, spec, thresholds_C) == (targets_NC > 0)).mean(axis=1)
    return (decide_classes(probabilities_NC, thresholds_C) == targets_NC.argmax(axis=1)).astype(np.float64)
