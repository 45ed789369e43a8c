"""Predictions of a trained model and what they are worth: metrics per corpus, split and task.

Everything here runs the model in evaluation mode on fixed-size batches, so that the figures of training, of the final
evaluation and of later prediction come from the same function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from corpora.clips import label_columns
from corpora.registry import CorporaConfig
from mmpsr.batch import Predictions
from mmpsr.calibration.calibration import Calibration
from mmpsr.metrics.definitions import evaluate, labeled_rows
from mmpsr.models.base import FusionModel
from mmpsr.models.prototype_teacher import PrototypeTeacher
from mmpsr.probabilities import probabilities
from mmpsr.tasks import TaskSpec
from training.data.joined import JoinedCorpora

__all__ = [
    "BATCH", "MetricValue", "dev_mean", "deviations", "embed", "evaluate_rows", "joined_outputs", "predict",
    "prediction_table",
]  # fmt: skip

BATCH = 512
"""Clips that are predicted at a time."""

Predicted = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class MetricValue:
    """One metric of one task on one split of one corpus."""

    corpus: str
    split: str
    task: str
    metric: str
    value: float
    num_clips: int


@torch.no_grad()
def predict(
    model: FusionModel | PrototypeTeacher, joined: JoinedCorpora, rows: Tensor, batch_size: int = BATCH
) -> dict[str, NDArray[np.float64]]:
    """Predict probabilities or scores of clips.

    Args:
        model: any mode; restored afterwards.
        joined: clips on the model's device.
        rows: int64 `[n]`.
        batch_size: clips at a time.

    Returns:
        Per task float64 `[n, C]`: class probabilities, or scores in [0, 1] for regression.
    """
    pieces = list(_predictions(model, joined, rows, batch_size))
    return {task: joined_outputs([each.of(task) for each in pieces], spec) for task, spec in model.tasks.items()}


def joined_outputs(outputs: Sequence[Tensor], spec: TaskSpec) -> NDArray[np.float64]:
    """Join a task's outputs `[b, C]` of batches as probabilities or scores, `[n, C]`."""
    parts = [probabilities(output_BC.float(), spec).cpu() for output_BC in outputs]
    return torch.cat(parts).double().numpy() if parts else np.zeros((0, spec.num_outputs))


@torch.no_grad()
def deviations(
    model: FusionModel, joined: JoinedCorpora, rows: Tensor, batch_size: int = BATCH
) -> dict[str, NDArray[np.float64]]:
    """Predict the standard deviations of scores, of the tasks that a variance head is trained for.

    Args:
        model: any mode; restored afterwards.
        joined: clips on the model's device.
        rows: int64 `[n]`, at least one.
        batch_size: clips at a time.

    Returns:
        Per task float64 `[n, C]`, in units of the score.
    """
    found = list(_predictions(model, joined, rows, batch_size))
    return {
        task: torch.cat([each.log_deviations[task] for each in found]).double().exp().cpu().numpy()
        for task, spec in model.tasks.items()
        if spec.is_heteroscedastic
    }


def _predictions(
    model: FusionModel | PrototypeTeacher, joined: JoinedCorpora, rows: Tensor, batch_size: int
) -> Iterator[Predictions]:
    training = model.training
    model.eval()
    for piece in rows.split(batch_size):
        yield model(joined.batch(piece))
    model.train(training)


@torch.no_grad()
def embed(
    model: FusionModel, joined: JoinedCorpora, rows: Tensor, space: Literal["fused", "inputs"], batch_size: int = BATCH
) -> Tensor:
    """Give clips the vectors that neighbours are found by: fused, or standardised inputs side by side, `[n, D]`.

    Args:
        model: any mode; restored afterwards.
        joined: clips on the model's device.
        rows: int64 `[n]`.
        space: which of both.
        batch_size: clips at a time.
    """
    training = model.training
    model.eval()
    shared = [model.encode(joined.batch(piece)) for piece in rows.split(batch_size)]
    model.train(training)
    return torch.cat([part.inputs if space == "inputs" else model.fused(part) for part in shared])


def evaluate_rows(
    predicted: Predicted,
    joined: JoinedCorpora,
    rows: Tensor,
    tasks: Mapping[str, TaskSpec],
    corpora: CorporaConfig,
    calibration: Calibration | None = None,
) -> list[MetricValue]:
    """Compute metrics by corpus, split and task, of the tasks that a corpus is annotated for.

    Args:
        predicted: per task `[n, C]` in the order of `rows`.
        joined: clips and labels.
        rows: int64 `[n]`.
        tasks: how probabilities are decoded.
        corpora: which metrics each corpus reports.
        calibration: applied to the predictions, and its thresholds to the decisions.
    """
    calibration = calibration or Calibration()
    predicted = calibration.apply_all(predicted)
    numbers = rows.cpu().numpy()
    clips = joined.clips[["corpus", "split"]].iloc[numbers].reset_index(drop=True)
    figures = []
    places_by_key = clips.groupby(["corpus", "split"]).indices
    for key in sorted(places_by_key, key=str):
        (corpus, split), places = map(str, cast(tuple[str, str], key)), places_by_key[key]
        for task, spec in tasks.items():
            targets = joined.labels[task].cpu().numpy()[numbers[places]].astype(np.float64)
            labeled = labeled_rows(targets, spec)
            if not labeled.any():
                continue
            names = corpora.metrics(corpus, task, spec)
            values = evaluate(targets, predicted[task][places], spec, names, calibration.thresholds(task))
            figures += [
                MetricValue(corpus, split, task, name, value, int(labeled.sum())) for name, value in values.items()
            ]
    return figures


def dev_mean(figures: list[MetricValue], trained: tuple[str, ...]) -> float:
    """The figure that epochs are chosen by: over tasks, the mean of each task's dev metrics on the trained corpora."""
    table = pd.DataFrame([figure for figure in figures if figure.split == "dev" and figure.corpus in trained])
    return float(table.groupby("task")["value"].mean().mean())


def prediction_table(
    joined: JoinedCorpora, tasks: Mapping[str, TaskSpec], rows: Tensor | None = None, predicted: Predicted | None = None
) -> pd.DataFrame:
    """Lay out one row per clip: identity, which modalities it had, labels and predictions.

    Columns: `corpus, split, clip_id, group`, `present.<modality>`, and per class `<task>.<class>` (the label, NaN where
    unknown) and, where there are predictions, `predicted.<task>.<class>`.

    Args:
        joined: clips and labels.
        tasks: specifications.
        rows: int64 `[n]`; all clips where it is left out.
        predicted: per task `[n, C]` in the order of `rows`.
    """
    numbers = np.arange(len(joined.clips)) if rows is None else rows.cpu().numpy()
    table = joined.clips[["corpus", "split", "clip_id", "group"]].iloc[numbers].reset_index(drop=True)
    presence = joined.presence.cpu().numpy()[numbers]
    columns: dict[str, NDArray] = {f"present.{name}": presence[:, index] for index, name in enumerate(joined.features)}
    for task, spec in tasks.items():
        labels = joined.labels[task].cpu().numpy()[numbers]
        for index, column in enumerate(label_columns(task, spec)):
            columns[column] = labels[:, index]
            if predicted is not None:
                columns[f"predicted.{column}"] = predicted[task][:, index].astype(np.float32)
    return pd.concat([table, pd.DataFrame(columns)], axis=1)
