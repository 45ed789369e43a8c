"""Worker processes of this machine, and encoders that outlive an extraction."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import forkserver
from typing import Any, Self

from encoders.base import Encoder
from encoders.config import FeaturesConfig
from encoders.errors import ExtractionError
from encoders.extraction.jobs import start_worker
from encoders.extraction.preload import MODULES
from encoders.extraction.read import make_encoders
from encoders.workers import Threads
from mmpsr.executors.base import LOCAL, ONE_THREAD, Engine, end_executor, works_away
from mmpsr.executors.build import open_engine

__all__ = ["LocalPool", "WarmEncoders", "modules_of", "start_engine"]


class LocalPool(Engine):
    """Worker processes of this machine, started with the first job.

    Args:
        num_workers: how many.
        modules: what they need, see `modules_of`.
    """

    name = LOCAL

    def __init__(self, num_workers: int, modules: Collection[str] = ()) -> None:
        self.pool: ProcessPoolExecutor | None = None
        self._most, self._alone, self._modules = num_workers, False, modules

    def __enter__(self) -> Self:
        if self._modules:
            _start_server(self._modules)
        return self

    @property
    def num_workers(self) -> int:
        """Processes, whether they have been started or not."""
        return 1 if self._alone else self._most

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Give a job to the processes."""
        if self.pool is None:
            self.pool = start_pool(self.num_workers, self._modules)
        try:
            return self.pool.submit(function, *arguments)
        except (EOFError, ConnectionError) as error:  # the process that workers are forked from has died
            raise ExtractionError(
                f"worker processes cannot be started: one of {', '.join(self._modules)} ended the process that "
                "imported it, as a library does that was built for another processor; reinstall it, or leave its "
                "encoder out"
            ) from error

    def renew(self, alone: bool = False) -> None:
        """End the processes; new ones start with the next job, or one where jobs come one at a time."""
        self.close(at_once=True)
        self._alone = alone

    def close(self, at_once: bool = False) -> None:
        """End the processes."""
        if self.pool is not None:
            end_executor(self.pool, at_once)
            self.pool = None


def start_engine(executor: str, num_workers: int, modules: Collection[str] = ()) -> Engine:
    """Make worker processes of this machine, or the connection to those of elsewhere.

    A process that is itself such a worker does all in a thread of its own: it may have no children.

    Args:
        executor: see `mmpsr.executors`.
        num_workers: how many, where the executor does not tell.
        modules: what worker processes need, see `modules_of`.

    Raises:
        ExecutorError: see `mmpsr.executors.open_engine`.
        MissingExtraError: Dask is not installed.
    """
    if works_away():
        return Threads("encode")
    return LocalPool(num_workers, modules) if executor == LOCAL else open_engine(executor, num_workers)


def start_pool(num_workers: int, modules: Iterable[str] = ()) -> ProcessPoolExecutor:
    """Start worker processes, each of them prepared as `start_worker` says.

    On Linux they are forked from a process that has imported what they need, once for all; elsewhere, where forking is
    not safe, each imports it.

    Args:
        num_workers: how many.
        modules: what they need, see `modules_of`.
    """
    context = multiprocessing.get_context("forkserver" if _start_server(modules) else "spawn")
    return ProcessPoolExecutor(num_workers, context, initializer=start_worker, initargs=(dict(os.environ),))


def _start_server(modules: Iterable[str]) -> bool:
    """Have the process that workers are forked from begin to import; False where there is none."""
    if sys.platform != "linux":
        return False
    wanted = {**ONE_THREAD, MODULES: ",".join([start_worker.__module__, *modules])}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        forkserver.set_forkserver_preload([f"{__package__}.preload"])
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return True


def modules_of(encoders: Iterable[Encoder]) -> list[str]:
    """List the modules that encoders need for their work, their own first."""
    return list(dict.fromkeys(name for encoder in encoders for name in (type(encoder).__module__, *encoder.libraries)))


class WarmEncoders:
    """Encoders that stay loaded from one extraction to the next; a context manager, which ends what it started.

    An extraction of its own starts worker processes, which import libraries and load weights: seconds that one clip is
    not worth.

    Args:
        config: which encoders.
        num_processes: worker processes; with 0, one thread of this process does all the work, so that extractions of
            several threads take turns. An executor of elsewhere has its own.

    Raises:
        ConfigError: a modality or an encoder is not known.
        ExtractionError: an encoder cannot be imported.
    """

    def __init__(self, config: FeaturesConfig, num_processes: int = 0) -> None:
        self.encoders = make_encoders(config)
        self.engine: Engine = Threads("encode")
        if config.executor != LOCAL:
            self.engine = open_engine(config.executor, max(1, num_processes))
        elif num_processes:
            self.engine = LocalPool(num_processes, modules_of(self.encoders.values()))

    def __enter__(self) -> WarmEncoders:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(at_once=kind is not None)

    def close(self, at_once: bool = False) -> None:
        """End processes or thread; with `at_once` processes stop in the midst of their work."""
        self.engine.close(at_once)
