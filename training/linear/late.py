"""The linear baseline of late fusion: a model for each view, weighed out of fold, and prototypes beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor

from mmpsr.decisions import Array
from mmpsr.layers.prototype_bank import PrototypeBank
from mmpsr.metrics.definitions import labeled_rows
from mmpsr.tasks import TaskSpec
from training.class_texts.points import class_points
from training.config import RunConfig
from training.data.joined import JoinedCorpora
from training.linear.baseline import SPREADS, LinearBaseline, standardized
from training.linear.fusion import ViewModels, Weighed

__all__ = ["EXPONENTS", "TEXT_FLOORS", "LateBaseline", "create_baseline", "fitted_bank"]

EXPONENTS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
"""On class weights, where views are weighed: 1 is balanced, 0 as frequent as the classes are."""
TEXT_FLOORS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""What class texts say at least, as a share of what fitted views say (deviation over clips), the highest first."""


class LateBaseline(LinearBaseline):
    """Linear models of single views, fused late; all choices are made out of fold, on training clips.

    Of `EXPONENTS`, and for regression of `SPREADS`, a task takes what gives the highest mean of its metrics on training
    clips by models that were fitted without their groups; a spread only where no metric is below that of the best
    ridge on all columns at once. How near texts are to a class's prototypes (`bank`) is a view that is not fitted, but
    for its weight, the same for all classes. With `linear.text_share` it says so much at least, or, by the rule of one
    standard error, the highest of `TEXT_FLOORS` that costs less than one over folds. A modality that a clip lacks
    counts as the mean of the task's labelled clips.

    References:
        Breiman et al., Classification and Regression Trees, 1984: the rule of one standard error.

    Args:
        joined: all clips.
        tasks: active tasks.
        config: corpora and metrics.
        bank: prototypes of the tasks that have texts, fitted to the training clips.

    Attributes:
        penalties: by task and fitted view.
        shares: by task and view, what the view's model counts.
        factors: by task the exponent of class weights, or the spread of scores.
    """

    def __init__(
        self, joined: JoinedCorpora, tasks: Mapping[str, TaskSpec], config: RunConfig, bank: PrototypeBank | None
    ) -> None:
        self.tasks = {
            task: spec.model_copy(update={"loss": "binary_cross_entropy"}) if spec.kind == "multi_label" else spec
            for task, spec in tasks.items()
        }
        self.joined, self.corpora = joined, config.corpora
        self.text_share = config.linear.text_share
        train = joined.rows(self.corpora.trained(), "train")
        self._inputs = standardized(joined, train)
        self._width = self._inputs.shape[1]
        self._scales = {task: self._scale(task, train.cpu().numpy()) for task in self.tasks}
        columns = [self._inputs]
        if bank is not None:
            with torch.no_grad():
                columns.append(bank(joined.features, joined.presence).cpu().numpy())
        columns.append((~joined.presence).cpu().numpy().astype(np.float32))
        self._inputs = np.concatenate(columns, axis=1)
        ones = np.ones(self._inputs.shape[1] - self._width, dtype=np.float32)
        self._scales = {task: np.concatenate([scale, ones]) for task, scale in self._scales.items()}
        self.penalties: dict[str, Any] = {}
        self.shares: dict[str, dict[str, float]] = {}
        self.factors: dict[str, float] = {}
        self._models = {task: [self._fit_late(task, train, bank)] for task in self.tasks}

    def choices(self) -> dict[str, Any]:
        """Tell penalties, shares and factors."""
        return {"penalties": self.penalties, "shares": self.shares, "factors": self.factors}

    def spreads(self, task: str) -> tuple[float, ...]:
        """List 1 alone: the spread is chosen out of fold, and in the map."""
        del task
        return (1.0,)

    def _fit_late(self, task: str, train: Tensor, bank: PrototypeBank | None) -> tuple[Array, Array]:
        spec, rows = self.tasks[task], train.cpu().numpy()
        labels = self.joined.labels[task].cpu().numpy()[rows].astype(np.float64)
        known = labeled_rows(labels, spec)
        labels, rows = labels[known], rows[known]
        inputs = self._inputs[rows] * self._scales[task]
        places = {} if bank is None else bank.places(task, self._width)
        present = self.joined.presence.cpu().numpy()[rows]
        means = np.zeros(inputs.shape[1])
        for name, has in zip(self._views(), present.T, strict=True):
            for columns in self._columns_of(name, places) if has.any() else ():
                means[columns] = inputs[has, columns].mean(axis=0, dtype=np.float64)
                inputs[~has, columns] = means[columns]
        given = {f"{name} prototypes": inputs[:, place].astype(np.float64) for name, place in places.items()}
        targets = labels
        if spec.kind == "single_label":
            targets = np.eye(spec.num_outputs)[labels.argmax(axis=1)]
        elif spec.kind == "multi_label":
            targets = (labels > 0).astype(np.float64)
        clips = self.joined.clips.iloc[rows]
        groups = [f"{corpus} {group}" for corpus, group in zip(clips["corpus"], clips["group"], strict=True)]
        models = ViewModels(inputs[:, : self._width], targets, groups, self._views(), spec, given)
        numbers = torch.from_numpy(rows).to(train.device)
        weighed, factor = self._choose(task, models, numbers)
        weight, bias = models.fit(weighed)
        whole = np.zeros((spec.num_outputs, self._inputs.shape[1]))
        whole[:, : self._width] = weight
        for view, place in zip(given, places.values(), strict=True):
            share = weighed.shares[models.names.index(view)]
            whole[np.arange(spec.num_outputs), np.arange(place.start, place.stop)] = share
        for index, name in enumerate(self._views()):
            for columns in self._columns_of(name, places):
                whole[:, index - present.shape[1]] += whole[:, columns] @ means[columns]
        if spec.kind == "regression":
            center = self.center(task).astype(np.float64)
            whole, bias = factor * whole, center + factor * (bias - center)
        self.penalties[task], self.factors[task] = models.penalties, factor
        self.shares[task] = dict(zip(models.names, weighed.shares.tolist(), strict=True))
        return whole, bias

    def _choose(self, task: str, models: ViewModels, rows: Tensor) -> tuple[Weighed, float]:
        """Choose the exponent of class weights, or the spread, by metrics out of fold."""
        if self.tasks[task].kind != "regression":
            tried = [models.weigh(exponent) for exponent in EXPONENTS]
            values = [np.nanmean(self._metrics(task, self._outputs(task, each.out_of_fold), rows)) for each in tried]
            best = int(np.argmax(values))
            weighed, exponent = tried[best], EXPONENTS[best]
            return self._with_texts(task, models, weighed, exponent, rows), exponent
        center, weighed = self.center(task), models.weigh()
        ridges = [self._metrics(task, self._outputs(task, center + each), rows) for each in models.by_penalty]
        floor = max(ridges, key=lambda metrics: float(np.nanmean(metrics)))
        highest, spread = -np.inf, 1.0
        for factor in SPREADS:
            scores = center + factor * (weighed.out_of_fold - center)
            metrics = self._metrics(task, self._outputs(task, scores), rows)
            if (metrics >= floor).all() and np.nanmean(metrics) > highest:
                highest, spread = float(np.nanmean(metrics)), factor
        return weighed, spread

    def _with_texts(self, task: str, models: ViewModels, best: Weighed, exponent: float, rows: Tensor) -> Weighed:
        """Let class texts say as much as costs less than a standard error out of fold, where they are to transfer."""
        if self.text_share == 0 or len(models.names) == len(models.penalties):
            return best
        if self.text_share != "one_standard_error":
            return models.raise_given(best, self.text_share, exponent)
        folds = [np.flatnonzero(models.folds == fold) for fold in np.unique(models.folds)]

        def of_folds(weighed: Weighed) -> Array:
            outputs = self._outputs(task, weighed.out_of_fold)
            return np.array([np.nanmean(self._metrics(task, outputs[fold], rows[fold])) for fold in folds])

        values = of_folds(best)
        least = values.mean() - values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else values.mean()
        for floor in TEXT_FLOORS:
            raised = models.raise_given(best, floor, exponent)
            if of_folds(raised).mean() >= least:
                return raised
        return best

    def _views(self) -> dict[str, slice]:
        places, start = {}, 0
        for name, width in self.joined.widths.items():
            places[name] = slice(start, start + width)
            start += width
        return places

    def _columns_of(self, name: str, places: Mapping[str, slice]) -> list[slice]:
        """List the columns of a modality: its own, and those of its prototypes."""
        return [self._views()[name], *([places[name]] if name in places else [])]

    def _outputs(self, task: str, values: NDArray[np.floating]) -> Array:
        """Make probabilities of logits, or clip scores."""
        if self.tasks[task].kind == "regression":
            return values.clip(0.0, 1.0)
        return cast(Array, softmax(values, axis=1) if self.tasks[task].kind == "single_label" else expit(values))

    def _predict(self, models: list[Any], task: str, rows: Tensor) -> Array:
        weight, bias = models[0]
        return self._outputs(task, (self._inputs[rows.cpu().numpy()] * self._scales[task]) @ weight.T + bias)

    def _linear(self, task: str, models: list[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        weight, bias = models[0]
        return (weight * self._scales[task]).astype(np.float32), bias.astype(np.float32)


def fitted_bank(config: RunConfig, joined: JoinedCorpora, tasks: Mapping[str, TaskSpec]) -> PrototypeBank | None:
    """Embed the texts of the tasks that have some; None where none has."""
    points = class_points(config.features, config.data.modalities, tasks)
    if not points:
        return None
    bank = PrototypeBank(points).to(joined.presence.device)
    bank.fit(joined.features, joined.presence, joined.rows(config.corpora.trained(), "train"))
    return bank


def create_baseline(config: RunConfig, joined: JoinedCorpora, tasks: Mapping[str, TaskSpec]) -> LinearBaseline:
    """Fit the linear baseline of a configuration, `linear.fusion`."""
    if config.linear.fusion == "late":
        return LateBaseline(joined, tasks, config, fitted_bank(config, joined, tasks))
    return LinearBaseline(joined, tasks, config.corpora)
