"""Cells of a study by an executor: what this process would compute, whatever dies."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from mmpsr.config import ConfigError
from mmpsr.executors.base import Engine
from tests.support import executors
from tests.tuning.study.test_fill import MF1, STUDY, faked, place, quiet, result, write
from tuning.study import executor as study_executor
from tuning.study.config import Cell, load_study
from tuning.study.executor import share_by
from tuning.study.fill import run_study

__all__ = ["place"]

THREADS = "features.executor=tests.support.executors:threads"


def test_cells_by_an_executor_are_those_of_this_process(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = executors.jobs_of_threads(monkeypatch)

    def results(row: str, seed: int) -> object:
        if (row, seed) == ("full", 1):
            raise RuntimeError("out of memory")
        return result(60.0 + seed, 70.0)

    trained, console = faked(monkeypatch, results), quiet()
    study = load_study("study.toml", [THREADS])
    table = run_study(study, 1, console)
    assert asked.count("compute_there") == 6
    assert set(asked) == {"encode_job", "compute_there"}  # what the store lacks is there before
    assert sorted(trained) == sorted(f"{row}/{seed}" for row in ("full", "w-o-graph", "text-only") for seed in (0, 1))
    assert table.missing == {"full": {1: "RuntimeError: out of memory"}}
    assert table.estimates(MF1)["w/o graph"].mean == 60.5
    assert "[6/6]" in console.file.getvalue()  # type: ignore[attr-defined]
    assert load_study("study.toml").cells[0].is_done  # who computed it makes no other cell of it
    run_study(load_study("study.toml", [THREADS]), 1, quiet())
    assert trained[6:] == ["full/1"]


def test_a_study_has_one_executor(place: Path) -> None:
    write(STUDY.replace('"model.graph" = "none"', '"model.graph" = "none", "features.executor" = "here.there:make"'))
    with pytest.raises(ConfigError, match=r"one executor; found row 'full' 'local'; row 'w/o graph' 'here"):
        run_study(load_study("study.toml"), 1, quiet())


class KilledWorker(Exception):  # noqa: N818  Dask's name
    """A job was given up."""


class Cluster(Engine):
    """Computes at once; a group with seed 1 is given up."""

    name, num_workers = "dask://node7:8786", 2

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        (group,) = arguments
        if any(cell.seed == 1 for cell in group.cells):
            future.set_exception(KilledWorker())
        else:
            future.set_result(function(group))
        return future

    def has_killed(self, error: BaseException | None) -> bool:
        return isinstance(error, KilledWorker)


def test_a_cell_that_kills_its_workers_costs_no_other(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faked(monkeypatch, lambda *_: result(60.0, 70.0))
    cells = load_study("study.toml", [], [0, 1, 2]).cells
    told: list[tuple[str, int, str | None]] = []

    def report(cell: Cell, reason: str | None, seconds: float) -> None:
        told.append((cell.row, cell.seed, reason))

    share_by(Cluster(), [cells[:3], cells[3:4]], report)
    killed = "its workers died, one after another; the same command continues it"
    assert sorted(told[:-1]) == [("full", 0, None), ("full", 2, None), ("w/o graph", 0, None)]
    assert told[-1] == ("full", 1, killed)  # which is tried alone, after all others


def test_a_cell_that_is_not_to_be_seen_has_failed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_executor, "SLOW", 0.0)
    monkeypatch.setattr(study_executor, "compute_there", lambda group: [(0, None, 1.0)])
    told: list[str | None] = []
    cell = load_study("study.toml").cells[0]
    share_by(Cluster(), [[cell]], lambda cell, reason, seconds: told.append(reason))
    assert told == [
        f"its worker wrote {cell.path}, which is not to be seen here; set an output.directory that all share"
    ]
