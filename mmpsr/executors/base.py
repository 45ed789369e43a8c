"""What does jobs (`Engine`), by what names it is configured, and what a worker of elsewhere does with a job."""

from __future__ import annotations

import os
import platform
import re
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from typing import Annotated, Any, Self

from pydantic import AfterValidator

from mmpsr.errors import UserError

__all__ = [
    "LOCAL",
    "ONE_THREAD",
    "Engine",
    "ExecutorError",
    "ExecutorName",
    "away",
    "end_executor",
    "home",
    "works_away",
]

LOCAL = "local"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Environment in which libraries compute with one thread, if it is set before they are imported."""


class ExecutorError(UserError):
    """Work cannot be given away as configured; the message says what to start, or to mend."""


def _check_name(name: str) -> str:
    if name == LOCAL or re.fullmatch(r"dask://\S+:\d+|[^\W\d][\w.]*:[^\W\d]\w*", name):
        return name
    raise ValueError(
        f"is {name!r}, which is neither {LOCAL!r}, nor a scheduler's address as 'dask://host:8786', nor a function "
        "that gives an executor as 'package.module:factory'"
    )


ExecutorName = Annotated[str, AfterValidator(_check_name)]
"""A name as above; anything else is refused."""


class Engine(ABC):
    """Who does jobs, and what becomes of them where a worker dies.

    There are two ways to tell of a death. An executor of processes breaks (`BrokenExecutor`) with all that was given to
    it, and is made anew by `renew`. A cluster does a job again elsewhere, and in the end gives up that one alone, see
    `has_killed`.
    """

    name: str
    """As configured, for messages."""

    @abstractmethod
    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Give a job away; function and arguments can be pickled."""

    @property
    @abstractmethod
    def num_workers(self) -> int:
        """Processes that do jobs at present."""

    @property
    def is_open(self) -> bool:
        """Whether jobs that were cancelled may be given away again."""
        return True

    def has_killed(self, error: BaseException | None) -> bool:
        """Tell whether an error of a job says that workers died which had it, while others go on."""
        return False

    def renew(self, alone: bool = False) -> None:  # noqa: B027  clusters mend themselves
        """Make a broken executor anew.

        Args:
            alone: one job at a time will follow.
        """

    def close(self, at_once: bool = False) -> None:  # noqa: B027
        """End what this has started; with `at_once` in the midst of its work."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(at_once=kind is not None)


def end_executor(executor: Executor, at_once: bool = False) -> None:
    """End an executor: when its work is done, or in the midst of it (minutes that nobody wants any more).

    A pool of processes that broke while one of them was being started never ends that one, and waits for it at its own
    end and at Python's, for ever (Python 3.11). Of a broken pool whatever is left ends here.

    Args:
        executor: of whatever kind.
        at_once: wait for nothing; processes of this machine stop in the midst of their work.
    """
    processes: list[BaseProcess] = []
    if isinstance(executor, ProcessPoolExecutor):
        at_once = at_once or bool(executor._broken)  # type: ignore[attr-defined]
        processes = list((executor._processes or {}).values())
    try:
        executor.shutdown(wait=not at_once, cancel_futures=True)
    except TypeError:  # not every executor can
        executor.shutdown(wait=not at_once)
    for process in processes if at_once else ():
        process.terminate()


# What follows runs in the worker processes.

_turn = threading.Lock()
_is_away = False


def works_away() -> bool:
    """Tell whether this process does jobs of another one that came through an engine."""
    return _is_away


def home() -> tuple[str, str, int]:
    """Say where this process is: folder, machine, number."""
    return os.getcwd(), platform.node(), os.getpid()


def away(place: tuple[str, str, int], function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Do a job where the process that gave it away is: in its folder, with what can be imported from there."""
    global _is_away
    folder, node, process = place
    with _turn:
        _is_away = (node, process) != (platform.node(), os.getpid())
        if not _is_away:
            return function(*arguments)
        try:
            os.chdir(folder)
        except OSError as error:
            raise ExecutorError(
                f"a worker on {platform.node()} cannot work in {folder} ({error.strerror}), where this command runs; "
                "start it in a folder that all workers see"
            ) from None
        if folder not in sys.path:
            sys.path.append(folder)
        for name, value in ONE_THREAD.items():
            os.environ.setdefault(name, value)
        return function(*arguments)
