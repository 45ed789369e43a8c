"""Cells of a study given to an executor of elsewhere: one process plans, tells and writes the tables, workers train.

All of them work in one folder, which every machine sees; a cell's run is written there by whoever trains it. A worker
that dies leaves a checkpoint, with which the next one goes on. A cell that keeps killing its workers has failed, and
costs no other.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from encoders.workers import Workers
from mmpsr.executors.base import LOCAL, Engine
from tuning.study.config import Cell
from tuning.study.workers import CellRunner, Report

__all__ = ["share_by"]

KILLED = "its workers died, one after another; the same command continues it"
SLOW = 60.0
"""Seconds after which a network's folder shows what another machine has written, at the latest."""

_Outcome = tuple[int, str | None, float]
"""Which cell of a group, why it failed or None, and its seconds."""


@dataclass(frozen=True)
class _Group:
    """Cells that are trained together, for a command of this name."""

    cells: tuple[Cell, ...]
    command: str

    @property
    def names(self) -> list[str]:
        return [f"{cell.row}, seed {cell.seed}" for cell in self.cells]

    @property
    def culprits(self) -> tuple[()]:
        return ()  # whatever number of cells needs too much memory, the next may need less

    def parts(self) -> list[_Group]:
        return [replace(self, cells=(cell,)) for cell in self.cells]

    def dead(self) -> list[_Outcome]:
        return [(0, KILLED, 0.0)]


def share_by(engine: Engine, groups: Sequence[Sequence[Cell]], report: Report) -> None:
    """Have an executor compute cells; with one that dies the others go on.

    Args:
        engine: who computes.
        groups: cells, of which each group is trained together.
        report: see `CellRunner.run`.

    Raises:
        ExtractionError: the connection is lost, or a worker lacks a library; what is complete is kept.
    """
    command = uuid.uuid4().hex
    waiting = deque(_Group(tuple(map(_alone, cells)), command) for cells in groups)
    with Workers(engine, compute_there) as workers:
        while waiting or workers.in_flight:
            while waiting and len(workers.jobs) < min(workers.limit, engine.num_workers):
                workers.submit(waiting.popleft())
            for group, outcomes in workers.completed(1.0):
                for number, reason, seconds in outcomes:
                    cell = group.cells[number]
                    report(cell, _unseen(cell) if reason is None else reason, seconds)


def _alone(cell: Cell) -> Cell:
    """Make a worker find by itself what it still lacks: all others may be waiting for cells of their own."""
    features = cell.config.features.model_copy(update={"executor": LOCAL})
    return replace(cell, config=cell.config.model_copy(update={"features": features}))


def _unseen(cell: Cell) -> str | None:
    """Say that what a worker has written is not to be seen here; None where it is."""
    deadline = time.monotonic() + SLOW
    while not cell.is_done:
        if time.monotonic() > deadline:
            return f"its worker wrote {cell.path}, which is not to be seen here; set an output.directory that all share"
        time.sleep(0.5)
    return None


# What follows runs in the worker processes.

_runners: dict[str, CellRunner] = {}


def compute_there(group: _Group) -> list[_Outcome]:
    """Compute the cells of a group; the clips stay in memory for the next group of the same command."""
    torch.set_num_threads(1)  # sums depend on how they are split over threads, and each thread has a number of its own
    if group.command not in _runners:
        _runners.clear()  # what another command read may have changed since
        _runners[group.command] = CellRunner()
    outcomes: list[_Outcome] = []
    places = {cell.path: number for number, cell in enumerate(group.cells)}
    _runners[group.command].run(group.cells, lambda cell, *rest: outcomes.append((places[cell.path], *rest)))
    return outcomes
