"""The commands `mmpsr evaluate`, `compare` and `verify`: figures of runs, their differences, and whether they hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from corpora.clips import CorpusError
from encoders.errors import ExtractionError, StoreError
from mmpsr.config import ConfigError
from training.commands.common import print_error
from training.evaluation.compare import compare_runs
from training.evaluation.evaluate import EvaluationOptions, evaluate
from training.evaluation.seeds import over_seeds, require_seeds
from training.runs.directory import RunError
from training.runs.stored import StoredRun
from training.runs.verify import verify_run
from training.scoring.tables import between, metric_name, number, seed_tables, tables

__all__ = ["compare_command", "evaluate_command", "evaluate_several", "verify_command"]


def evaluate_command(paths: Sequence[Path], options: EvaluationOptions, as_json: bool) -> int:
    """Evaluate and print.

    Args:
        paths: run directories; several that differ in their seed alone are summed up.
        options: what to evaluate.
        as_json: one document instead of tables.

    Returns:
        Exit status: 2 where a run cannot be read, has no such split or column, or was trained on the clips.
    """
    try:
        with redirect_stdout(sys.stderr):  # whatever reading says, stdout is for the figures
            document = evaluate(paths[0], options) if len(paths) == 1 else evaluate_several(paths, options)
    except (RunError, ConfigError, CorpusError, ExtractionError, StoreError) as error:
        print_error(error)
        return 2
    if as_json:
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in tables(document) if len(paths) == 1 else seed_tables(document):
        console.print(table, highlight=False)
    return 0


def evaluate_several(paths: Sequence[Path], options: EvaluationOptions) -> dict[str, Any]:
    """Runs of one configuration with different seeds.

    Returns:
        `runs`, `seeds`, `over_seeds`, `adapted_over_seeds` and `subsets_over_seeds` (see
        `training.evaluation.seeds.over_seeds`), and `evaluations`, the document of each run.

    Raises:
        RunError: the configurations differ in more than the seed, and as `training.evaluation.evaluate.evaluate`.
    """
    seeds = require_seeds([StoredRun.read(path) for path in paths])
    found = [evaluate(path, options) for path in paths]
    return {
        "runs": [str(path) for path in paths],
        "seeds": seeds,
        "over_seeds": over_seeds(found),
        "adapted_over_seeds": over_seeds(found, "adapted"),
        "subsets_over_seeds": over_seeds(found, "subsets"),
        "evaluations": found,
    }


def compare_command(first: Path, second: Path, split: str | None, as_json: bool) -> int:
    """Compare and print.

    Returns:
        Exit status: 2 where the runs cannot be compared.
    """
    try:
        found = compare_runs(StoredRun.read(first), StoredRun.read(second), split)
    except (RunError, ConfigError) as error:
        print_error(error)
        return 2
    if as_json:
        typer.echo(json.dumps({"first": str(first), "second": str(second), **found}, indent=2, allow_nan=False))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(f"first: {first}\nsecond: {second}", highlight=False, markup=False)
    for table in _tables(found):
        console.print(table, highlight=False)
    return 0


def _tables(found: Mapping[str, Any]) -> Iterator[Table | str]:
    yield "Second - first on common clips, percentage points"
    table = Table()
    for name in ("corpus", "split", "task", "metric"):
        table.add_column(name)
    for name in ("clips", "groups", "first", "second", "difference", "95 % interval", "p", "corrected p"):
        table.add_column(name, justify="right")
    for row in found["figures"]:
        difference = row["difference"]
        table.add_row(
            row["corpus"], row["split"], row["task"], metric_name(row["metric"]), str(row["num_clips"]),
            str(row["num_groups"]), number(row["first"]), number(row["second"]), number(difference["value"], True),
            between(difference, True).replace("[", r"\["), _p(row["p"]), _p(row["corrected_p"]),
        )  # fmt: skip
    yield table
    yield "Clips taken as independent"
    table = Table()
    for name in ("corpus", "split", "task", "test"):
        table.add_column(name)
    for name in ("p", "corrected p"):
        table.add_column(name, justify="right")
    for row in found["clips"]:
        test = row["test"]
        if test == "McNemar":
            test += f" (right: {row['only_first']} first only, {row['only_second']} second only)"
        table.add_row(row["corpus"], row["split"], row["task"], test, _p(row["p"]), _p(row["corrected_p"]))
    yield table
    fewer = {(row["corpus"], row["task"]) for row in found["figures"] if row["num_clips"] < max(_counts(row))}
    for corpus, task in sorted(fewer):
        yield f"{corpus}, {task}: some clips were evaluated by one run only and are left out"
    yield "p corrected over the rows of its table (Holm); a difference counts where it is below 0.05."


def _counts(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["num_first"], row["num_second"]


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def verify_command(path: Path, as_json: bool) -> int:
    """Verify and say what was found.

    Returns:
        Exit status: 1 where something is not what it should be, 2 where there is no finished run.
    """
    try:
        problems = verify_run(path)
    except (RunError, ConfigError) as error:
        Console(stderr=True, width=None if sys.stderr.isatty() else 1000).print(
            f"error: {error}", style="bold red", highlight=False, markup=False
        )
        return 2
    if as_json:
        typer.echo(json.dumps({"run": str(path), "problems": problems}, indent=2))
    else:
        for problem in problems:
            typer.echo(problem)
        typer.echo(
            f"{path}: {len(problems)} thing(s) are not what they should be"
            if problems
            else f"{path}: every file is unchanged and every figure follows from the stored predictions"
        )
    return 1 if problems else 0
