"""Fitting a calibration on dev: temperatures by likelihood, thresholds by macro F1, deviations.

Only labelled clips with finite predictions are used. Nothing is random.

Shape suffixes: N clips, C classes or traits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from mmpsr.calibration.calibration import (
    SMALLEST,
    Calibration,
    Form,
    TaskCalibration,
    form_of,
    logits_of,
    with_temperature,
)
from mmpsr.calibration.reliability import calibration_pairs, reliability_curve, trained_targets
from mmpsr.decisions import Array, default_thresholds, only_neutral
from mmpsr.metrics.definitions import labeled_rows
from mmpsr.tasks import TaskSpec

__all__ = ["fit_calibration", "fit_temperature", "fit_threshold"]

MIN_CLIPS = 5  # of a class and of its absence, below which its threshold stays
LEAST, MOST = 0.1, 10.0  # temperature
BEYOND_CHANCE = 1.92  # nats: half the 95 % point of chi-squared with one degree of freedom


def fit_calibration(
    predicted: Mapping[str, Array], targets: Mapping[str, Array], tasks: Mapping[str, TaskSpec]
) -> Calibration:
    """Fit everything, on dev clips.

    Args:
        predicted: per task `[N, C]`, uncalibrated probabilities or scores.
        targets: per task `[N, C]`, NaN where unknown; only labelled clips with finite predictions are used.
        tasks: specifications.
    """
    fitted = {}
    for task, spec in tasks.items():
        labeled = labeled_rows(targets[task], spec)
        finite = np.isfinite(predicted[task]).all(axis=1)
        rows, notes = labeled & finite, []
        if (labeled & ~finite).any():
            notes.append(f"{(labeled & ~finite).sum()} labelled dev clips have predictions that are no numbers")
        if not rows.any():
            notes.append("no labelled dev clip with a prediction: stays uncalibrated")
        known, values = targets[task][rows].astype(np.float64), predicted[task][rows].astype(np.float64)
        fit = _fit_scores if spec.kind == "regression" else _fit_classes
        fitted[task] = fit(values, known, spec, notes)
    return Calibration(tasks=fitted)


def _fit_scores(scores_NC: Array, targets_NC: Array, spec: TaskSpec, notes: list[str]) -> TaskCalibration:
    columns = [column[np.isfinite(column)] for column in (scores_NC - targets_NC).T]
    deviations = tuple(float(np.sqrt(np.mean(column**2))) if len(column) else None for column in columns)
    return TaskCalibration(form="score", num_clips=len(scores_NC), deviations=deviations, notes=tuple(notes))


def _fit_classes(probabilities_NC: Array, targets_NC: Array, spec: TaskSpec, notes: list[str]) -> TaskCalibration:
    form = form_of(spec)
    if not len(targets_NC):
        return TaskCalibration(form=form, num_clips=0, notes=tuple(notes))
    temperature = fit_temperature(probabilities_NC, targets_NC, spec)
    wanted_NC = trained_targets(targets_NC, spec)
    if not _is_mixed(wanted_NC, form):
        notes.append("dev has one class only: the temperature stays 1")
    calibrated_NC = with_temperature(probabilities_NC, form, temperature)
    thresholds_C = _fit_thresholds(calibrated_NC, targets_NC, spec, notes)
    both = (probabilities_NC, calibrated_NC)
    losses = [_loss(logits_of(values, form), wanted_NC, form) for values in both]
    errors = [reliability_curve(*calibration_pairs(values, targets_NC, spec), bins="mass").error for values in both]
    return TaskCalibration(
        form=form,
        num_clips=len(targets_NC),
        temperature=temperature,
        thresholds=None if thresholds_C is None else tuple(map(float, thresholds_C)),
        losses=(losses[0], losses[1]),
        errors=(errors[0], errors[1]),
        notes=tuple(notes),
    )


def fit_temperature(probabilities_NC: Array, targets_NC: Array, spec: TaskSpec) -> float:
    """Find the temperature up to 10 with the least negative log-likelihood of what the task is trained on.

        T = argmin of NLL(targets; p'(T)), 0.1 <= T <= 10

    The loss is convex in 1/T, so it has one minimum in log T, which a bounded search finds. It is 1 where no other is
    better beyond chance (a likelihood ratio test at 5 %: few clips say little), where the labels hold one class only,
    and where the loss falls down to T = 0.1: then no decision of consequence is wrong, and nothing says how sure the
    model may be.

    Args:
        probabilities_NC: finite.
        targets_NC: of labelled clips, at least one.
        spec: the task, not regression.

    References:
        Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML 2017.
    """
    from scipy.optimize import minimize_scalar

    form = form_of(spec)
    wanted_NC, logits_NC = trained_targets(targets_NC, spec), logits_of(probabilities_NC, form)
    if not _is_mixed(wanted_NC, form):
        return 1.0

    def loss(log_temperature: float) -> float:
        return _loss(logits_NC / np.exp(log_temperature), wanted_NC, form)

    minimum = minimize_scalar(loss, bounds=(np.log(LEAST), np.log(MOST)), method="bounded", options={"xatol": 1e-6})
    num_terms = len(targets_NC) * (spec.num_outputs if form == "sigmoid" else 1)
    is_better = num_terms * (loss(0.0) - minimum.fun) > BEYOND_CHANCE
    temperature = float(np.exp(minimum.x))
    return temperature if is_better and temperature > 1.001 * LEAST else 1.0


def _fit_thresholds(probabilities_NC: Array, targets_NC: Array, spec: TaskSpec, notes: list[str]) -> Array | None:
    """Fit thresholds per class of several labels; of two classes (1 - t, t); None for one of more classes."""
    thresholds_C = default_thresholds(spec)
    if spec.kind == "single_label":
        if spec.num_outputs != 2:
            return None
        scores = probabilities_NC[:, 1] / probabilities_NC.sum(axis=1).clip(min=SMALLEST)
        threshold = _threshold(scores, targets_NC.argmax(axis=1) == 1, 0.5, spec.classes[1], notes)
        return np.array([1 - threshold, threshold])
    silenced = only_neutral(probabilities_NC, spec)
    for c, name in enumerate(spec.classes):
        scores = np.where(silenced & (name != spec.neutral), -1.0, probabilities_NC[:, c])
        thresholds_C[c] = _threshold(scores, targets_NC[:, c] > 0, thresholds_C[c], name, notes)
    return thresholds_C


def _threshold(scores_N: Array, present_N: NDArray[np.bool_], default: float, name: str, notes: list[str]) -> float:
    num_present, num_absent = int(present_N.sum()), int((~present_N).sum())
    if min(num_present, num_absent) >= MIN_CLIPS:
        return fit_threshold(scores_N, present_N, default)
    notes.append(
        f"{name} is present in {num_present} and absent in {num_absent} dev clips, fewer than {MIN_CLIPS} of either: "
        f"its threshold stays {default:.3g}"
    )
    return default


def fit_threshold(scores_N: Array, present_N: NDArray[np.bool_], default: float) -> float:
    """Find the threshold whose decisions `score >= threshold` have the highest mean F1 of presence and absence.

        t = argmax over t of (F1(score >= t) + F1(score < t)) / 2

    That mean is what mMF1 of several labels and macro F1 of two classes are made of; the F1 of presence alone has so
    low a best threshold for rare classes that both fall. The default and the midpoints between neighbouring scores are
    tried, and none that would decide all clips alike. Of equally good ones the nearest to the default is taken.

    Args:
        scores_N: probabilities; a clip below 0 is absent whatever the threshold.
        present_N: the truth.
        default: threshold to keep where no other is better.

    Example:
        >>> fit_threshold(np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, False, True, True]), 0.5)
        0.25
    """
    scores = np.unique(scores_N[scores_N >= 0])
    candidates = np.append((scores[1:] + scores[:-1]) / 2, default)
    positives, negatives = np.sort(scores_N[present_N]), np.sort(scores_N[~present_N])
    missed, rejected = np.searchsorted(positives, candidates), np.searchsorted(negatives, candidates)
    hits, wrong = len(positives) - missed, len(negatives) - rejected
    mistakes = missed + wrong
    presence, absence = (2 * right / (2 * right + mistakes).clip(min=1) for right in (hits, rejected))
    values = presence + absence
    best = candidates[values >= values.max() - 1e-12]
    return float(best[np.abs(best - default).argmin()])


def _is_mixed(wanted_NC: Array, form: Form) -> bool:
    values = wanted_NC if form == "sigmoid" else wanted_NC.argmax(axis=1)
    return bool(values.min() != values.max())


def _loss(logits_NC: Array, wanted_NC: Array, form: Form) -> float:
    """Compute the mean negative log-likelihood: of clips for a softmax, of clips and classes for sigmoids."""
    if form == "softmax":
        return float(-(wanted_NC * log_softmax(logits_NC, axis=1)).sum(axis=1).mean())
    return float((np.logaddexp(0, logits_NC) - wanted_NC * logits_NC).mean())
