"""Cells of a study computed by the parts of a training run, in processes.

One that was stopped continues from its checkpoint; one of another configuration is set aside as `<seed>.replaced-<k>`
and computed anew. A lock that a process holds on the cell it computes keeps a second one from computing it, too.

With one worker the calling process computes. With several each is a process of its own, in a session of its own, so
that Ctrl-C reaches the calling process alone, which asks each worker once to stop: it writes a checkpoint and ends. A
worker whose parent has died, however, asks itself.
"""

from __future__ import annotations

import io
import os
import platform
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from filelock import FileLock
from rich.console import Console

from corpora.clips import CorpusError
from encoders.errors import ExtractionError
from mmpsr.config import ConfigError
from mmpsr.errors import Interrupted
from training.config import RunConfig
from training.data.load import RunData, extract_features, load_clips, load_run_data
from training.data.selection import active_features
from training.linear.baseline import LinearBaseline
from training.linear.late import create_baseline
from training.pipeline import train_joined
from training.runs.accelerator import create_accelerator
from training.runs.directory import RunDirectory, package_versions
from tuning.study.config import Cell

__all__ = ["INPUTS", "CellRunner", "Stopped", "compute", "prepare"]

FAILURE, INPUTS = "failure.txt", "inputs.json"

PATIENCE = 60.0
"""Seconds that workers have to write a checkpoint."""

Report = Callable[[Cell, str | None, float], None]


class Stopped(Interrupted):
    """The study was stopped by a signal; what is complete is kept."""


def prepare(config: RunConfig, accelerator: Accelerator) -> tuple[RunData, LinearBaseline]:
    """Load what cells with the same corpora, features and tasks share, and fit the linear baseline on it.

    Nothing is printed but extraction's progress: what a run would say is in the folder of each cell.
    """
    data = load_run_data(config, accelerator)
    return data, create_baseline(config, data.joined, config.tasks.resolve())


class CellRunner:
    """Computes cells one after another, and keeps the data of the last one."""

    def __init__(self) -> None:
        self._data: tuple[str, RunData, LinearBaseline] | None = None
        self._refused: dict[str, Exception] = {}
        torch.set_num_threads(1)  # sums depend on how they are split over threads

    def run(self, cell: Cell) -> str | None:
        """Compute a cell, or continue it.

        Returns:
            Why it failed, in one line, with the whole story in its folder's `failure.txt`; None where it is done.

        Raises:
            Interrupted: a signal came in training, and a checkpoint was written.
        """
        cell.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cell.path.parent / f".{cell.path.name}.lock"):
            if cell.is_done:
                return None
            run = _open(cell)
            try:
                self._compute(cell.config, cell.data_key, run)
            except Interrupted:
                raise
            except Exception as error:
                (run.path / FAILURE).write_text(traceback.format_exc(), encoding="utf-8")
                return f"{type(error).__name__}: {' '.join(str(error).split())}"
        return None

    def _compute(self, config: RunConfig, data_key: str, run: RunDirectory) -> None:
        AcceleratorState._reset_state()  # it refuses another precision than that of the first cell
        accelerator = create_accelerator(config)
        if self._data is None or self._data[0] != data_key:
            self._data = None  # the old one need not stay while the new one is made
            if data_key in self._refused:
                raise self._refused[data_key]  # the row's other seeds need not try in vain again
            try:
                self._data = data_key, *prepare(config, accelerator)
            except (ConfigError, CorpusError, ExtractionError) as error:
                self._refused[data_key] = error
                raise
        _, data, baseline = self._data
        run.write_json(INPUTS, data.hashes)
        train_joined(config, data, baseline, accelerator, run, lambda message: None)


def _open(cell: Cell) -> RunDirectory:
    """Make the cell's folder, with its configuration and versions in it."""
    stored = cell.stored_digest
    if stored is not None and stored != cell.digest:
        number = 1
        while (aside := cell.path.with_name(f"{cell.path.name}.replaced-{number}")).exists():
            number += 1
        cell.path.rename(aside)
    cell.path.mkdir(exist_ok=True)
    run = RunDirectory(cell.path)
    (run.path / FAILURE).unlink(missing_ok=True)
    if stored != cell.digest:
        run.write_json("versions.json", {"python": platform.python_version(), **package_versions()})
        run.write_json("config.json", cell.config.model_dump(mode="json"))
    return run


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    cell: Cell | None = None
    started: float = 0.0
    data_key: str | None = None


def compute(cells: Sequence[Cell], num_workers: int, report: Report) -> None:
    """Compute cells; one that fails does not stop the others.

    Args:
        cells: what is to be computed.
        num_workers: processes, each with one thread.
        report: called after every cell with the reason why it failed (None where it is done) and its seconds.

    Raises:
        Stopped: SIGINT or SIGTERM came.
    """
    with _terminable():
        try:
            if num_workers == 1:
                runner = CellRunner()
                for cell in cells:
                    started = time.monotonic()
                    report(cell, runner.run(cell), time.monotonic() - started)
            elif cells:
                _extract(cells)
                _share(list(cells), min(num_workers, len(cells)), report)
        except (Interrupted, KeyboardInterrupt):
            raise Stopped from None


def _extract(cells: Sequence[Cell]) -> None:
    """Extract what the store lacks before workers read from it; what fails here fails in the cell, which says why."""
    accelerator = Accelerator(cpu=True)
    for config in {cell.data_key: cell.config for cell in cells}.values():
        with suppress(Exception):
            clips = load_clips(config, config.tasks.resolve(), accelerator).clips
            features = active_features(config.features, config.data.modalities)
            extract_features(clips, features, accelerator, Console(file=io.StringIO()))


def _share(cells: list[Cell], num_workers: int, report: Report) -> None:
    workers = [_start() for _ in range(num_workers)]
    try:
        while cells or any(worker.cell is not None for worker in workers):
            for worker in workers:
                if worker.cell is None and cells:
                    _give(worker, cells)
            busy = {worker.connection: worker for worker in workers if worker.cell is not None}
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                cell, seconds = worker.cell, time.monotonic() - worker.started
                assert cell is not None
                worker.cell = None
                try:
                    report(cell, worker.connection.recv(), seconds)
                except EOFError:
                    worker.process.join()
                    code = worker.process.exitcode
                    report(cell, f"its process ended with exit code {code}; the same command continues it", seconds)
                    workers[workers.index(worker)] = _start()
    finally:
        _stop(workers)


def _start() -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read when the process loads its libraries
    process = context.Process(target=_work, args=(theirs, os.getpid()))
    process.start()
    theirs.close()
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before
    return _Worker(process, ours)


def _give(worker: _Worker, cells: list[Cell]) -> None:
    """Hand over the next cell, one that needs the data which the worker holds where there is any."""
    index = next((i for i, cell in enumerate(cells) if cell.data_key == worker.data_key), 0)
    worker.cell, worker.started = cells.pop(index), time.monotonic()
    worker.data_key = worker.cell.data_key
    with suppress(BrokenPipeError):  # its end is seen, and told, when it is waited for
        worker.connection.send(worker.cell)


def _stop(workers: Sequence[_Worker]) -> None:
    """End idle workers, and let busy ones write a checkpoint."""
    for worker in workers:
        worker.connection.close()
        if worker.cell is not None:
            worker.process.terminate()
    deadline = time.monotonic() + PATIENCE
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()


def _work(connection: Connection, parent: int) -> None:
    """Compute the cells that a worker is sent, until there is no one to send any."""
    os.setsid()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    runner = CellRunner()
    try:
        while True:
            connection.send(runner.run(connection.recv()))
    except (EOFError, BrokenPipeError, Interrupted, KeyboardInterrupt):
        return


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, in the main thread."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
