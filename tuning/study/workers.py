"""Cells of a study computed by the parts of a training run, in processes.

Cells of one shape are trained together, as a stack, see `training.stacked`; what a stack cannot hold is trained alone.

One that was stopped continues from its checkpoint; one of another configuration is set aside as `<seed>.replaced-<k>`
and computed anew. A lock that a process holds on the cell it computes keeps a second one, of this machine or of another
on the same folder, from computing it, too: that one goes on to others, and comes back for what was left.

With one worker the calling process computes. With several each is a process of its own, in a session of its own, so
that Ctrl-C reaches the calling process alone, which asks each worker once to stop: it writes a checkpoint and ends. A
worker whose parent has died, however, asks itself.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import platform
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from filelock import FileLock, Timeout
from rich.console import Console

from corpora.clips import CorpusError
from encoders.errors import ExtractionError
from mmpsr.config import ConfigError
from mmpsr.errors import Interrupted
from training.config import RunConfig
from training.data.load import RunData, extract_features, load_clips, load_run_data
from training.data.selection import active_features
from training.fit.live import Show, Stand, Watch, showing
from training.linear.baseline import LinearBaseline
from training.linear.late import create_baseline
from training.pipeline import JoinedRun, train_joined, train_joined_together
from training.runs.accelerator import create_accelerator
from training.runs.directory import RunDirectory, package_versions
from training.stacked.grouping import most_together, reason_alone, stack_key
from tuning.study.config import Cell

__all__ = ["INPUTS", "CellRunner", "Report", "Stopped", "compute", "prepare", "put_together"]

FAILURE, ALONE, INPUTS = "failure.txt", "trained_alone.txt", "inputs.json"

HELD = "another process has it"
POLL = 1.0
"""Seconds between looks at cells that other processes hold."""
PATIENCE = 60.0
"""Seconds that workers have to write a checkpoint."""

REFRESH = 0.5
"""Seconds between what a worker tells of where its cells stand."""

Report = Callable[[Cell, str | None, float], None]
Share = Callable[[list[list[Cell]], Report], None]
"""Computes groups of cells."""


class Stopped(Interrupted):
    """The study was stopped by a signal; what is complete is kept."""


def prepare(config: RunConfig, accelerator: Accelerator) -> tuple[RunData, LinearBaseline]:
    """Load what cells with the same corpora, features and tasks share, and fit the linear baseline on it.

    Nothing is printed but extraction's progress: what a run would say is in the folder of each cell.
    """
    data = load_run_data(config, accelerator)
    return data, create_baseline(config, data.joined, config.tasks.resolve())


class CellRunner:
    """Computes cells, one after another or in stacks, and keeps the data of the last ones."""

    def __init__(self, show: Show = lambda name, stand: None) -> None:
        self._show = show
        self._data: dict[str, tuple[RunData, LinearBaseline]] = {}
        self._refused: dict[str, Exception] = {}
        torch.set_num_threads(1)  # sums depend on how they are split over threads

    def run(self, cells: Sequence[Cell], report: Report) -> None:
        """Compute cells that can be trained together, or continue them.

        Args:
            cells: one, or those of a stack.
            report: called after every cell with the reason why it failed, in one line, while the whole story is in its
                folder's `failure.txt`; None where it is done; `HELD` where another process has it, or has done it.
                Seconds are those since the last call.

        Raises:
            Interrupted: a signal came in training, and a checkpoint was written.
        """
        clock = _Clock(report)
        with ExitStack() as locks:
            todo = [cell for cell in cells if _take(cell, locks) and not cell.is_done]
            for cell in cells:
                if cell not in todo:
                    clock.tell(cell, HELD)
            self._keep_data(todo)
            folders = {cell.path: _open(cell) for cell in todo}
            if len(todo) > 1:
                todo = self._together(todo, folders, clock)
            for cell in todo:
                try:
                    with showing(self._show, name_of([cell])) as watch:
                        self._compute(cell.config, cell.data_key, folders[cell.path], watch)
                except Interrupted:
                    raise
                except Exception as error:
                    clock.tell(cell, _failed(folders[cell.path], error))
                else:
                    clock.tell(cell, None)

    def _together(self, cells: list[Cell], folders: Mapping[Path, RunDirectory], clock: _Clock) -> list[Cell]:
        """Compute cells as one stack; give those that are left to be computed alone."""
        runs, stacked = [], []
        for cell in cells:
            try:
                runs.append(self._joined(cell.config, cell.data_key, folders[cell.path]))
                stacked.append(cell)
            except Exception as error:
                clock.tell(cell, _failed(folders[cell.path], error))
        if len(stacked) < 2:
            return stacked
        left = list(stacked)
        try:
            with showing(self._show, name_of(stacked)) as watch:
                for index, problem in train_joined_together(runs, watch):
                    left.remove(stacked[index])
                    reason = None if problem is None else _failed(folders[stacked[index].path], problem)
                    clock.tell(stacked[index], reason)
        except (Interrupted, BrokenPipeError):  # the latter where there is no one left to tell
            raise
        except Exception:  # of one of them or of all: which, they say alone
            for cell in left:
                (folders[cell.path].path / ALONE).write_text(traceback.format_exc(), encoding="utf-8")
        return left

    def _keep_data(self, cells: Sequence[Cell]) -> None:
        """Let go of the data that none of these cells needs: old ones need not stay while new ones are made."""
        needed = {cell.data_key for cell in cells}
        self._data = {key: data for key, data in self._data.items() if key in needed}

    def _joined(self, config: RunConfig, data_key: str, run: RunDirectory) -> JoinedRun:
        AcceleratorState._reset_state()  # it refuses another precision than that of the first cell
        accelerator = create_accelerator(config)
        if data_key not in self._data:
            if data_key in self._refused:
                raise self._refused[data_key]  # the row's other seeds need not try in vain again
            try:
                self._data[data_key] = prepare(config, accelerator)
            except (ConfigError, CorpusError, ExtractionError) as error:
                self._refused[data_key] = error
                raise
        data, baseline = self._data[data_key]
        run.write_json(INPUTS, data.hashes)
        return JoinedRun(config, data, baseline, accelerator, run, lambda message: None)

    def _compute(self, config: RunConfig, data_key: str, run: RunDirectory, watch: Watch) -> None:
        own = self._joined(config, data_key, run)
        train_joined(config, own.data, own.baseline, own.accelerator, run, own.say, watch=watch)


def name_of(cells: Sequence[Cell]) -> str:
    """Name cells that are trained together by their rows and seeds, three of each at most."""
    rows, seeds = (list(dict.fromkeys(each)) for each in ((c.row for c in cells), (str(c.seed) for c in cells)))
    of_rows, of_seeds = (
        ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") for names in (rows, seeds)
    )
    return f"{of_rows}, {'seeds' if len(seeds) > 1 else 'seed'} {of_seeds}"


def _take(cell: Cell, locks: ExitStack) -> bool:
    """Lock a cell until `locks` is closed, if no other process has it."""
    cell.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        locks.enter_context(FileLock(cell.path.parent / f".{cell.path.name}.lock", blocking=False))
    except Timeout:
        return False
    return True


class _Clock:
    """Tells of cells with the seconds since the last one was told of."""

    def __init__(self, report: Report) -> None:
        self.report, self.started = report, time.monotonic()

    def tell(self, cell: Cell, reason: str | None) -> None:
        """Tell of a cell, and begin anew."""
        before, self.started = self.started, time.monotonic()
        self.report(cell, reason, self.started - before)


def _failed(run: RunDirectory, error: Exception) -> str:
    """Write why a cell failed into its folder, and sum it up in a line."""
    (run.path / FAILURE).write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


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
    for name in (FAILURE, ALONE):
        (run.path / name).unlink(missing_ok=True)
    if stored != cell.digest:
        run.write_json("versions.json", {"python": platform.python_version(), **package_versions()})
        run.write_json("config.json", cell.config.model_dump(mode="json"))
    return run


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    cells: list[Cell] = field(default_factory=list)
    started: float = 0.0
    data_key: str | None = None
    shown: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Shown:
    """Where cells of a worker stand, as it sends that; None where they are over."""

    name: str
    stand: Stand | None


def compute(
    cells: Sequence[Cell],
    num_workers: int,
    report: Report,
    stack: bool = True,
    say: Callable[[str], None] = lambda line: None,
    share: Share | None = None,
    show: Show = lambda name, stand: None,
) -> None:
    """Compute cells; one that fails does not stop the others, and one that another process has is waited for last.

    Args:
        cells: what is to be computed.
        num_workers: processes, each with one thread.
        report: called after every cell with the reason why it failed (None where it is done) and its seconds.
        stack: whether to train cells together that can be.
        say: told when there is nothing left but what other processes have, and which of it they have done.
        share: who computes in place of processes of this machine.
        show: told where cells that are being trained stand.

    Raises:
        Stopped: SIGINT or SIGTERM came.
    """
    runner, left, held = CellRunner(show), list(cells), list[Cell]()

    def tell(cell: Cell, reason: str | None, seconds: float) -> None:
        if reason == HELD:
            held.append(cell)
        else:
            report(cell, reason, seconds)

    with _terminable():
        try:
            while left:
                held.clear()
                groups = put_together(left, num_workers) if stack else [[cell] for cell in left]
                if share is not None:
                    _extract(left)
                    share(groups, tell)
                elif num_workers == 1:
                    for group in groups:
                        runner.run(group, tell)
                else:
                    _extract(left)
                    _share(groups, min(num_workers, len(groups)), tell, show)
                left = _wait(held, say)
        except (Interrupted, KeyboardInterrupt):
            raise Stopped from None


def _wait(held: Sequence[Cell], say: Callable[[str], None]) -> list[Cell]:
    """Wait until another process has left a cell undone, tell of those that are done, and give the others."""
    left, is_told = list(held), False
    while left:
        for cell in [cell for cell in left if cell.is_done]:
            say(f"{cell.row}, seed {cell.seed}: done by another process")
            left.remove(cell)
        with ExitStack() as locks:
            if not left or any(_take(cell, locks) for cell in left):
                break
        if not is_told:
            say(f"waiting for cells that other processes have ({len(left)}), and for what they leave undone")
            is_told = True
        time.sleep(POLL)
    return left


def put_together(cells: Sequence[Cell], num_workers: int) -> list[list[Cell]]:
    """Put cells into stacks, no larger than pays and than a worker's share of all; others stay alone.

    Stacks that begin with the same data follow each other.
    """
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        is_alone = reason_alone(cell.config) is not None
        alike.setdefault(cell.digest if is_alone else stack_key(cell.config), []).append(cell)
    most = max(1, min(most_together(), math.ceil(len(cells) / num_workers)))
    groups = []
    for members in alike.values():
        number = math.ceil(len(members) / most)
        bounds = [round(index * len(members) / number) for index in range(number + 1)]
        groups += [members[start:end] for start, end in itertools.pairwise(bounds)]
    order = {key: number for number, key in enumerate(dict.fromkeys(cell.data_key for cell in cells))}
    return sorted(groups, key=lambda group: order[group[0].data_key])


def _extract(cells: Sequence[Cell]) -> None:
    """Extract what the store lacks before workers read from it; what fails here fails in the cell, which says why."""
    accelerator = Accelerator(cpu=True)
    for config in {cell.data_key: cell.config for cell in cells}.values():
        with suppress(Exception):
            clips = load_clips(config, config.tasks.resolve(), accelerator).clips
            features = active_features(config.features, config.data.modalities)
            extract_features(clips, features, accelerator, Console(file=io.StringIO()))


def _share(groups: list[list[Cell]], num_workers: int, report: Report, show: Show) -> None:
    workers = [_start() for _ in range(num_workers)]
    try:
        while groups or any(worker.cells for worker in workers):
            for worker in workers:
                if not worker.cells and groups:
                    _give(worker, groups)
            busy = {worker.connection: worker for worker in workers if worker.cells}
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                try:
                    message = worker.connection.recv()
                except (EOFError, ConnectionResetError):
                    worker.process.join()
                    if len(worker.cells) > 1:  # which of them ended it, they show alone
                        groups += [[cell] for cell in worker.cells]
                    else:
                        code = worker.process.exitcode
                        reason = f"its process ended with exit code {code}; the same command continues it"
                        report(worker.cells[0], reason, time.monotonic() - worker.started)
                    worker.cells = []
                    for name in worker.shown:
                        show(name, None)
                    workers[workers.index(worker)] = _start()
                else:
                    if isinstance(message, _Shown):
                        (worker.shown.discard if message.stand is None else worker.shown.add)(message.name)
                        show(message.name, message.stand)
                        continue
                    path, reason, seconds = message
                    (cell,) = (cell for cell in worker.cells if cell.path == path)
                    worker.cells.remove(cell)
                    worker.started = time.monotonic()
                    report(cell, reason, seconds)
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


def _give(worker: _Worker, groups: list[list[Cell]]) -> None:
    """Hand over the next cells, such that need the data which the worker holds where there are any."""
    index = next((i for i, cells in enumerate(groups) if cells[0].data_key == worker.data_key), 0)
    worker.cells, worker.started = groups.pop(index), time.monotonic()
    worker.data_key = worker.cells[0].data_key
    with suppress(BrokenPipeError, ConnectionResetError):  # its end is seen, and told, when it is waited for
        worker.connection.send(worker.cells)


def _stop(workers: Sequence[_Worker]) -> None:
    """End idle workers, and let busy ones write a checkpoint."""
    for worker in workers:
        worker.connection.close()
        if worker.cells:
            worker.process.terminate()
    deadline = time.monotonic() + PATIENCE
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()


def _work(connection: Connection, parent: int) -> None:
    """Compute the cells that a worker is sent, until there is no one to send any."""
    os.setsid()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    sent = 0.0

    def show(name: str, stand: Stand | None) -> None:
        nonlocal sent
        if stand is None or time.monotonic() - sent >= REFRESH:
            sent = time.monotonic()
            with suppress(OSError):  # there is no one left to tell, which the next result finds, too
                connection.send(_Shown(name, stand))

    runner = CellRunner(show)
    try:
        while True:
            runner.run(connection.recv(), lambda cell, *rest: connection.send((cell.path, *rest)))
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
