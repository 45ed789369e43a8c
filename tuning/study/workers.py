"""Processes that compute a study's cells.

With one worker the calling process computes. With several each is a process of its own, in a session of its own, so
that Ctrl-C reaches the calling process alone, which asks each worker once to stop: it writes a checkpoint and ends. A
worker whose parent has died, however, asks itself.
"""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from accelerate import Accelerator
from rich.console import Console

from mmpsr.errors import Interrupted
from training.data.joined import active_features
from training.data.load import extract_features, load_clips
from tuning.study.cells import CellRunner
from tuning.study.config import Cell

__all__ = ["Stopped", "compute"]

PATIENCE = 60.0
"""Seconds that workers have to write a checkpoint."""

Report = Callable[[Cell, str | None, float], None]


class Stopped(Interrupted):
    """The study was stopped by a signal; what is complete is kept."""


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
    """What a worker does: compute the cells that it is sent, until there is no one to send any."""
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
    """SIGTERM as KeyboardInterrupt, in the main thread."""

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
