"""The figures of runs that differ in their seed alone: mean, deviation and range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mmpsr.metrics.seeds import seed_summary
from training.runs.directory import RunError, comparable
from training.runs.stored import RunPredictions

__all__ = ["over_seeds", "require_seeds"]

PLACE = ("corpus", "split", "task", "metric")


def require_seeds(runs: Sequence[RunPredictions]) -> list[int]:
    """The runs' seeds.

    Raises:
        RunError: the configurations differ in more, or two seeds are the same.
    """
    settings = [comparable(run.config.model_dump(mode="json")) for run in runs]
    seeds = [int(each.pop("training.seed")) for each in settings]
    first = settings[0]
    for run, each in zip(runs, settings, strict=True):
        differing = [key for key in dict.fromkeys([*first, *each]) if first.get(key) != each.get(key)]
        if differing:
            key = differing[0]
            raise RunError(
                f"{run.path} has {key} = {each.get(key)!r}, {runs[0].path} has {first.get(key)!r} ({len(differing)} "
                "setting(s) differ besides the seed): a mean over seeds is of runs of one configuration; "
                "`mmpsr compare` tells two configurations apart"
            )
    for index, seed in enumerate(seeds):
        if seed in seeds[:index]:
            same = runs[seeds.index(seed)].path
            raise RunError(f"{same} and {runs[index].path} both have seed {seed}; name one run per seed")
    return seeds


def over_seeds(
    documents: Sequence[Mapping[str, Any]], name: Literal["figures", "adapted", "subsets"] = "figures"
) -> list[dict[str, Any]]:
    """Each figure over runs.

    Args:
        documents: of `training.evaluation.evaluate.evaluate`, one per seed, of the same clips.
        name: which figures of the documents.

    Returns:
        Per figure `corpus, split, task, metric, num_clips` (of subsets also `modalities`), `values` by run, `mean,
        deviation, low, high` (the t interval of the mean), `least, most` and `num_seeds`, the runs that have it; what
        is undefined is None.
    """
    rows = []
    keys = (*PLACE, "modalities") if name == "subsets" else PLACE
    tables = [{tuple(row[key] for key in keys): row for row in each[name] if "value" in row} for each in documents]
    for place in dict.fromkeys(key for table in tables for key in table):
        found = [table.get(place) for table in tables]
        values = [None if row is None else row["value"] for row in found]
        known = [value for value in values if value is not None]
        summary = seed_summary(known)
        rows.append(
            {
                **dict(zip(keys, place, strict=True)),
                "num_clips": next(row["num_clips"] for row in found if row is not None),
                "values": values,
                **{key: _finite(getattr(summary, key)) for key in ("mean", "deviation", "low", "high")},
                "least": min(known, default=None),
                "most": max(known, default=None),
                "num_seeds": summary.num_seeds,
            }
        )
    return rows


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
