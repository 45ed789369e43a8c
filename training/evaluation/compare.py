"""Paired comparison of two runs on the clips that both evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from mmpsr.calibration.reliability import correct_shares
from mmpsr.metrics.paired_tests import mcnemar, paired_bootstrap, wilcoxon
from training.evaluation.figures import (
    NUM_RESAMPLES,
    add_holm_correction,
    decided_classes,
    estimate,
    finite,
    split_parts,
)
from training.runs.directory import RunError
from training.runs.stored import RunPredictions, TaskSplit

__all__ = ["compare_runs"]


def compare_runs(first: RunPredictions, second: RunPredictions, split: str | None) -> dict[str, Any]:
    """Compare two runs on the clips that both evaluated.

    Args:
        first: a run.
        second: the run that is better where differences are positive.
        split: the split, or None for test, and dev of corpora without labelled test clips.

    Returns:
        `figures`: per metric that both report, the values and the difference with its interval, p and p corrected
        over all of them (Holm); `clips`: per task a test that takes clips as independent, McNemar's exact of decisions
        or Wilcoxon's of errors, corrected likewise.

    Raises:
        RunError: the runs have no clip or metric in common, or their labels, classes or groups differ.
    """
    others = {part.place: part for part in split_parts(second, split)}
    figures: list[dict[str, Any]] = []
    clips: list[dict[str, Any]] = []
    for part in split_parts(first, split):
        other = others.get(part.place)
        if other is None:
            continue
        counts = {"num_first": len(part.clips), "num_second": len(other.clips)}
        one, two = _common(part, other)
        if len(one.clips):
            figures += [{**row, **counts} for row in _figures(one, two)]
            clips.append(_clips(one, two))
    if not figures:
        raise RunError(f"{first.path} and {second.path} have no labelled clip and metric in common in this split")
    for rows in (figures, clips):
        add_holm_correction(rows)
    return {"level": 0.95, "num_resamples": NUM_RESAMPLES, "figures": figures, "clips": clips}


def _common(first: TaskSplit, second: TaskSplit) -> tuple[TaskSplit, TaskSplit]:
    """Take both parts on the clips that they share, in the order of the first."""
    place = f"{first.corpus}, {first.split}, {first.task}"
    if first.spec.classes != second.spec.classes:
        raise RunError(f"{place}: the runs have different classes, {first.spec.classes} and {second.spec.classes}")
    _, rows, other_rows = np.intersect1d(
        first.clips["clip_id"].to_numpy(str), second.clips["clip_id"].to_numpy(str), return_indices=True
    )
    order = np.argsort(rows)
    one, two = first.take(rows[order]), second.take(other_rows[order])
    for what, differ in (
        ("label", ~np.isclose(one.targets, two.targets, equal_nan=True).all(axis=1)),
        ("group", one.groups != two.groups),
    ):
        if differ.any():
            clip = one.clips["clip_id"].iloc[int(differ.argmax())]
            raise RunError(
                f"{place}: the {what} of {differ.sum()} common clip(s) differs between the runs, the first of {clip}; "
                "they must be of the same release and configuration of the corpus"
            )
    return one, two


def _figures(first: TaskSplit, second: TaskSplit) -> Iterator[dict[str, Any]]:
    num_groups = len(np.unique(first.groups))
    for metric in (name for name in first.metrics if name in second.metrics):
        statistics = first.statistic(metric), second.statistic(metric)
        found = paired_bootstrap(*statistics, num_groups, NUM_RESAMPLES)
        p, values = found.p_value(), [float(each(np.ones((1, num_groups)))[0]) for each in statistics]
        yield {
            **first.key, "metric": metric, "num_clips": len(first.clips), "num_groups": num_groups,
            "first": finite(values[0]), "second": finite(values[1]),
            "difference": asdict(estimate(found, metric, is_difference=True)), "p": finite(p),
        }  # fmt: skip


def _clips(first: TaskSplit, second: TaskSplit) -> dict[str, Any]:
    """Test single decisions by McNemar; mean absolute errors, or shares of wrong labels, by Wilcoxon."""
    parts = (first, second)
    if first.spec.kind == "regression":
        errors = [np.nanmean(np.abs(part.predicted - part.targets), axis=1) for part in parts]
        return {**first.key, "test": "Wilcoxon", "p": wilcoxon(*errors)}
    if any(metric.startswith("multilabel") for metric in first.metrics):
        wrong = [1 - correct_shares(part.predicted, part.targets, part.spec, part.thresholds) for part in parts]
        return {**first.key, "test": "Wilcoxon", "p": wilcoxon(*wrong)}
    right = [part.targets.argmax(axis=1) == decided_classes(part) for part in parts]
    found = mcnemar(*right)
    alone = {"only_first": found.only_first, "only_second": found.only_second}
    return {**first.key, "test": "McNemar", **alone, "p": found.p}
