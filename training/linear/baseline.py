"""The linear baseline: logistic and ridge regression on the very same features and splits, alone or in a model's path.

A fusion model is worth its name only beside it. Features are centred on the training clips' mean, which absent
modalities are at, and scaled by the training clips' deviation; for a regression by that of its labelled clips, so that
its penalty means the same whatever other corpora are there. Class weights are balanced; penalties are chosen on dev by
the mean of the task's metrics. Test clips choose nothing.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from corpora.registry import CorporaConfig
from mmpsr.layers.by_modality import ByModality
from mmpsr.layers.standardizer import Standardizer
from mmpsr.metrics.definitions import labeled_rows
from mmpsr.models.base import FusionModel, Tower
from mmpsr.tasks import TaskSpec
from training.config import RunConfig
from training.data.joined import JoinedCorpora
from training.scoring.scores import evaluate_rows, predict

__all__ = ["SHARES", "SPREADS", "Blend", "LinearBaseline", "choose_blends", "standardized"]

LOGISTIC_PENALTIES = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)
RIDGE_PENALTIES = (10.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0)
PATH_PENALTIES = (10.0, 100.0, 300.0, 1_000.0, 2_000.0, 3_000.0, 4_500.0, 6_000.0, 10_000.0, 20_000.0)
SPREADS = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 2.0)
"""Factors on a score's distance from the training mean."""
LEAST_DEVIATION = 1e-3  # of a standardised column; one that varies less over a task's clips stays as small as it is
LEAST_DEV_CLIPS = 200  # labelled, for a penalty and a spread to be chosen together; fewer and they fit the noise of dev

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
TOLERANCE = 1e-4  # percent; the model computes in single precision, the baseline in double


class LinearBaseline:
    """One linear model per task.

    Multi-label tasks get one class-balanced logistic regression per class, single-label tasks one multinomial,
    regression a ridge per output, clipped to [0, 1].

    Args:
        joined: all clips.
        tasks: active tasks.
        corpora: which corpora are trained on, and their metrics.

    Attributes:
        tasks: the tasks as this baseline's probabilities are to be decoded.
        penalties: the chosen penalty by task.
    """

    def __init__(self, joined: JoinedCorpora, tasks: Mapping[str, TaskSpec], corpora: CorporaConfig) -> None:
        self.tasks = {
            task: spec.model_copy(update={"loss": "binary_cross_entropy"}) if spec.kind == "multi_label" else spec
            for task, spec in tasks.items()
        }
        self.joined, self.corpora = joined, corpora
        self.penalties: dict[str, Any] = {}
        train, dev = (joined.rows(corpora.trained(), split) for split in ("train", "dev"))
        self._inputs = standardized(joined, train)
        self._scales = {task: self._scale(task, train.cpu().numpy()) for task in self.tasks}
        self._models: dict[str, list[Any]] = {}
        for task, spec in self.tasks.items():
            best = -np.inf
            for penalty in RIDGE_PENALTIES if spec.kind == "regression" else LOGISTIC_PENALTIES:
                models = self._fit(task, train, penalty)
                value = float(np.nanmean(self._metrics(task, self._predict(models, task, dev), dev)))
                if value > best:
                    best, self._models[task], self.penalties[task] = value, models, penalty

    def predict(self, rows: Tensor) -> dict[str, NDArray[np.float64]]:
        """Predict probabilities or scores per task, `[n, C]`, in the order of `rows`."""
        return {task: self._predict(models, task, rows) for task, models in self._models.items()}

    def choices(self) -> dict[str, Any]:
        """Tell what was chosen, for `baseline.json`."""
        return {"penalties": self.penalties}

    def dev_metrics(self, task: str) -> NDArray[np.float64]:
        """Give the baseline's dev metrics of a task on the trained corpora, in the order of `evaluate_rows`."""
        dev = self.joined.rows(self.corpora.trained(), "dev")
        return self._metrics(task, self._predict(self._models[task], task, dev), dev)

    def spreads(self, task: str) -> tuple[float, ...]:
        """List factors that a task's scores may be spread out by: `SPREADS`, or 1 alone for want of dev clips."""
        labels = self.joined.labels[task][self.joined.rows(self.corpora.trained(), "dev")]
        enough = int(torch.isfinite(labels).all(dim=1).sum()) >= LEAST_DEV_CLIPS
        return SPREADS if self.tasks[task].kind == "regression" and enough else (1.0,)

    def path(self, task: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give the linear map that a model's linear path starts from, see `coefficients`.

        For classification it is the baseline's. A ridge with a heavier penalty ranks clips better than it scatters
        them; so for regression it is the ridge that is best on dev once its scores are spread out (by `SPREADS`,
        which the model chooses for itself), among those with which no dev metric falls below the baseline's; the
        baseline's where there are fewer than 200 labelled dev clips.
        """
        if len(spreads := self.spreads(task)) == 1:
            return self.coefficients(task)
        train, dev = (self.joined.rows(self.corpora.trained(), split) for split in ("train", "dev"))
        path, floor, center = self._models[task], self.dev_metrics(task), self.center(task)
        best = float(np.nanmean(floor))
        for penalty in PATH_PENALTIES:
            models = self._fit(task, train, penalty)
            scores = self._predict(models, task, dev)
            for spread in spreads:
                metrics = self._metrics(task, (center + spread * (scores - center)).clip(0.0, 1.0), dev)
                value = float(np.nanmean(metrics))
                if (metrics >= floor).all() and value > best:
                    best, path = value, models
        return self._linear(task, path)

    def center(self, task: str) -> NDArray[np.float32]:
        """Average a task's training labels, `[C]`."""
        labels = self.joined.labels[task][self.joined.rows(self.corpora.trained(), "train")]
        return labels.nanmean(dim=0).cpu().numpy()

    def coefficients(self, task: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give the linear map of standardised features, `[C, D]` and `[C]`: to logits, or to scores for regression.

        A binary single-label task has logits -z/2 and z/2 of its log odds z. A class that no training clip has, or
        that all have, keeps a constant logit of -10 or 10.
        """
        return self._linear(task, self._models[task])

    def _metrics(self, task: str, predicted: NDArray[np.float64], rows: Tensor) -> NDArray[np.float64]:
        figures = evaluate_rows({task: predicted}, self.joined, rows, {task: self.tasks[task]}, self.corpora)
        return np.array([figure.value for figure in figures])

    def _linear(self, task: str, models: list[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        spec = self.tasks[task]
        weight = np.zeros((spec.num_outputs, self._inputs.shape[1]), dtype=np.float32)
        bias = np.full(spec.num_outputs, -10.0, dtype=np.float32)
        if spec.kind == "single_label":
            if isinstance(models[0], int):
                bias[models[0]] = 10.0
                return weight, bias
            classes = models[0].classes_
            if len(classes) == 2:
                weight[classes] = np.concatenate([-models[0].coef_, models[0].coef_]) / 2
                bias[classes] = np.concatenate([-models[0].intercept_, models[0].intercept_]) / 2
            else:
                weight[classes], bias[classes] = models[0].coef_, models[0].intercept_
            return weight * self._scales[task], bias
        for index, model in enumerate(models):
            if isinstance(model, int):
                bias[index] = 10.0 if model else -10.0
            else:
                weight[index], bias[index] = model.coef_.ravel(), np.ravel(model.intercept_)[0]
        return weight * self._scales[task], bias

    def _scale(self, task: str, train: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scale standardised columns, `[D]`: to vary by 1 over a regression's labelled clips.

        A classifier that knows the deviation of its own corpus alone was better there, and worse on others.
        """
        if self.tasks[task].kind != "regression":
            return np.ones(self._inputs.shape[1], dtype=np.float32)
        labeled = train[labeled_rows(self.joined.labels[task].cpu().numpy()[train], self.tasks[task])]
        scales, place = [], 0
        for index, width in enumerate(self.joined.widths.values()):
            present = labeled[self.joined.presence[labeled, index].cpu().numpy()]
            columns = self._inputs[present, place : place + width]
            deviation = columns.std(axis=0, dtype=np.float64) if len(present) else np.zeros(width)
            scales.append(np.divide(1.0, deviation, out=np.ones(width), where=deviation > LEAST_DEVIATION))
            place += width
        return np.concatenate(scales).astype(np.float32)

    def _fit(self, task: str, train: Tensor, penalty: float) -> list[Any]:
        spec, rows = self.tasks[task], train.cpu().numpy()
        targets = self.joined.labels[task].cpu().numpy()[rows]
        labeled = labeled_rows(targets, spec)
        inputs, targets = self._inputs[rows[labeled]] * self._scales[task], targets[labeled]
        if spec.kind == "regression":
            known = [np.isfinite(column) for column in targets.T]
            return [
                Ridge(alpha=penalty).fit(inputs[rows], column[rows])
                for rows, column in zip(known, targets.T, strict=True)
            ]
        columns = [targets.argmax(axis=1)] if spec.kind == "single_label" else list((targets > 0).T)
        return [_logistic(inputs, column, penalty) for column in columns]

    def _predict(self, models: list[Any], task: str, rows: Tensor) -> NDArray[np.float64]:
        spec, inputs = self.tasks[task], self._inputs[rows.cpu().numpy()] * self._scales[task]
        if spec.kind == "regression":
            return np.stack([model.predict(inputs) for model in models], axis=1).clip(0.0, 1.0).astype(np.float64)
        if spec.kind == "multi_label":
            return np.stack([_class_probability(model, inputs, 1) for model in models], axis=1)
        return np.stack([_class_probability(models[0], inputs, label) for label in range(spec.num_outputs)], axis=1)


def _logistic(inputs: NDArray, target: NDArray, penalty: float) -> Any:
    if len(np.unique(target)) < 2:
        return int(target[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=ConvergenceWarning)
        return LogisticRegression(C=1.0 / penalty, class_weight="balanced", max_iter=300).fit(inputs, target)


def _class_probability(model: Any, inputs: NDArray, label: int) -> NDArray[np.float64]:
    if isinstance(model, int):
        return np.full(len(inputs), float(model == label))
    places = np.flatnonzero(model.classes_ == label)
    return model.predict_proba(inputs)[:, places[0]] if len(places) else np.zeros(len(inputs))


def standardized(joined: JoinedCorpora, train: Tensor) -> NDArray[np.float32]:
    """Standardise all modalities by the training rows, concatenated, `[N, D]`; zeros where absent."""
    standardizers = ByModality({name: Standardizer(width) for name, width in joined.widths.items()})
    joined.fit_standardizers(standardizers.to(joined.presence.device), train)
    with torch.no_grad():
        columns = [
            standardizers[name](vectors, joined.presence[:, index]).cpu().numpy()
            for index, (name, vectors) in enumerate(joined.features.items())
        ]
    return np.concatenate(columns, axis=1)


class Blend(NamedTuple):
    """The network's share beside a linear path, and the spread of scores, 1 for other tasks."""

    share: float
    spread: float


def choose_blends(
    model: FusionModel, joined: JoinedCorpora, config: RunConfig, baseline: LinearBaseline
) -> dict[str, Blend]:
    """Set how every task with a linear path combines it with the network: the best on dev that costs no dev metric.

    One epoch is best for all tasks together, so the network may by then have overfitted one of them; and scores fitted
    to small errors vary less than the truth, which concordance punishes. Of `SHARES` and the baseline's `spreads`, a
    task takes what gives the highest mean of its dev metrics, where no dev metric is below the linear baseline's; of
    all where that cannot be had. Tasks without a linear path keep the whole network.

    Args:
        model: with its best weights; changed in place.
        joined: all clips.
        config: corpora and their metrics.
        baseline: linear models of the same features.

    Returns:
        What was chosen, by task.
    """
    rows = joined.rows(config.corpora.trained(), "dev")
    towers = {task: cast(Tower, model.towers[task]) for task in model.linear_paths}
    tasks = {task: model.tasks[task] for task in towers}
    values: dict[str, dict[Blend, NDArray[np.float64]]] = {task: {} for task in towers}
    spreads = {task: baseline.spreads(task) for task in towers}
    tried = max(spreads.values(), key=len, default=())
    for blend in itertools.starmap(Blend, itertools.product(SHARES, tried)):
        changed = [task for task in towers if blend.spread in spreads[task]]
        for task in changed:
            _set_blend(towers[task], blend)
        of_changed = {task: tasks[task] for task in changed}
        figures = evaluate_rows(predict(model, joined, rows), joined, rows, of_changed, config.corpora)
        for task in changed:
            values[task][blend] = np.array([figure.value for figure in figures if figure.task == task])
    best: dict[str, Blend] = {}
    for task, metrics in values.items():
        floor = baseline.dev_metrics(task)
        allowed = [blend for blend, reached in metrics.items() if (reached >= floor - TOLERANCE).all()]
        best[task] = max(allowed or metrics, key=lambda blend: float(np.nanmean(metrics[blend])))
        _set_blend(towers[task], best[task])
    return best


def _set_blend(tower: Tower, blend: Blend) -> None:
    tower.share.fill_(blend.share)
    if tower.regression:
        tower.spread.fill_(blend.spread)
