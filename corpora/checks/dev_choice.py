"""Dev splits that cannot choose: too few clips, groups or clips of a class for one epoch to be better than another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from corpora.checks.findings import Case, Finding, known_rows, positive
from corpora.clips import label_columns
from mmpsr.tasks import TaskSpec

__all__ = ["MIN_CLIPS", "MIN_GROUPS", "MIN_OF_CLASS", "weak_dev"]

MIN_CLIPS = 10
"""Labelled clips from which on a dev split is not warned of."""
MIN_GROUPS = 2
"""Groups likewise."""
MIN_OF_CLASS = 5
"""Dev clips with a class, and in multi-label tasks without it, likewise."""


def weak_dev(name: str, clips: pd.DataFrame, tasks: Mapping[str, TaskSpec]) -> list[Finding]:
    """Find tasks for which a corpus' dev split cannot tell a better epoch, threshold or setting from a worse one.

    A task without any dev label is none of them: that is the finding `unlabeled_split`.

    Args:
        name: the corpus' name in the configuration.
        clips: its clips with the columns `split`, `clip_id`, `group` and those of the tasks' labels.
        tasks: specifications of the active tasks.

    Returns:
        One finding with a case per task, or none.
    """
    is_dev = clips["split"].eq("dev").fillna(False).astype(bool)
    places = []
    for task, spec in tasks.items():
        rows = is_dev & known_rows(clips, task, spec)
        if reasons := list(_reasons(clips, rows, task, spec)):
            places.append(Case(None, "dev", f"task {task!r}: {'; '.join(reasons)}"))
    if not places:
        return []
    message = (
        "dev cannot choose: what is best there (epoch, thresholds, calibration, settings) is chance; give dev more "
        "groups, or test every group in turn (folds of a study)"
    )
    return [Finding(name, "weak_dev", "warning", message, tuple(places))]


def _reasons(clips: pd.DataFrame, rows: pd.Series, task: str, spec: TaskSpec) -> Iterator[str]:
    num_clips = int(rows.sum())
    if not num_clips:
        return
    groups = clips.loc[rows, "group"].astype("string").fillna("clip " + clips.loc[rows, "clip_id"].astype("string"))
    if num_clips < MIN_CLIPS:
        yield f"{num_clips} labelled dev clip{'' if num_clips == 1 else 's'} (fewer than {MIN_CLIPS})"
    if groups.nunique() < MIN_GROUPS:
        yield f"all {num_clips} of one group" if num_clips > 1 else "of one group"
    values = {
        class_name: clips[column].to_numpy(dtype=np.float64, na_value=np.nan)
        for class_name, column in zip(spec.classes, label_columns(task, spec), strict=True)
    }
    of_dev = {class_name: column[rows & np.isfinite(column)] for class_name, column in values.items()}
    if spec.kind == "regression":
        constant = [name for name, column in of_dev.items() if len(column) and column.min() == column.max()]
        if constant:
            yield f"the same value in every dev clip: {', '.join(constant)}"
        return
    counts = {name: int(positive(column, spec).sum()) for name, column in of_dev.items() if len(column)}
    present = [name for name, count in counts.items() if count]
    if spec.kind == "single_label" and len(present) == 1:
        yield f"one class only ({present[0]})"
        return
    anywhere = {name: bool(positive(column[np.isfinite(column)], spec).any()) for name, column in values.items()}
    rare = [f"{name} {count}" for name, count in counts.items() if count < MIN_OF_CLASS and anywhere[name]]
    if rare:
        yield f"fewer than {MIN_OF_CLASS} dev clips with a class: {', '.join(rare)}"
    if spec.kind == "multi_label":
        without = {name: len(of_dev[name]) - count for name, count in counts.items()}
        common = [f"{name} {count}" for name, count in without.items() if count < MIN_OF_CLASS]
        if common:
            yield f"fewer than {MIN_OF_CLASS} dev clips without a class: {', '.join(common)}"
