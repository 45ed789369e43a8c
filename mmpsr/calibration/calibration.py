"""Calibration on dev: a temperature per task, a threshold per class, deviations of scores, conformal quantiles.

`mmpsr.calibration.fitting` fits it on labelled dev clips, after training; it is applied to every later prediction. It
changes no weight, and is JSON values of its own.

Shape suffixes: N clips, C classes or traits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import expit, logit, softmax

from mmpsr.calibration.conformal import ConformalFit, Promise, promise
from mmpsr.calibration.reliability import confidences
from mmpsr.config import Config, validate
from mmpsr.decisions import Array, default_thresholds
from mmpsr.tasks import TaskSpec

__all__ = ["Calibration", "Form", "TaskCalibration", "form_of", "logits_of", "with_temperature"]

Form = Literal["softmax", "sigmoid", "score"]

SMALLEST = 1e-12  # probabilities below it count as it, so that logits stay finite


class TaskCalibration(Config):
    """What dev says about one task's predictions."""

    form: Form
    """What the predictions are."""
    num_clips: int
    """Labelled dev clips it was fitted on."""
    temperature: float = Field(default=1.0, gt=0.0)
    """Divisor of the logits."""
    thresholds: tuple[float, ...] | None = None
    """Probability from which each class is decided (see `mmpsr.probabilities`), or None for the default."""
    deviations: tuple[float | None, ...] | None = None
    """Root mean square residual of each trait of a regression; None where dev has no label of it."""
    losses: tuple[float, float] | None = None
    """Mean negative log-likelihood before and after."""
    errors: tuple[float, float] | None = None
    """Expected calibration error (15 bins of equal mass) before and after."""
    notes: tuple[str, ...] = ()
    """What could not be fitted, and why."""

    @model_validator(mode="before")
    @classmethod
    def _pass_over_points(cls, tree: Any) -> Any:
        """Leave out the coverages that earlier versions stored and nothing read."""
        if isinstance(tree, Mapping) and "points" in tree:
            return {name: value for name, value in tree.items() if name != "points"}
        return tree


class Calibration(Config):
    """How a model's predictions are to be corrected, decided and doubted; tasks it does not know stay as they are."""

    tasks: dict[str, TaskCalibration] = Field(default_factory=dict)
    """By task."""
    conformal: dict[str, dict[str, tuple[ConformalFit, ...]]] = Field(default_factory=dict)
    """By task and corpus, what sets and intervals that are promised to hold the truth are made from; a fit a class of
    several labels, a trait, or a task of one label. Empty where it was calibrated before these were stored."""

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any], source: str = "calibration") -> Calibration:
        """Read what `to_dict` gave.

        Raises:
            ConfigError: a value is missing, unknown or not allowed; `source` is named.
        """
        return validate(cls, tree, source)

    def to_dict(self) -> dict[str, Any]:
        """Give JSON values."""
        return self.model_dump(mode="json")

    def without_thresholds(self) -> Calibration:
        """Give the same with default decisions."""
        tasks = {task: fitted.model_copy(update={"thresholds": None}) for task, fitted in self.tasks.items()}
        return self.model_copy(update={"tasks": tasks})

    def promise(self, task: str, spec: TaskSpec, level: float, corpora: Iterable[str] | None = None) -> Promise:
        """Tell what is promised of a task's sets or intervals, see `mmpsr.calibration.conformal.promise`."""
        return promise(self.conformal, task, spec, level, corpora)

    def apply(self, task: str, probabilities_NC: Array) -> Array:
        """Calibrate probabilities `[N, C]`; scores of a regression stay as they are, and NaN stays NaN."""
        fit = self.tasks.get(task)
        return probabilities_NC if fit is None else with_temperature(probabilities_NC, fit.form, fit.temperature)

    def apply_all(self, predicted: Mapping[str, Array]) -> dict[str, Array]:
        """Calibrate probabilities or scores of all tasks."""
        return {task: self.apply(task, values) for task, values in predicted.items()}

    def thresholds(self, task: str) -> Array | None:
        """Give those of `mmpsr.metrics.definitions.evaluate` and `mmpsr.probabilities`, `[C]`; None for the default."""
        fit = self.tasks.get(task)
        return None if fit is None or fit.thresholds is None else np.array(fit.thresholds)

    def is_calibrated(self, task: str) -> bool:
        """Tell whether a temperature changes the probabilities of a task; one of 1 leaves them as they were."""
        return task in self.tasks and self.tasks[task].temperature != 1.0

    def error(self, task: str) -> float | None:
        """Give the expected calibration error of what is predicted, on the dev clips of the fit; None if not stored."""
        fit = self.tasks.get(task)
        return None if fit is None or fit.errors is None else fit.errors[1]

    def statement(self, task: str, spec: TaskSpec) -> str:
        """Say what the numbers of a task are: calibrated where a temperature was fitted, and with which error on dev.

        Args:
            task: its name.
            spec: the same task.

        Example:
            >>> from mmpsr.tasks import AMBIVALENCE
            >>> Calibration().statement("ambivalence", AMBIVALENCE)
            'Uncalibrated probabilities'
        """
        if spec.kind == "regression":
            return "Scores from 0 to 1"
        fit = self.tasks.get(task)
        if fit is None or not fit.num_clips:
            return "Uncalibrated probabilities"
        value = self.error(task)
        error = "calibration error not stored" if value is None else f"calibration error {value:.1%}"
        facts = f"{error}, {fit.num_clips} dev clips"
        if self.is_calibrated(task):
            return f"Calibrated probabilities (temperature {fit.temperature:.3g}, {facts})"
        limits = default_thresholds(spec)
        is_default = fit.thresholds is None or np.allclose(fit.thresholds, limits)
        return f"Uncalibrated probabilities ({facts})" + ("" if is_default else "; thresholds fitted on dev")

    def abstain(self, task: str, probabilities_NC: Array, spec: TaskSpec, limit: float) -> NDArray[np.bool_]:
        """Mark clips less sure than a limit of confidence, bool `[N]`; rows with NaN are.

        Every clip is judged alone, so the share that is kept is dev's only of clips like dev's.
        """
        return ~(confidences(probabilities_NC, spec, self.thresholds(task)) >= limit)

    def interval(self, task: str, scores_NC: Array, coverage: float = 0.9) -> tuple[Array, Array]:
        """Give the range that holds a regression's true values with this chance, for normal residuals; within [0, 1].

        It is for calibrations from before conformal quantiles were stored, and promises nothing. Traits whose deviation
        is unknown have the whole of [0, 1].
        """
        quantile = NormalDist().inv_cdf((1 + coverage) / 2)
        deviations = self.tasks[task].deviations if task in self.tasks else None
        known = [np.inf if value is None else value for value in deviations or [None] * scores_NC.shape[1]]
        reach_C = quantile * np.array(known)
        return (scores_NC - reach_C).clip(0.0, 1.0), (scores_NC + reach_C).clip(0.0, 1.0)

    def lines(self) -> list[str]:
        """Tell what was found, a line per task and per note."""
        lines = []
        for task, fitted in self.tasks.items():
            text = f"{task}: {fitted.num_clips} dev clips"
            if fitted.losses is not None and fitted.errors is not None:
                text += (
                    f", temperature {fitted.temperature:.3g}, negative log-likelihood {fitted.losses[0]:.4f} -> "
                    f"{fitted.losses[1]:.4f}, calibration error {fitted.errors[0]:.1%} -> {fitted.errors[1]:.1%}"
                )
            lines += [text, *(f"{task}: {note}" for note in fitted.notes)]
        return lines


def form_of(spec: TaskSpec) -> Form:
    """Name what a classification task's probabilities are."""
    return "sigmoid" if spec.is_binary else "softmax"


def logits_of(probabilities_NC: Array, form: Form) -> Array:
    """Find logits that give these probabilities; of a softmax, up to a constant per clip."""
    if form == "softmax":
        return np.log(probabilities_NC.clip(min=SMALLEST))
    return logit(probabilities_NC.clip(SMALLEST, 1 - SMALLEST))


def with_temperature(probabilities_NC: Array, form: Form, temperature: float) -> Array:
    """Divide the logits of probabilities.

        softmax: p'_c = p_c^(1/T) / sum_k p_k^(1/T),   sigmoid: p' = sigmoid(logit(p) / T)

    References:
        Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML 2017.
    """
    if temperature == 1.0:
        return probabilities_NC
    logits_NC = logits_of(probabilities_NC, form) / temperature
    return softmax(logits_NC, axis=1) if form == "softmax" else expit(logits_NC)
