"""Dev splits that cannot choose: too few clips, groups or clips of a class for one epoch to be better than another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.checks.findings import Case, Finding, known_rows, positive
from corpora.clips import label_columns
from mmpsr.tasks import TaskSpec

__all__ = ["CLASSES", "MIN_CLIPS", "MIN_GROUPS", "MIN_OF_CLASS", "WHOLE", "weak_dev"]

MIN_CLIPS = 10
"""Labelled clips from which on a dev split is not warned of."""
MIN_GROUPS = 2
"""Groups likewise."""
MIN_OF_CLASS = 5
"""Dev clips with a class, and in multi-label tasks without it, likewise."""


WHOLE = (
    "dev cannot choose: what is best there (epoch, thresholds, calibration, settings) is chance; give dev more "
    "groups, or test every group in turn (folds of a study)"
)
"""Where a task's dev split says nothing."""
CLASSES = (
    "dev has few clips of some classes: their thresholds and their figures on dev are chance; other classes are not "
    "affected, but a mean over classes, which chooses epochs and settings, gives each of them any other's weight"
)
"""Where it says something of the task's other classes."""


def weak_dev(name: str, clips: pd.DataFrame, tasks: Mapping[str, TaskSpec]) -> list[Finding]:
    """Find tasks for which a corpus' dev split cannot tell a better epoch, threshold or setting from a worse one.

    A task of which only some classes are rare on dev is told apart: the others can be judged. A task without any dev
    label is none of them: that is the finding `unlabeled_split`.

    Args:
        name: the corpus' name in the configuration.
        clips: its clips with the columns `split`, `clip_id`, `group` and those of the tasks' labels.
        tasks: specifications of the active tasks.

    Returns:
        A finding of tasks as a whole and one of tasks' classes, with a case per task; those without any are left out.
    """
    is_dev = clips["split"].eq("dev").fillna(False).astype(bool)
    places: dict[str, list[Case]] = {WHOLE: [], CLASSES: []}
    for task, spec in tasks.items():
        rows = is_dev & known_rows(clips, task, spec)
        if not rows.any():
            continue
        reasons, rare, can_judge_others = [*_reasons(clips, rows, task, spec)], *_rare_classes(clips, rows, task, spec)
        if reasons or (rare and not can_judge_others):
            places[WHOLE].append(Case(None, "dev", f"task {task!r}: {'; '.join([*reasons, *rare])}"))
        elif rare:
            places[CLASSES].append(Case(None, "dev", f"task {task!r}: {'; '.join(rare)}"))
    return [Finding(name, "weak_dev", "warning", message, tuple(found)) for message, found in places.items() if found]


def _reasons(clips: pd.DataFrame, rows: pd.Series, task: str, spec: TaskSpec) -> Iterator[str]:
    """Say why dev says nothing of a task as a whole."""
    num_clips = int(rows.sum())
    groups = clips.loc[rows, "group"].astype("string").fillna("clip " + clips.loc[rows, "clip_id"].astype("string"))
    if num_clips < MIN_CLIPS:
        yield f"{num_clips} labelled dev clip{'' if num_clips == 1 else 's'} (fewer than {MIN_CLIPS})"
    if groups.nunique() < MIN_GROUPS:
        yield f"all {num_clips} of one group" if num_clips > 1 else "of one group"
    of_dev = {name: column[rows & np.isfinite(column)] for name, column in _columns(clips, task, spec).items()}
    if spec.kind == "regression":
        constant = [name for name, column in of_dev.items() if len(column) and column.min() == column.max()]
        if constant:
            yield f"the same value in every dev clip: {', '.join(constant)}"
    if spec.kind == "single_label":
        present = [name for name, column in of_dev.items() if len(column) and positive(column, spec).any()]
        if len(present) == 1:
            yield f"one class only ({present[0]})"


def _rare_classes(clips: pd.DataFrame, rows: pd.Series, task: str, spec: TaskSpec) -> tuple[list[str], bool]:
    """Say which classes have few dev clips, and whether there are others enough to be told apart by dev."""
    if spec.kind == "regression":
        return [], True
    values = _columns(clips, task, spec)
    of_dev = {name: column[rows & np.isfinite(column)] for name, column in values.items()}
    counts = {name: int(positive(column, spec).sum()) for name, column in of_dev.items() if len(column)}
    if spec.kind == "single_label" and sum(count > 0 for count in counts.values()) == 1:
        return [], False  # that there is one class says it all
    anywhere = {name: bool(positive(column[np.isfinite(column)], spec).any()) for name, column in values.items()}
    rare = [name for name, count in counts.items() if count < MIN_OF_CLASS and anywhere[name]]
    common = [
        name for name, count in counts.items()
        if spec.kind == "multi_label" and len(of_dev[name]) - count < MIN_OF_CLASS
    ]  # fmt: skip
    sentences = []
    if rare:
        named = ", ".join(f"{name} {counts[name]}" for name in rare)
        sentences.append(f"fewer than {MIN_OF_CLASS} dev clips with a class: {named}")
    if common:
        named = ", ".join(f"{name} {len(of_dev[name]) - counts[name]}" for name in common)
        sentences.append(f"fewer than {MIN_OF_CLASS} dev clips without a class: {named}")
    others = sum(anywhere[name] and name not in rare and name not in common for name in counts)
    can_judge_others = others >= (1 if spec.kind == "multi_label" else 2)
    if sentences and can_judge_others:
        sentences[-1] += f" ({others} of {sum(anywhere.values())} classes have enough)"
    return sentences, can_judge_others


def _columns(clips: pd.DataFrame, task: str, spec: TaskSpec) -> dict[str, NDArray[np.float64]]:
    """Take the labels of each class or trait."""
    return {
        class_name: clips[column].to_numpy(dtype=np.float64, na_value=np.nan)
        for class_name, column in zip(spec.classes, label_columns(task, spec), strict=True)
    }
