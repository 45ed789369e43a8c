"""The figures of runs that differ in their seed alone: mean, deviation and range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mmpsr.metrics.seeds import seed_summary
from training.runs.directory import RunError, comparable
from training.runs.stored import RunPredictions
from training.scoring.rows import Estimate, MetricRow, SeedRow

__all__ = ["over_seeds", "require_seeds"]


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
) -> list[SeedRow]:
    """Gather each figure over runs.

    Args:
        documents: of `training.evaluation.evaluate.evaluate`, one per seed, of the same clips.
        name: which figures of the documents.
    """
    tables = [
        {(row.key, row.part): row for row in document[name] if isinstance(row, MetricRow)} for document in documents
    ]
    rows = []
    for key, part in dict.fromkeys(place for table in tables for place in table):
        found = [table.get((key, part)) for table in tables]
        values = [None if row is None else row.model.value for row in found]
        known = [value for value in values if value is not None]
        summary = seed_summary(known)
        mean = Estimate(_finite(summary.mean), _finite(summary.low), _finite(summary.high))
        row = SeedRow(
            *key, part, next(row.num_clips for row in found if row is not None), values, mean,
            _finite(summary.deviation), min(known, default=None), max(known, default=None), summary.num_seeds,
        )  # fmt: skip
        rows.append(row)
    return rows


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
