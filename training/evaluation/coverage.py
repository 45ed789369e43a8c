"""Coverage of conformal sets and intervals: how often they hold the truth of labelled clips, beside what was asked.

The promise is of a clip drawn from a new group, so groups count the same here, however many clips they have.

Shape suffixes: N clips, F guarantees, G groups, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmpsr.calibration.conformal import COVERAGE_MEANS, Promise, covered, set_sizes
from mmpsr.metrics.bootstrap import Statistic, bootstrap
from training.evaluation import figures
from training.runs.identities import shared
from training.runs.stored import RunPredictions, TaskSplit

__all__ = ["coverage_of"]

Array = NDArray[np.float64]


def coverage_of(
    run: RunPredictions, parts: Sequence[TaskSplit], level: float, of_run: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Measure coverage by corpus, task and guarantee.

    Args:
        run: whose calibration the sets are made by.
        parts: labelled clips that are evaluated.
        level: asked.
        of_run: `training.runs.identities` of the run's own clips; clips of a group that train or dev has are of no new
            one and left out. None where there are none, so that nothing can be.

    Returns:
        `level`, `means` (what is promised, and when) and `rows`: corpus, split, task, `part` (label or trait, empty of
        a single-label task), `promised` and why or why not (`sentence`), `num_clips`, `num_groups`, observed `value`
        with `low` and `high` in percent, mean `size` and the largest it could be (`of`), both None where the clips
        cannot be judged.
    """
    rows = [row for part in parts for row in _rows(run, part, level, of_run)]
    return {"level": level, "means": COVERAGE_MEANS, "rows": rows}


def _promise_of(run: RunPredictions, part: TaskSplit, level: float) -> Promise:
    """Tell what is promised of a part, by its corpus' own dev groups; else the widest of all, which promise nothing."""
    spec = run.tasks[part.task]
    own = run.calibration.conformal.get(part.task, {})
    if part.corpus in own:
        return run.calibration.promise(part.task, spec, level, [part.corpus])
    return run.calibration.promise(part.task, spec, level)


def _rows(run: RunPredictions, part: TaskSplit, level: float, of_run: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    promised, spec = _promise_of(run, part, level), part.spec
    is_own = part.corpus in run.calibration.conformal.get(part.task, {})
    counts = {"num_clips": len(part.clips), "num_groups": len(np.unique(part.groups))}
    blank = dict.fromkeys(("value", "low", "high", "size", "of"))
    sentence = promised.sentence
    if not is_own and promised.stored:
        sentence = f"{100 * level:g} % is not promised: {part.corpus} has no dev groups in the calibration"
    reason = None
    if not promised.stored:
        reason = promised.sentence
    elif is_own and part.split == "dev":
        reason = "these are the clips that the sets are made from"
    elif spec != run.tasks[part.task]:
        reason = f"{part.corpus} is annotated for some of the labels only"
    elif of_run is not None and (known := shared("group", part.clips, of_run[of_run["use"].ne("none")])).any():
        if known.all():
            reason = "train or dev has clips of all groups of these clips, which tell nothing of new ones"
        else:
            part = part.take(~known.to_numpy())
            counts = {"num_clips": len(part.clips), "num_groups": len(np.unique(part.groups))}
            left_out = f"{known.sum()} of {len(known)} clips are left out, since train or dev has clips of their groups"
            sentence = f"{sentence}; {left_out}"
    row = {**part.key, "part": "", "promised": is_own and bool(promised.groups), "sentence": sentence}
    if reason is not None:
        yield {**row, "promised": False, "sentence": reason, **counts, **blank}
        return
    holds_NF = covered(part.predicted, part.targets, spec, promised.reaches)
    sizes_NF = set_sizes(part.predicted, spec, promised.reaches)
    largest = {"regression": 1, "multi_label": 2, "single_label": spec.num_outputs}[spec.kind]
    names = ("",) if spec.kind == "single_label" else spec.classes
    for name, holds_N, sizes_N in zip(names, holds_NF.T, sizes_NF.T, strict=True):
        is_known = np.isfinite(holds_N)
        if not is_known.any():
            continue
        groups = part.groups[is_known]
        num_groups = len(np.unique(groups))
        resamples = bootstrap(_mean_of_groups(holds_N[is_known], groups), num_groups, figures.NUM_RESAMPLES)
        interval = resamples.interval(limits=(0.0, 1.0))
        size = _mean_of_groups(sizes_N[is_known], groups)(np.ones((1, num_groups)))[0]
        observed = {
            key: figures.finite(100 * value)
            for key, value in (("value", interval.estimate), ("low", interval.low), ("high", interval.high))
        }
        yield {
            **row, "part": name, "num_clips": int(is_known.sum()), "num_groups": num_groups, **observed,
            "size": float(size), "of": largest,
        }  # fmt: skip


def _mean_of_groups(values_N: Array, groups_N: NDArray) -> Statistic:
    """Make the mean over groups of each group's mean, to be resampled by groups."""
    codes = np.unique(groups_N, return_inverse=True)[1]
    means_G = np.bincount(codes, weights=values_N) / np.bincount(codes)

    def values(counts_BG: Array) -> Array:
        return np.asarray(counts_BG @ means_G / counts_BG.sum(axis=1))

    return values
