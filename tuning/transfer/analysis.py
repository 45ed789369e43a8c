"""Negative transfer: what tasks do to each other, from finished runs that differ in their tasks, and its tables.

Runs of one set of tasks are seeds of one system. Each task's figures with others are compared with its own alone, on
the same clips and averaged over seeds, in resamples of the clips' groups. How far gradients conflict, how weights moved
and how many pseudo-labels counted comes from the runs' `metrics.jsonl`.

Shape suffixes: B resamples, G groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from mmpsr.files import read_json_lines
from mmpsr.metrics.bootstrap import Statistic
from mmpsr.metrics.paired_tests import paired_bootstrap
from training.evaluation.figures import NUM_RESAMPLES, add_holm_correction, estimate, split_parts
from training.runs.directory import RunError
from training.runs.stored import RunPredictions, TaskSplit
from training.scoring.rows import Estimate
from training.scoring.tables import between, few_groups, metric_name, number, table_of
from tuning.study.config import Study

__all__ = ["System", "find_runs", "study_runs", "transfer_report", "transfer_tables"]

System = tuple[str, ...]
"""Tasks that were trained jointly."""


def study_runs(study: Study) -> list[Path]:
    """List the folders of a study's cells that are done.

    Raises:
        RunError: none is.
    """
    runs = [cell.path for cell in study.cells if cell.is_done]
    if not runs:
        raise RunError(f"no cell of {study.path} is done; fill it first: mmpsr study {study.path}")
    return runs


def find_runs(folder: Path) -> list[Path]:
    """List the finished runs in a folder, or the folder itself where it is one.

    Raises:
        RunError: there is none.
    """
    runs = sorted(path.parent for path in folder.rglob("results.json") if ".replaced-" not in path.parent.name)
    if not runs:
        raise RunError(f"{folder} holds no finished run; name a study's TOML file, or folders of runs")
    return runs


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
            name: [{"tasks": tasks, **course} for tasks in systems for course in trajectories(systems[tasks], name)]
            for name in ("conflicts", "weights", "accepted")
        },
    }


def _compare(
    tasks: System, task: str, runs: Sequence[RunPredictions], alone: Sequence[RunPredictions], split: str | None
) -> Iterator[dict[str, Any]]:
    ours, theirs = (_parts(seeds, task, split) for seeds in (runs, alone))
    for place in (place for place in ours if place in theirs):
        _require_same(task, [*ours[place], *theirs[place]])
        first, num_groups = ours[place][0], len(np.unique(ours[place][0].groups))
        for metric in first.metrics:
            before, after = (_mean([part.statistic(metric) for part in parts[place]]) for parts in (theirs, ours))
            difference = paired_bootstrap(before, after, num_groups, NUM_RESAMPLES)
            over, p = estimate(difference, metric, is_difference=True), difference.p_value()
            values = [float(statistic(np.ones((1, num_groups)))[0]) for statistic in (before, after)]
            yield {
                "tasks": tasks, **first.key, "metric": metric, "num_clips": len(first.clips), "num_groups": num_groups,
                "num_seeds": len(ours[place]), "num_seeds_alone": len(theirs[place]),
                **{n: v if np.isfinite(v) else None for n, v in zip(("alone", "joint"), values, strict=True)},
                "difference": asdict(over), "p": p if np.isfinite(p) else None,
            }  # fmt: skip


def _verdict(row: Mapping[str, Any]) -> str:
    if row["corrected_p"] is None or row["corrected_p"] >= 0.05:
        return "undecided"
    return "helped" if row["difference"]["value"] > 0 else "hurt"


def _parts(runs: Sequence[RunPredictions], task: str, split: str | None) -> dict[tuple[str, str], list[TaskSplit]]:
    """List a task's parts of every run by corpus and split, clips in the order of their ids."""
    parts: dict[tuple[str, str], list[TaskSplit]] = {}
    for run in runs:
        for part in split_parts(run, split):
            if part.task == task:
                ordered = part.take(np.argsort(part.clips["clip_id"].to_numpy(str), kind="stable"))
                parts.setdefault((part.corpus, part.split), []).append(ordered)
    return parts


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
    """Average one figure over seeds, in the same resamples."""
    return lambda counts_BG: np.mean([statistic(counts_BG) for statistic in statistics], axis=0)


def trajectories(runs: Sequence[RunPredictions], name: str) -> Iterator[dict[str, Any]]:
    """Average by epoch over the runs that reached it.

    Args:
        runs: seeds of one system.
        name: `conflicts` (cosines between the gradients of `first` and `second` over shared parameters, in epochs that
            looked), `weights` (of the loss `term` at the end of the epoch), or `accepted` (share of the candidates for
            pseudo-labels of `task` that counted, the mean over its classes).
    """
    courses: dict[tuple[str, ...], dict[int, list[float]]] = {}
    for run in runs:
        for record in read_json_lines(run.path / "metrics.jsonl"):
            for key, value in _values(record, name):
                if value is not None and np.isfinite(value):
                    courses.setdefault(key, {}).setdefault(record["epoch"], []).append(value)
    labels = {"conflicts": ("first", "second"), "weights": ("term",), "accepted": ("task",)}[name]
    for key, by_epoch in courses.items():
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
        yield from (((term,), loss["weight"]) for term, loss in record["terms"].items())
    else:
        for task, classes in record.get("accepted", {}).items():
            known = [value for value in classes.values() if value is not None and np.isfinite(value)]
            yield (task,), float(np.mean(known)) if known else None


def transfer_tables(report: Mapping[str, Any]) -> Iterator[Table | str]:
    """Lay out a report of `transfer_report` for a terminal."""
    yield (
        "Joint - alone on the same clips (in so many groups), percentage points, means over seeds (joint / alone), "
        "intervals over groups"
    )
    yield _figures(report["figures"])
    if (note := few_groups((row["corpus"], row["task"], row["num_groups"]) for row in report["figures"])) is not None:
        yield note
    yield "Who helps whom: mean difference over a task's figures, beside the task alone"
    yield _matrix(report)
    if report["conflicts"]:
        yield "Cosine between gradients over shared parameters: below 0 the losses pull against each other"
        yield _spans(report["conflicts"], ("first", "second"), counts_negative=True)
    else:
        yield "No run logged cosines between gradients."
    joint = [row for row in report["weights"] if len(row["tasks"]) > 1]
    moved = [row for row in joint if np.ptp(row["values"]) > 0]
    yield "Weights of losses" if moved else "Weights of losses did not move."
    if moved:
        yield _spans(joint, ("term",))
    if report["accepted"]:
        yield "Share of candidates for pseudo-labels that counted"
        yield _spans(report["accepted"], ("task",))


def _figures(rows: Sequence[Mapping[str, Any]]) -> Table:
    figures = ("clips", "seeds", "alone", "joint", "difference [95 %]", "p", "corr. p", "verdict")
    table = table_of(("task", "with", "corpus", "metric"), figures)
    for row in rows:
        difference = Estimate(**row["difference"])
        ps = ["-" if p is None else f"{p:.3f}" for p in (row["p"], row["corrected_p"])]
        seeds = f"{row['num_seeds']}"
        if row["num_seeds"] != row["num_seeds_alone"]:
            seeds += f" / {row['num_seeds_alone']}"
        table.add_row(
            row["task"], _others(row), f"{row['corpus']} {row['split']}", metric_name(row["metric"]),
            f"{row['num_clips']} in {row['num_groups']}", seeds, number(row["alone"]), number(row["joint"]),
            f"{number(difference.value, True)} {between(difference, True)}", *ps, row["verdict"],
        )  # fmt: skip
    return table


def _others(row: Mapping[str, Any]) -> str:
    return ", ".join(task for task in row["tasks"] if task != row["task"])


def _matrix(report: Mapping[str, Any]) -> Table:
    """Lay out a row per task, a column per set of others that it was trained with."""
    cells: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in report["figures"]:
        cells.setdefault(row["task"], {}).setdefault(_others(row), []).append(row)
    columns = list(dict.fromkeys(others for by_others in cells.values() for others in by_others))
    table = table_of(("task",), [f"with {others}" for others in columns])
    for task, by_others in cells.items():
        table.add_row(task, *(_summary(by_others.get(others, [])) for others in columns))
    return table


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    known = [row["difference"]["value"] for row in rows if row["difference"]["value"] is not None]
    if not known:
        return "-"
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("helped", "hurt")}
    verdicts = ", ".join(f"{count} of {len(rows)} {verdict}" for verdict, count in counts.items() if count)
    return f"{np.mean(known):+.2f}" + (f" ({verdicts})" if verdicts else "")


def _spans(rows: Sequence[Mapping[str, Any]], names: Sequence[str], counts_negative: bool = False) -> Table:
    """Lay out a row per trajectory: its first, middle and last value, its mean."""
    table = table_of(("trained", *names), ("first", "middle", "last", "mean", *(["epochs below 0"] * counts_negative)))
    for row in rows:
        values = row["values"]
        shown = [values[0], values[len(values) // 2], values[-1], float(np.mean(values))]
        below = sum(value < 0 for value in values)
        table.add_row(
            ", ".join(row["tasks"]), *(row[name] for name in names), *(f"{value:.3f}" for value in shown),
            *([f"{below} of {len(values)}"] * counts_negative),
        )  # fmt: skip
    return table
