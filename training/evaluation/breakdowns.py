"""Figures broken down: adapted to the labels of new data, aggregated over clips, by subset of modalities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from corpora.registry import CorporaConfig
from mmpsr.calibration.calibration import form_of
from mmpsr.calibration.label_shift import LabelShift
from mmpsr.config import base_of
from training.data.joined import JoinedCorpora
from training.evaluation.cross_corpus import predict_fresh
from training.evaluation.figures import metric_rows
from training.runs.directory import RunError
from training.runs.stored import RunPredictions, TaskSplit
from training.runs.trained import TrainedModel
from training.scoring.rows import AdaptedRow, Estimate, MetricRow, NotAdapted

__all__ = [
    "MIN_CLIPS",
    "adapted_rows",
    "aggregate",
    "aggregated_rows",
    "evaluate_subsets",
    "masked",
    "modality_subsets",
]

MIN_CLIPS = 30  # below which shifts and shares are mostly noise
_SEVERAL = "multilabel_"  # metrics that decide several classes per clip


def adapted_rows(
    parts: Sequence[TaskSplit], linear: Mapping[tuple[str, str, str], TaskSplit], trained: Sequence[str]
) -> Iterator[AdaptedRow | NotAdapted]:
    """Metrics of one class per clip after label-shift adaptation (`LabelShift`), of corpora that were not trained on.

    Predictions are adapted to the very clips that are evaluated; no label is read. Intervals hold what other clips
    would change, with the shift as it is.

    Args:
        parts: labelled clips and what the model says of them.
        linear: the same by the linear baseline, which is adapted likewise; by corpus, split and task.
        trained: corpora that were trained on.

    Yields:
        Rows; or a reason in place of figures where there are too few clips.
    """
    for part in parts:
        metrics = tuple(name for name in part.metrics if not name.startswith(_SEVERAL))
        if part.corpus in trained or part.spec.kind == "regression" or not metrics:
            continue
        if len(part.clips) < MIN_CLIPS:
            yield NotAdapted(*part.place, f"{len(part.clips)} clips, fewer than {MIN_CLIPS}")
            continue
        before = part.figures()
        adapted, shift = _adapt(replace(part, metrics=metrics))
        baseline = linear.get(part.place)
        shares = dict(zip(part.spec.classes, shift.shares.tolist(), strict=True))
        for row in metric_rows(adapted, None if baseline is None else _adapt(baseline)[0]):
            yield AdaptedRow(**vars(row), before=before[row.metric], shares=shares)


def _adapt(part: TaskSplit) -> tuple[TaskSplit, LabelShift]:
    shift = LabelShift.fit(part.predicted, form_of(part.spec))
    return replace(part, predicted=shift.apply(part.predicted), thresholds=None), shift


def aggregate(part: TaskSplit, values: pd.Series) -> TaskSplit:
    """Average clips to the wholes that they belong to, in the order of their names; `clip_id` is the whole's name.

    Args:
        part: clips of one corpus and split.
        values: each clip's whole; clips without one stay for themselves.

    Raises:
        RunError: clips of a whole are of several groups.
    """
    clips = part.clips.assign(clip_id=values.astype("string").fillna(part.clips["clip_id"]).to_numpy())
    several = clips.groupby("clip_id")["group"].nunique()
    if several.gt(1).any():
        raise RunError(
            f"--aggregate: {several.index[several.gt(1)][0]!r} of {part.corpus} has clips of several groups, so that "
            "intervals by group have no meaning; name a column whose values lie within groups"
        )
    codes = pd.factorize(clips["clip_id"], sort=True)[0]
    columns = [f"class{index}" for index in range(part.spec.num_outputs)]
    means, strongest = [
        pd.DataFrame(array, columns=columns).groupby(codes).agg(how).to_numpy()
        for array, how in ((part.predicted, "mean"), (part.targets, "max"))
    ]
    shares = pd.DataFrame(part.targets, columns=columns).groupby(codes).mean().to_numpy()
    if part.spec.kind == "regression":
        targets = shares
    elif part.spec.kind == "multi_label":
        targets = strongest
    else:
        label = np.where(strongest[:, -1] > 0, 1, 0) if part.spec.num_outputs == 2 else shares.argmax(axis=1)
        targets = np.eye(part.spec.num_outputs)[label]
    wholes = clips.assign(code=codes).drop_duplicates("code").sort_values("code").drop(columns="code")
    return replace(part, clips=wholes.reset_index(drop=True), targets=targets, predicted=means)


def aggregated_rows(part: TaskSplit, values: pd.Series) -> Iterator[MetricRow]:
    """Evaluate the wholes, with `num_wholes` beside `num_clips`."""
    whole = aggregate(part, values)
    for row in metric_rows(whole):
        yield replace(row, num_clips=len(part.clips), num_wholes=len(whole.clips))


def modality_subsets(modalities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """List all subsets but the empty one, the largest first; a modality that is left out takes its views with it.

    Example:
        >>> modality_subsets(("video", "text"))
        [('video', 'text'), ('video',), ('text',)]
        >>> modality_subsets(("text", "text.lexica"))
        [('text', 'text.lexica'), ('text',)]
    """
    return [
        chosen
        for size in range(len(modalities), 0, -1)
        for chosen in combinations(modalities, size)
        if all(base_of(name) in chosen or base_of(name) not in modalities for name in chosen)
    ]


def masked(joined: JoinedCorpora, modalities: tuple[str, ...]) -> JoinedCorpora:
    """Hide from clips all other modalities than these."""
    kept = torch.tensor([name in modalities for name in joined.features], device=joined.presence.device)
    return replace(joined, presence=joined.presence & kept)


def evaluate_subsets(
    run: TrainedModel, path: Path, joined: JoinedCorpora, corpora: CorporaConfig, evaluated: RunPredictions
) -> Iterator[MetricRow]:
    """Evaluate each subset, on the clips that have any of its modalities.

    Args:
        run: the model.
        path: its folder.
        joined: the clips with all that they have, on the model's device.
        corpora: which metrics each corpus reports.
        evaluated: the same clips, predicted from all modalities; its calibration is used alike.

    Yields:
        Rows with the subset as `part`, and `num_without`: labelled clips with none of the modalities, which are not
        predicted.
    """
    calibrated_on = evaluated.config.corpora.trained()
    for subset in modality_subsets(run.modalities):
        for part in predict_fresh(run, path, masked(joined, subset), corpora, calibrated_on).parts():
            has_any = part.clips[[f"present.{name}" for name in subset]].any(axis=1).to_numpy(dtype=bool)
            if has_any.any():
                rows = metric_rows(part.take(np.flatnonzero(has_any)))
            else:
                rows = (MetricRow(*part.place, metric, 0, 0, Estimate(None)) for metric in part.metrics)
            for row in rows:
                yield replace(row, part="+".join(subset), num_without=int((~has_any).sum()))
