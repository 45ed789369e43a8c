"""Jobs on clips that are given away, and what is done where a worker dies of one."""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from encoders.errors import ExtractionError
from mmpsr.executors.base import LOCAL, Engine

__all__ = ["DIED", "Divisible", "Threads", "Workers", "files_of", "require_files"]

DIED = "the worker process died while it encoded this clip alone (a damaged file, or more memory than there is)"
"""Why there is nothing of a clip that killed whatever process worked on it."""
MEDIA = ("media", "audio_media", "fallback_media", "faces")
"""Columns of the clip table that name files."""
_NAMED = 8  # clips that a message names; a chunk may have hundreds
_MOST_DEATHS = 3  # by one encoder, of clips one after another, each alone with its worker


class Divisible(Protocol):
    """What workers are given: a job on clips, which can be divided until one thing is at fault for a death."""

    @property
    def names(self) -> list[str]:
        """Clips, for messages."""

    @property
    def culprits(self) -> Collection[Hashable]:
        """What may kill a worker besides a clip: the encoders; what several clips died of in a row ends the run."""

    def parts(self) -> list[Self]:
        """Divide it; what cannot be divided any more is its only part."""

    def dead(self) -> Any:
        """Make the result of a job that cannot be divided and killed the worker which did nothing else."""


JobT = TypeVar("JobT", bound=Divisible)
ResultT = TypeVar("ResultT")


@dataclass
class Workers(Generic[JobT, ResultT]):
    """Jobs that are given away, and what is done where workers die of them.

    Where an executor breaks, the jobs that were at work are done again clip by clip in one process, and a clip that
    kills it again encoder by encoder. Where a cluster gives a job up, it is divided as well, among all workers; what
    cannot be divided waits until all else is done and is then done alone. What kills a process alone is a failure of
    that clip, and all others are as ever.

    Attributes:
        engine: who does jobs.
        task: what is done with a job.
        jobs: in flight.
        suspects: jobs to be done one by one, since one of them has killed a process.
        later: jobs that were in flight with them.
    """

    engine: Engine
    task: Callable[[JobT], ResultT]
    jobs: dict[Future[ResultT], JobT] = field(default_factory=dict)
    suspects: deque[JobT] = field(default_factory=deque)
    later: list[JobT] = field(default_factory=list)
    _is_alone: bool = False
    _dead: dict[Hashable, list[JobT]] = field(default_factory=dict)  # by what may have killed them

    @property
    def limit(self) -> int:
        """Most jobs in flight: one per worker, and one ready for each so that none waits; none beside suspects."""
        return 0 if self._is_alone or self.suspects else 2 * self.engine.num_workers

    @property
    def in_flight(self) -> list[JobT]:
        """Jobs that are not done yet, also those that wait for their turn."""
        return [*self.jobs.values(), *self.suspects, *self.later]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for future in self.jobs:
            future.cancel()

    def submit(self, job: JobT) -> None:
        """Hand a job to the workers."""
        try:
            future: Future[ResultT] = self.engine.submit(self.task, job)
        except BrokenExecutor as error:  # it broke since the last look; `completed` sees to it
            future = Future()
            future.set_exception(error)
        self.jobs[future] = job

    def completed(
        self, timeout: float, quiet: bool = False, others: Collection[Future[Any]] = ()
    ) -> Iterator[tuple[JobT, ResultT]]:
        """Jobs whose result has come, each handed out once.

        Args:
            timeout: seconds to wait for the first.
            quiet: pass over jobs that went wrong.
            others: whatever else ends the waiting when it is done.

        Raises:
            ExtractionError: a worker cannot work, the connection to a cluster is lost, or several clips in a row killed
                their workers.
        """
        finished = wait([*self.jobs, *others], timeout, FIRST_COMPLETED).done
        if not quiet and any(isinstance(_error_of(future), BrokenExecutor) for future in finished & {*self.jobs}):
            finished = wait(self.jobs).done  # of a broken executor nothing is at work any more
        is_broken = False
        for future in [future for future in self.jobs if future in finished]:
            error = _error_of(future)
            if error is None:
                job = self.jobs.pop(future)
                for culprit in job.culprits:
                    self._dead.pop(culprit, None)
                yield job, future.result()
            elif quiet:
                continue
            elif isinstance(error, BrokenExecutor):
                is_broken = True
            elif isinstance(error, CancelledError) and self.engine.is_open:  # by someone else
                self.submit(self.jobs.pop(future))
            elif self.engine.has_killed(error):
                yield from self._divide(self.jobs.pop(future))
            else:
                raise self._explained(error)
        if quiet:
            return
        if is_broken:
            yield from self._bury()
        self._go_on()

    def _divide(self, job: JobT) -> Iterator[tuple[JobT, ResultT]]:
        """Give a job that a cluster gave up away in parts, or for itself; one that was for itself has failed."""
        parts = job.parts()
        if len(parts) > 1:
            for part in parts:
                self.submit(part)
        elif self._is_alone:
            yield self._failed(job)
        else:
            self.suspects.append(job)

    def _bury(self) -> Iterator[tuple[JobT, ResultT]]:
        """Set aside what may have killed a process; a single clip that did so with a single encoder has failed."""
        lost = list(self.jobs.values())
        self.jobs.clear()
        at_work = 1 if self._is_alone else self.engine.num_workers  # jobs start in the order of submission
        self.engine.renew(alone=True)
        self.later += lost[at_work:]
        for job in reversed(lost[:at_work]):
            parts = job.parts()
            if len(parts) > 1 or not self._is_alone:
                self.suspects.extendleft(reversed(parts))
            else:
                yield self._failed(job)

    def _failed(self, job: JobT) -> tuple[JobT, ResultT]:
        for culprit in job.culprits:
            dead = self._dead.setdefault(culprit, [])
            dead.append(job)
            if len(dead) == _MOST_DEATHS:
                raise ExtractionError(f"{culprit}: {_obituary(dead)}")
        return job, job.dead()

    def _go_on(self) -> None:
        """Submit the next suspect, or after the last one what was in flight with them."""
        if self.jobs:
            return
        if self.suspects:
            self._is_alone = True
            self.submit(self.suspects.popleft())
        elif self._is_alone:
            self.engine.renew()
            self._is_alone = False
            again, self.later = self.later, []
            for job in again:
                self.submit(job)

    def _explained(self, error: BaseException) -> BaseException:
        """Give the error of a job, worded where it is the cluster's and not the job's."""
        if isinstance(error, CancelledError):
            return ExtractionError(
                f"the connection to {self.engine.name} is lost; everything complete is kept, and the same command "
                "continues once it is there again"
            )
        if isinstance(error, ImportError) and self.engine.name != LOCAL:
            return ExtractionError(
                f"a worker of {self.engine.name} cannot work: {error}; install there what is installed here"
            )
        return error


def _error_of(future: Future[Any]) -> BaseException | None:
    return CancelledError() if future.cancelled() else future.exception()


def _obituary(jobs: Sequence[Divisible]) -> str:
    suspects = [name for job in jobs for name in job.names]
    more = f" and {len(suspects) - _NAMED:,} more" if len(suspects) > _NAMED else ""
    return (
        f"worker processes died while they encoded these clips: {', '.join(suspects[:_NAMED])}{more}. Out of memory is "
        "the usual cause (fewer features.num_workers, smaller features.chunk_size), a library that does not run on "
        "this machine another. Everything complete is kept and the same command continues; features.retry_failed=true "
        "tries those again, too, that were called failed"
    )


class Threads(Engine):
    """Threads of this process.

    Args:
        title: of theirs.
        num_workers: how many.
    """

    name = LOCAL

    def __init__(self, title: str, num_workers: int = 1) -> None:
        self._executor, self._num_workers = ThreadPoolExecutor(num_workers, title), num_workers

    @property
    def num_workers(self) -> int:
        """How many there are."""
        return self._num_workers

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Give a job to a thread."""
        return self._executor.submit(function, *arguments)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, at_once: bool = False) -> None:
        """End the threads after the jobs that they are at; with `at_once` without waiting for it."""
        self._executor.shutdown(wait=not at_once, cancel_futures=True)


def files_of(clips: Iterable[Mapping[str, Any]], columns: Sequence[str] = MEDIA) -> list[str]:
    """List the files of clips that are there."""
    paths = dict.fromkeys(clip[name] for clip in clips for name in columns if clip.get(name) is not None)
    return [path for path in paths if Path(path).exists()]


def require_files(paths: Iterable[str]) -> None:
    """See that this machine has files that the launched process has.

    Raises:
        ExtractionError: one is not here, which is no clip's fault.
    """
    for path in paths:
        if not Path(path).exists():
            raise ExtractionError(
                f"a worker on {platform.node()} does not see {path}, which the launched process sees; media must lie "
                "where all workers find them under the same path"
            )
