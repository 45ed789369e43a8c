"""Worker processes of an extraction, what happens when one dies, and encoders that outlive an extraction."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import forkserver
from typing import Any

from encoders.base import Encoder
from encoders.config import FeaturesConfig
from encoders.errors import ExtractionError
from encoders.extraction.jobs import ONE_THREAD, Job, Result, encode_job, start_worker
from encoders.extraction.preload import MODULES
from encoders.extraction.read import make_encoders

__all__ = ["WarmEncoders", "Workers", "end_workers", "modules_of", "start_pool"]

_NAMED = 8  # clips that a message names; a chunk may have hundreds


@dataclass
class Workers:
    """Worker processes, started with the first chunk, and the chunks that they have.

    Attributes:
        num_workers: how many.
        shared: what works in their stead and outlives this, see `WarmEncoders`.
        modules: what own processes need, see `modules_of`.
        task: what is done with a chunk.
        jobs: chunks in flight.
        pool: own processes.
    """

    num_workers: int
    shared: Executor | None = None
    modules: Collection[str] = ()
    task: Callable[[Job], Result] = encode_job
    jobs: dict[Future[Result], Job] = field(default_factory=dict)
    pool: ProcessPoolExecutor | None = None

    @property
    def limit(self) -> int:
        """Most chunks in flight: one per worker, and one ready for each so that none waits."""
        return 2 * self.num_workers

    def __enter__(self) -> Workers:
        if self.shared is None:
            _start_server(self.modules)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.pool is not None:
            end_workers(self.pool, at_once=kind is not None)
        for future in self.jobs:
            future.cancel()

    def submit(self, job: Job) -> None:
        """Hand a chunk to the workers."""
        if self.pool is None and self.shared is None:
            self.pool = start_pool(self.num_workers, self.modules)
        try:
            future = (self.shared or self.pool).submit(self.task, job)  # type: ignore[union-attr]
        except BrokenProcessPool:  # it broke since the last look; `completed` names the clips
            future = Future()
            future.set_exception(BrokenProcessPool())
        self.jobs[future] = job

    def completed(
        self, timeout: float, quiet: bool = False, others: Collection[Future[Any]] = ()
    ) -> Iterator[tuple[Job, Result]]:
        """Chunks whose result has come, each handed out once.

        Args:
            timeout: seconds to wait for the first.
            quiet: pass over chunks that went wrong.
            others: whatever else ends the waiting when it is done.

        Raises:
            ExtractionError: a worker died, or cannot work.
        """
        finished = wait([*self.jobs, *others], timeout, FIRST_COMPLETED).done
        for future in [future for future in self.jobs if future in finished]:
            error = future.exception()
            if error is None:
                yield self.jobs.pop(future), future.result()
            elif isinstance(error, BrokenProcessPool) and not quiet:
                raise ExtractionError(self._obituary()) from error
            elif not quiet:
                raise error

    def _obituary(self) -> str:
        broken = [job for future, job in self.jobs.items() if not future.done() or future.exception() is not None]
        at_work = broken[: self.num_workers]  # jobs start in the order of submission
        suspects = [f"{job.corpus}/{clip['clip_id']}" for job in at_work for clip in job.clips]
        more = f" and {len(suspects) - _NAMED:,} more" if len(suspects) > _NAMED else ""
        return (
            f"a worker process died while it encoded one of these clips: {', '.join(suspects[:_NAMED])}{more}. Out of "
            "memory is the usual cause (fewer features.num_workers, smaller features.chunk_size); a damaged media file "
            "is another. Everything complete is kept and the same command continues; with features.num_workers=1 and "
            "features.chunk_size=1 this message names the one clip"
        )


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


def end_workers(pool: ProcessPoolExecutor, at_once: bool) -> None:
    """End worker processes: when their work is done, or in the midst of it (minutes that nobody wants any more)."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=not at_once, cancel_futures=True)
    if at_once:
        for process in processes:
            process.terminate()


class WarmEncoders:
    """Encoders that stay loaded from one extraction to the next; a context manager, which ends what it started.

    An extraction of its own starts worker processes, which import libraries and load weights: seconds that one clip is
    not worth.

    Args:
        config: which encoders.
        num_processes: worker processes; with 0, one thread of this process does all the work, so that extractions of
            several threads take turns.

    Raises:
        ConfigError: a modality or an encoder is not known.
        ExtractionError: an encoder cannot be imported.
    """

    def __init__(self, config: FeaturesConfig, num_processes: int = 0) -> None:
        self.encoders = make_encoders(config)
        self.executor: Executor
        if num_processes:
            self.executor = start_pool(num_processes, modules_of(self.encoders.values()))
        else:
            self.executor = ThreadPoolExecutor(1, "encode")

    def __enter__(self) -> WarmEncoders:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(at_once=kind is not None)

    def close(self, at_once: bool = False) -> None:
        """End processes or thread; with `at_once` processes stop in the midst of their work."""
        if isinstance(self.executor, ProcessPoolExecutor):
            end_workers(self.executor, at_once)
        else:
            self.executor.shutdown(wait=not at_once, cancel_futures=True)
