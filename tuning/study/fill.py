"""The filling of a study: every cell computed, and its tables written."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from mmpsr.config import ConfigError
from mmpsr.executors.base import LOCAL
from mmpsr.executors.build import open_engine
from mmpsr.files import sha256_of, write_whole
from training.fit.live import PAUSE, LiveLines
from training.runs.accelerator import require_trackers
from training.runs.directory import package_versions, read_json
from training.stacked.grouping import reason_alone
from tuning.study.config import Cell, Study
from tuning.study.executor import share_by
from tuning.study.rendering import to_csv, to_latex, to_markdown
from tuning.study.table import StudyTable, read_table
from tuning.study.workers import INPUTS, compute

__all__ = ["run_study", "write_tables"]

TOLERANCE = 0.01
"""Points (percent) that a figure recomputed from stored predictions may differ from the table's."""


def run_study(study: Study, num_workers: int, console: Console) -> StudyTable:
    """Compute the cells that are not done, and write tables and manifest, also where it is stopped in between.

    Args:
        study: valid rows; their `features.executor` says who computes.
        num_workers: processes, each with one thread; those of an executor that does not tell how many it has.
        console: where progress goes.

    Returns:
        The table.

    Raises:
        ConfigError: rows name several executors.
        ExecutorError: nobody answers at the executor.
        ExtractionError: see `tuning.study.executor.share_by`.
        Stopped: see `tuning.study.workers.compute`.
    """
    todo = [cell for cell in study.cells if not cell.is_done]
    executor = _executor_of(todo)
    order = {key: number for number, key in enumerate(dict.fromkeys(cell.data_key for cell in study.cells))}
    for cell in todo[:1]:  # what is missing would fail every cell
        require_trackers(cell.config)
    todo.sort(key=lambda cell: order[cell.data_key])  # a process keeps the clips of its last cell
    folds = f" over {study.config.folds} folds" if study.config.folds else ""
    console.print(
        f"study {study.name}: {len(study.rows)} rows with {len(study.config.seeds)} seeds{folds}, "
        f"{len(study.cells) - len(todo)} of {len(study.cells)} cells are done; in {study.folder}",
        highlight=False, markup=False,
    )  # fmt: skip
    for row, reason in study.inapplicable.items():
        console.print(f"row {row!r} does not apply: {reason}", highlight=False, markup=False)
    stack = study.config.stack and not study.config.columns.cost
    for reason, rows in _alone(todo).items() if stack else ():
        console.print(
            f"runs of {', '.join(map(repr, rows))} are trained one by one: {reason} is not stacked",
            highlight=False, markup=False,
        )  # fmt: skip
    study.folder.mkdir(parents=True, exist_ok=True)
    failed: dict[tuple[str, int], str] = {}
    taken: list[float] = []

    def report(cell: Cell, reason: str | None, seconds: float) -> None:
        taken.append(seconds)
        number = num_workers if engine is None else engine.num_workers
        left = timedelta(seconds=round(sum(taken) / len(taken) * (len(todo) - len(taken)) / number))
        if reason is not None:
            failed[cell.row, cell.seed] = reason
        outcome = "done" if reason is None else f"failed: {reason}"
        console.print(
            f"[{len(taken)}/{len(todo)}] {cell.row}, seed {cell.seed}: {outcome} ({seconds:.0f} s, about {left} left)",
            highlight=False, markup=False,
        )  # fmt: skip

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    try:
        with (
            nullcontext() if executor == LOCAL else open_engine(executor, num_workers) as engine,
            LiveLines(console, pause=PAUSE) as lines,
        ):
            if engine is None:
                compute(todo, num_workers, report, stack, say, show=lines.show)
            else:
                compute(todo, engine.num_workers, report, stack, say, partial(share_by, engine))
    finally:
        table = write_tables(study, failed)
    return table


def _executor_of(cells: Sequence[Cell]) -> str:
    """Name the executor of all cells."""
    names: dict[str, str] = {}
    for cell in cells:
        names.setdefault(cell.config.features.executor, cell.row)
    if len(names) > 1:
        rows = "; ".join(f"row {row!r} {name!r}" for name, row in names.items())
        raise ConfigError(f"features.executor: a study has one executor; found {rows}; set it for all rows")
    return next(iter(names), LOCAL)


def _alone(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Name the rows whose runs cannot be part of a stack, by the reason."""
    rows: dict[str, list[str]] = {}
    for row, config in {cell.row: cell.config for cell in cells}.items():
        if (reason := reason_alone(config)) is not None:
            rows.setdefault(reason, []).append(row)
    return rows


def write_tables(study: Study, failed: Mapping[tuple[str, int], str]) -> StudyTable:
    """Write `table.md`, `table.tex`, `table.csv`, `table.json` and `manifest.json` of what is done.

    Args:
        study: the study.
        failed: why cells failed, by row and seed.
    """
    table, compare_to = read_table(study, failed), study.config.compare_to
    texts = {
        "table.md": to_markdown(table, study.name, compare_to),
        "table.tex": to_latex(table, study.name),
        "table.csv": to_csv(table, compare_to),
        "table.json": table.to_json(),
    }
    texts["manifest.json"] = json.dumps(_manifest(study, table, texts), indent=2) + "\n"
    for name, text in texts.items():
        write_whole(study.folder / name, text)
    return table


def _manifest(study: Study, table: StudyTable, texts: Mapping[str, str]) -> dict[str, Any]:
    """Collect what is needed to check the table, or to make it again."""
    cells = {}
    for cell in study.cells:
        entry: dict[str, Any] = {"folder": cell.path.relative_to(study.folder).as_posix(), "configuration": cell.digest}
        if cell.seed in table.missing.get(cell.row, {}):
            entry["missing"] = table.missing[cell.row][cell.seed]
        else:
            entry["inputs"] = read_json(cell.path, INPUTS)
            for name in ("results.json", "predictions.parquet"):
                entry[name] = sha256_of(cell.path / name)
        cells[f"{cell.row}/{cell.seed}"] = entry
    return {
        "study": study.name,
        "command": sys.argv,
        "versions": {"python": platform.python_version(), **package_versions()},
        "inapplicable": dict(study.inapplicable),
        "compare_to": study.config.compare_to,
        "warnings": table.warnings,
        "files": {Path(path).name: sha256_of(Path(path)) for path in dict.fromkeys((study.path, study.base))},
        "seeds": list(study.config.seeds),
        "folds": study.config.folds,
        "tolerance": TOLERANCE,
        "cells": cells,
        "tables": {name: sha256_of(text) for name, text in texts.items()},
    }
