"""Negative transfer: what tasks do to each other, from finished runs that differ in their tasks.

Runs of one set of tasks are seeds of one system. Each task's figures with others are compared with its own alone, on
the same clips and averaged over seeds, in resamples of the clips' groups. How far gradients conflict, how weights moved
and how many pseudo-labels counted comes from the runs' `metrics.jsonl`.

Shape suffixes: B resamples, G groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpsr.files import read_json_lines
from mmpsr.metrics.bootstrap import Statistic
from mmpsr.metrics.paired_tests import paired_bootstrap
from training.evaluation.figures import NUM_RESAMPLES, add_holm_correction, plain, split_parts
from training.runs.directory import RunError
from training.runs.stored import RunPredictions, TaskSplit
from tuning.study.cells import is_done
from tuning.study.config import Study

__all__ = ["System", "find_runs", "study_runs", "transfer_report"]

System = tuple[str, ...]
"""Tasks that were trained jointly."""


def study_runs(study: Study) -> list[Path]:
    """Folders of a study's cells that are done.

    Raises:
        RunError: none is.
    """
    found = [cell.path for cell in study.cells if is_done(cell)]
    if not found:
        raise RunError(f"no cell of {study.path} is done; fill it first: mmpsr study {study.path}")
    return found


def find_runs(folder: Path) -> list[Path]:
    """The finished runs in a folder, or the folder itself where it is one.

    Raises:
        RunError: there is none.
    """
    found = sorted(path.parent for path in folder.rglob("results.json") if ".replaced-" not in path.parent.name)
    if not found:
        raise RunError(f"{folder} holds no finished run; name a study's TOML file, or folders of runs")
    return found


def transfer_report(paths: Sequence[Path], split: str | None) -> dict[str, Any]:
    """Compare all sets of tasks that were trained.

    Args:
        paths: run directories; what else than tasks and seed they differ in is not looked at.
        split: the split, or None for test, and dev of corpora without labelled test clips.

    Returns:
        `systems`: per set of tasks, its runs and seeds. `figures`: per set, task, corpus and metric the mean over seeds
        with the others and alone, their difference with interval, p and p corrected over all of them (Holm), and the
        `verdict`: `helped` or `hurt` where the corrected p is below 0.05, else `undecided`. `conflicts`, `weights` and
        `accepted`: per set of tasks, by epoch, means over the seeds that reached it.

    Raises:
        RunError: a task was trained with others and not alone, or runs do not have the same clips.
    """
    systems: dict[System, list[RunPredictions]] = {}
    for path in paths:
        run = RunPredictions.read(path)
        systems.setdefault(tuple(run.tasks), []).append(run)
    joint = [tasks for tasks in systems if len(tasks) > 1]
    alone = {task: systems[(task,)] for tasks in joint for task in tasks if (task,) in systems}
    missing = sorted({task for tasks in joint for task in tasks} - alone.keys())
    if not joint or missing:
        what = f"no run of {', '.join(missing)} alone" if joint else "no run with several tasks"
        raise RunError(f"there is {what}; configs/studies/transfer.toml has every set of tasks")
    figures = [
        row for task in alone for tasks in joint if task in tasks
        for row in _compare(tasks, task, systems[tasks], alone[task], split)
    ]  # fmt: skip
    add_holm_correction(figures)
    for row in figures:
        row["verdict"] = _verdict(row)
    return {
        "level": 0.95,
        "num_resamples": NUM_RESAMPLES,
        "systems": [
            {"tasks": tasks, "seeds": [run.config.training.seed for run in runs], "runs": [str(r.path) for r in runs]}
            for tasks, runs in systems.items()
        ],
        "figures": figures,
        **{
            name: [{"tasks": tasks, **found} for tasks in systems for found in trajectories(systems[tasks], name)]
            for name in ("conflicts", "weights", "accepted")
        },
    }


def _compare(
    tasks: System, task: str, runs: Sequence[RunPredictions], alone: Sequence[RunPredictions], split: str | None
) -> Iterator[dict[str, Any]]:
    ours, theirs = (_parts(each, task, split) for each in (runs, alone))
    for place in (place for place in ours if place in theirs):
        _require_same(task, [*ours[place], *theirs[place]])
        first, num_groups = ours[place][0], len(np.unique(ours[place][0].groups))
        for metric in first.metrics:
            before, after = (_mean([part.statistic(metric) for part in parts[place]]) for parts in (theirs, ours))
            found = paired_bootstrap(before, after, num_groups, NUM_RESAMPLES)
            p = found.p_value()
            values = [float(each(np.ones((1, num_groups)))[0]) for each in (before, after)]
            yield {
                "tasks": tasks, **first.key, "metric": metric, "num_clips": len(first.clips), "num_groups": num_groups,
                "num_seeds": len(ours[place]), "num_seeds_alone": len(theirs[place]),
                **{n: v if np.isfinite(v) else None for n, v in zip(("alone", "joint"), values, strict=True)},
                "difference": plain(found), "p": p if np.isfinite(p) else None,
            }  # fmt: skip


def _verdict(row: Mapping[str, Any]) -> str:
    if row["corrected_p"] is None or row["corrected_p"] >= 0.05:
        return "undecided"
    return "helped" if row["difference"]["value"] > 0 else "hurt"


def _parts(runs: Sequence[RunPredictions], task: str, split: str | None) -> dict[tuple[str, str], list[TaskSplit]]:
    """A task's parts of every run by corpus and split, clips in the order of their ids."""
    found: dict[tuple[str, str], list[TaskSplit]] = {}
    for run in runs:
        for part in split_parts(run, split):
            if part.task == task:
                ordered = part.take(np.argsort(part.clips["clip_id"].to_numpy(str), kind="stable"))
                found.setdefault((part.corpus, part.split), []).append(ordered)
    return found


def _require_same(task: str, parts: Sequence[TaskSplit]) -> None:
    first = parts[0]
    for part in parts[1:]:
        for what, ours, theirs in (
            ("clips", first.clips["clip_id"].to_numpy(str), part.clips["clip_id"].to_numpy(str)),
            ("groups", first.groups, part.groups),
            ("labels", first.targets, part.targets),
        ):
            is_label = what == "labels"
            if len(ours) != len(theirs) or not np.array_equal(ours, theirs, equal_nan=is_label):
                raise RunError(
                    f"{first.corpus}, {first.split}, {task}: the runs have different {what}; compare runs of the same "
                    "corpora and configuration, as the cells of one study are"
                )


def _mean(statistics: Sequence[Statistic]) -> Statistic:
    """The mean of one figure over seeds, in the same resamples."""
    return lambda counts_BG: np.mean([each(counts_BG) for each in statistics], axis=0)


def trajectories(runs: Sequence[RunPredictions], name: str) -> Iterator[dict[str, Any]]:
    """By epoch, means over the runs that reached it.

    Args:
        runs: seeds of one system.
        name: `conflicts` (cosines between the gradients of `first` and `second` over shared parameters, in epochs that
            looked), `weights` (of the loss `term` at the end of the epoch), or `accepted` (share of the candidates for
            pseudo-labels of `task` that counted, the mean over its classes).
    """
    found: dict[tuple[str, ...], dict[int, list[float]]] = {}
    for run in runs:
        for record in _log(run.path):
            for key, value in _values(record, name):
                if value is not None and np.isfinite(value):
                    found.setdefault(key, {}).setdefault(record["epoch"], []).append(value)
    labels = {"conflicts": ("first", "second"), "weights": ("term",), "accepted": ("task",)}[name]
    for key, by_epoch in found.items():
        epochs = sorted(by_epoch)
        yield {
            **dict(zip(labels, key, strict=True)),
            "epochs": epochs,
            "values": [float(np.mean(by_epoch[epoch])) for epoch in epochs],
        }


def _values(record: Mapping[str, Any], name: str) -> Iterator[tuple[tuple[str, ...], float | None]]:
    if name == "conflicts":
        for first, others in record.get("gradient_cosines", {}).items():
            yield from (((first, second), value) for second, value in others.items())
    elif name == "weights":
        yield from (((term,), found["weight"]) for term, found in record["terms"].items())
    else:
        for task, classes in record.get("accepted", {}).items():
            known = [value for value in classes.values() if value is not None and np.isfinite(value)]
            yield (task,), float(np.mean(known)) if known else None


def _log(path: Path) -> Iterator[dict[str, Any]]:
    yield from read_json_lines(path / "metrics.jsonl")
