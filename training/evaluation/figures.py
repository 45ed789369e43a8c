"""Everything that a finished run's stored predictions say: figures with intervals, by class, by modality, by column.

`training.scoring.rows.plain` makes JSON of such a document; what is undefined is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.clips import CorpusError
from corpora.registry import read_corpora
from mmpsr.calibration.novelty import NOTABLE
from mmpsr.calibration.reliability import calibration_pairs, reliability_curve
from mmpsr.config import nearest
from mmpsr.decisions import decide_classes
from mmpsr.metrics.bootstrap import Bootstrap, bootstrap
from mmpsr.metrics.paired_tests import holm, paired_bootstrap
from mmpsr.metrics.sums import class_statistics, metric_limits
from training.runs.directory import RunError
from training.runs.stored import RunPredictions, System, TaskSplit
from training.scoring.rows import Difference, Estimate, MetricRow

__all__ = [
    "NUM_RESAMPLES",
    "add_holm_correction",
    "column_values",
    "correct_rows",
    "decided_classes",
    "estimate",
    "evaluate_run",
    "finite",
    "linear_parts",
    "metric_rows",
    "of_clips",
    "split_parts",
]

Row = TypeVar("Row", bound=MetricRow)

NUM_RESAMPLES = 2000


def evaluate_run(run: RunPredictions, split: str | None, column: str | None) -> dict[str, Any]:
    """Compute all figures of a run.

    Args:
        run: its stored predictions.
        split: the split, or None for test, and dev of corpora without labelled test clips.
        column: a column of the prediction or clip table by whose values figures are told apart, or None.

    Returns:
        `figures` (beside chance, and the linear baseline where it is stored), `classes`, `presence` (by the modalities
        that clips have), `by` (by the column) and, where it is stored, `novelty` (clips that are unlike the training
        clips and others), all of them `MetricRow`s, `confusion` and `calibration`.

    Raises:
        RunError: the split has no labelled clip, or there is no such column.
    """
    parts = split_parts(run, split)
    linear = linear_parts(run, split)
    document: dict[str, list[Any]] = {
        name: [] for name in ("figures", "classes", "confusion", "calibration", "presence", "by")
    }
    if any(str(name).startswith("novelty.") for name in run.table):
        document["novelty"] = []
    values_by_clip = None if column is None else column_values(run, column, "--by")
    for part in parts:
        for row in metric_rows(part, linear.get(part.place)):
            document["figures"].append(replace(row, chance=finite(part.chance(row.metric))))
        document["classes"] += _classes(part)
        if part.spec.kind != "regression":
            document["confusion"].append(_confusion(part))
            document["calibration"].append(_calibration(part))
        presence = _presence(part.clips)
        if presence.nunique() > 1:
            document["presence"] += _subsets(part, presence)
        if "novelty" in document and (novelty := _novelty(part.clips)).nunique() > 1:
            document["novelty"] += _subsets(part, novelty)
        if values_by_clip is not None:
            document["by"] += _subsets(part, of_clips(part, values_by_clip))
    document["figures"] = correct_rows(document["figures"])
    return {"level": 0.95, "num_resamples": NUM_RESAMPLES, "column": column, **document}


def split_parts(run: RunPredictions, split: str | None, system: System = "model") -> list[TaskSplit]:
    """Take the parts of a split; by default test, and dev of corpora that have no labelled test clip.

    Raises:
        RunError: there is none.
    """
    parts = list(run.parts(system))
    tested = {part.corpus for part in parts if part.split == "test"}
    of_split = [
        part
        for part in parts
        if part.split == (split or "test") or (split is None and part.split == "dev" and part.corpus not in tested)
    ]
    if not of_split:
        known = sorted({part.split for part in parts})
        raise RunError(f"{run.path}: no labelled clip of split {split!r} was evaluated; {nearest(str(split), known)}")
    return of_split


def linear_parts(run: RunPredictions, split: str | None) -> dict[tuple[str, str, str], TaskSplit]:
    """Predict a split's parts by the linear baseline, by corpus, split and task; empty where it is not stored."""
    return {part.place: part for part in split_parts(run, split, "linear")} if run.has_linear else {}


def add_holm_correction(rows: list[dict[str, Any]]) -> None:
    """Put `corrected_p` beside every `p` (Holm, over the rows)."""
    for row, p in zip(rows, _corrected([row["p"] for row in rows]), strict=True):
        row["corrected_p"] = p


def correct_rows(rows: Sequence[Row]) -> list[Row]:
    """Put `corrected_p` into differences from the linear baseline (Holm, over the rows that have one)."""
    ps = iter(_corrected([row.over_linear.p for row in rows if row.over_linear is not None]))
    return [
        row if row.over_linear is None else replace(row, over_linear=replace(row.over_linear, corrected_p=next(ps)))
        for row in rows
    ]


def _corrected(ps: Sequence[float | None]) -> list[float | None]:
    return [finite(p) for p in holm([np.nan if p is None else p for p in ps])]


def decided_classes(part: TaskSplit) -> NDArray[np.int64]:
    """Decide each clip's most probable class `[N]`, with the thresholds of a single-label task."""
    return decide_classes(part.predicted, part.thresholds if part.spec.kind == "single_label" else None)


def estimate(resamples: Bootstrap, metric: str, is_difference: bool = False) -> Estimate:
    """Give the estimate and interval of a metric, or of the difference of two of its values, within what it can be."""
    interval = resamples.interval(limits=metric_limits(metric, is_difference))
    return Estimate(finite(interval.estimate), finite(interval.low), finite(interval.high))


def finite(value: float) -> float | None:
    """Replace what is not a number by None, which JSON can hold."""
    return float(value) if math.isfinite(value) else None


def of_clips(part: TaskSplit, values: pd.Series) -> pd.Series:
    """Pick a part's values of what `column_values` gave, index 0..N-1."""
    keys = pd.MultiIndex.from_frame(part.clips[["corpus", "clip_id"]])
    return values.reindex(keys).reset_index(drop=True)


def metric_rows(part: TaskSplit, linear: TaskSplit | None = None) -> Iterator[MetricRow]:
    """Evaluate every metric with its interval, beside the linear baseline and the difference where it is given."""
    num_groups = len(np.unique(part.groups))
    for metric in part.metrics:
        of_model = part.statistic(metric)
        resamples = bootstrap(of_model, num_groups, NUM_RESAMPLES)
        row = MetricRow(
            *part.place, metric, len(part.clips), num_groups, estimate(resamples, metric), resamples.num_undefined
        )
        if linear is not None:
            of_linear = linear.statistic(metric)
            difference = paired_bootstrap(of_linear, of_model, num_groups, NUM_RESAMPLES)
            over = estimate(difference, metric, is_difference=True)
            row = replace(
                row,
                linear=estimate(bootstrap(of_linear, num_groups, NUM_RESAMPLES), metric),
                over_linear=Difference(over.value, over.low, over.high, finite(difference.p_value())),
            )
        yield row


def _classes(part: TaskSplit) -> Iterator[MetricRow]:
    """Evaluate classes or traits of metrics that are a mean of them; of several labels `num_clips` have the class."""
    num_groups = len(np.unique(part.groups))
    is_known = np.isfinite(part.targets) if part.spec.kind == "regression" else part.targets > 0
    counts = dict(zip(part.spec.classes, is_known.sum(axis=0).tolist(), strict=True))
    for metric in part.metrics:
        of_classes = class_statistics(metric, part.groups, part.targets, part.predicted, part.spec, part.thresholds)
        for name, of_class in of_classes.items():
            value = estimate(bootstrap(of_class, num_groups, NUM_RESAMPLES), metric)
            yield MetricRow(*part.place, metric, counts[name], num_groups, value, part=name)


def _confusion(part: TaskSplit) -> dict[str, Any]:
    """Clips by actual (rows) and decided class; of several labels by the strongest of each, without clips of none."""
    counts = np.zeros((part.spec.num_outputs, part.spec.num_outputs), dtype=np.int64)
    has_any = part.targets.any(axis=1)
    np.add.at(counts, (part.targets[has_any].argmax(axis=1), decided_classes(part)[has_any]), 1)
    return {**part.key, "classes": list(part.spec.classes), "counts": counts.tolist()}


def _calibration(part: TaskSplit) -> dict[str, Any]:
    """Expected calibration error (share, 15 bins of equal mass) and the reliability curve's bins that hold anything."""
    curve = reliability_curve(*calibration_pairs(part.predicted, part.targets, part.spec), bins="mass")
    bins = [
        {"count": int(count), "predicted": float(predicted), "observed": float(observed)}
        for count, predicted, observed in zip(curve.counts, curve.predicted, curve.observed, strict=True)
        if count
    ]
    return {**part.key, "error": curve.error, "bins": bins}


def _presence(clips: pd.DataFrame) -> pd.Series:
    """Name which modalities each clip had, such as `audio+text`."""
    names = [name for name in clips if str(name).startswith("present.")]
    presence = clips[names].to_numpy(dtype=bool)
    modalities = np.array([str(name).removeprefix("present.") for name in names])
    return pd.Series(["+".join(modalities[row]) or "none" for row in presence], dtype="string")


def _novelty(clips: pd.DataFrame) -> pd.Series:
    """Tell clips of which any modality is unlike the training clips from others, by the share of dev clips stored."""
    highest = clips.filter(regex="^novelty[.]").max(axis=1).reset_index(drop=True)
    return highest.ge(NOTABLE).map({True: "unlike training", False: "like training"}).astype("string")


def _subsets(part: TaskSplit, values: pd.Series) -> Iterator[MetricRow]:
    """Evaluate the clips that share a value, by falling number of clips."""
    names = values.astype("string").fillna("(missing)")
    for name in names.value_counts().index:
        for row in metric_rows(part.take(names.eq(name).to_numpy(dtype=bool))):
            yield replace(row, part=str(name))


def column_values(run: RunPredictions, column: str, option: str) -> pd.Series:
    """Read a column by corpus and clip: of the prediction table, else of the corpora as they are on disk."""
    keys = ["corpus", "clip_id"]
    if column in run.table:
        return run.table.assign(value=run.table[column]).set_index(keys)["value"]
    try:
        clips = read_corpora(run.config.corpora, run.tasks).clips
    except CorpusError as error:
        raise RunError(
            f"{option}: predictions.parquet has no column {column!r}, and the corpora that may cannot be read ({error})"
        ) from None
    if column not in clips:
        raise RunError(f"{option}: no column is named {column!r}; {nearest(column, map(str, clips.columns))}")
    return clips.set_index(keys)[column]
