"""Worker processes of an extraction, what happens when one dies, and encoders that outlive an extraction."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import forkserver
from typing import Any

from encoders.base import Encoder
from encoders.config import FeaturesConfig
from encoders.errors import ExtractionError, Failure
from encoders.extraction.jobs import ONE_THREAD, Job, Outcome, Result, encode_job, start_worker
from encoders.extraction.preload import MODULES
from encoders.extraction.read import make_encoders

__all__ = ["WarmEncoders", "Workers", "end_workers", "modules_of", "start_pool"]

_NAMED = 8  # clips that a message names; a chunk may have hundreds
_MOST_DEATHS = 3  # by one encoder, of clips one after another, each alone with its worker
DIED = "the worker process died while it encoded this clip alone (a damaged file, or more memory than there is)"


@dataclass
class Workers:
    """Worker processes, started with the first chunk, and the chunks that they have.

    Where one dies, the chunks that were at work are done again clip by clip in one process, and a clip that kills it
    again encoder by encoder: what kills a process is a failure of that clip, and all others are as ever.

    Attributes:
        num_workers: how many.
        shared: what works in their stead and outlives this, see `WarmEncoders`.
        modules: what own processes need, see `modules_of`.
        task: what is done with a chunk.
        jobs: chunks in flight.
        pool: own processes.
        suspects: jobs to be done one by one, since one of them has killed a process.
        later: jobs that were in flight with them.
    """

    num_workers: int
    shared: Executor | None = None
    modules: Collection[str] = ()
    task: Callable[[Job], Result] = encode_job
    jobs: dict[Future[Result], Job] = field(default_factory=dict)
    pool: ProcessPoolExecutor | None = None
    suspects: deque[Job] = field(default_factory=deque)
    later: list[Job] = field(default_factory=list)
    _is_alone: bool = False
    _dead: dict[tuple[str, str], list[Job]] = field(default_factory=dict)  # by encoder

    @property
    def limit(self) -> int:
        """Most chunks in flight: one per worker, and one ready for each so that none waits; none beside suspects."""
        return 0 if self._is_alone else 2 * self.num_workers

    def __enter__(self) -> Workers:
        if self.shared is None and self.modules:
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
            self.pool = start_pool(1 if self._is_alone else self.num_workers, self.modules)
        try:
            future = (self.shared or self.pool).submit(self.task, job)  # type: ignore[union-attr]
        except BrokenProcessPool:  # it broke since the last look; `completed` sees to it
            future = Future()
            future.set_exception(BrokenProcessPool())
        except (EOFError, ConnectionError) as error:  # the process that workers are forked from has died
            raise ExtractionError(
                f"worker processes cannot be started: one of {', '.join(self.modules)} ended the process that imported "
                "it, as a library does that was built for another processor; reinstall it, or leave its encoder out"
            ) from error
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
            ExtractionError: a worker cannot work, or several clips in a row killed theirs.
        """
        finished = wait([*self.jobs, *others], timeout, FIRST_COMPLETED).done
        if not quiet and any(isinstance(future.exception(), BrokenProcessPool) for future in finished & {*self.jobs}):
            finished = wait(self.jobs).done  # of a broken pool nothing is at work any more
        broken: BaseException | None = None
        for future in [future for future in self.jobs if future in finished]:
            error = future.exception()
            if error is None:
                job = self.jobs.pop(future)
                for encoder in job.encoders.values():
                    self._dead.pop(encoder, None)
                yield job, future.result()
            elif isinstance(error, BrokenProcessPool):
                broken = error
            elif not quiet:
                raise error
        if quiet:
            return
        if broken is not None:
            if self.shared is not None:
                raise ExtractionError(_obituary(list(self.jobs.values()))) from broken
            yield from self._bury()
        self._go_on()

    def _bury(self) -> Iterator[tuple[Job, Result]]:
        """Set aside what may have killed a process; a single clip that did so with a single encoder has failed."""
        lost = list(self.jobs.values())
        self.jobs.clear()
        self._end_pool()
        at_work = 1 if self._is_alone else self.num_workers  # jobs start in the order of submission
        self.later += lost[at_work:]
        for job in reversed(lost[:at_work]):
            parts = job.parts()
            if len(parts) > 1 or not self._is_alone:
                self.suspects.extendleft(reversed(parts))
                continue
            (encoder,) = job.encoders.values()
            dead = self._dead.setdefault(encoder, [])
            dead.append(job)
            if len(dead) == _MOST_DEATHS:
                raise ExtractionError(f"encoder {encoder[0]!r}: {_obituary(dead)}")
            names = [*dict.fromkeys([*job.wanted, *job.sequences]), *job.timed]
            why = Failure("failed", DIED)
            yield job, Result({name: Outcome(failures={0: why}) for name in names}, 0.0, 0.0)

    def _go_on(self) -> None:
        """Submit the next suspect, or after the last one what was in flight with them."""
        if self.jobs:
            return
        if self.suspects:
            self._is_alone = True
            self.submit(self.suspects.popleft())
        elif self._is_alone:
            self._end_pool()
            self._is_alone = False
            again, self.later = self.later, []
            for job in again:
                self.submit(job)

    def _end_pool(self) -> None:
        if self.pool is not None:
            end_workers(self.pool, at_once=True)
            self.pool = None


def _obituary(jobs: Sequence[Job]) -> str:
    suspects = [f"{job.corpus}/{clip['clip_id']}" for job in jobs for clip in job.clips]
    more = f" and {len(suspects) - _NAMED:,} more" if len(suspects) > _NAMED else ""
    return (
        f"worker processes died while they encoded these clips: {', '.join(suspects[:_NAMED])}{more}. Out of memory is "
        "the usual cause (fewer features.num_workers, smaller features.chunk_size), a library that does not run on "
        "this machine another. Everything complete is kept and the same command continues; features.retry_failed=true "
        "tries those again, too, that were called failed"
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
