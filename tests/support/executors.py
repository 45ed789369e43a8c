"""Functions that give executors, as configurations name them, and a cluster of two processes to kill workers of."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from distributed import LocalCluster


def threads() -> Executor:
    return ThreadPoolExecutor(2)


def jobs_of_threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions that are given to `threads` from now on, in order."""
    jobs: list[str] = []

    class Counted(ThreadPoolExecutor):
        def submit(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Future[Any]:
            jobs.append(arguments[1].__name__)
            return super().submit(function, *arguments, **named)

    monkeypatch.setattr(sys.modules[__name__], "threads", lambda: Counted(2))
    return jobs


def processes() -> Executor:
    return ProcessPoolExecutor(2, multiprocessing.get_context())


def nothing() -> str:
    return "nothing"


@contextmanager
def two_processes(allowed_failures: int = 0) -> Iterator[tuple[str, LocalCluster]]:
    """Start a Dask cluster of two processes of this machine; its name as an executor, and itself.

    Args:
        allowed_failures: how many workers may die of a job before it is given up; Dask's own default is 3.
    """
    import dask
    from distributed import LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": allowed_failures,
        "distributed.comm.timeouts.connect": "3s",  # what a result on a dead worker is waited for
    }
    with (
        dask.config.set(settings),
        LocalCluster(2, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL") as cluster,
    ):
        yield cluster.scheduler_address.replace("tcp://", "dask://"), cluster


@contextmanager
def killed_at_random(
    cluster: LocalCluster,
    most: int,
    pause: tuple[float, float],
    seed: int = 0,
    has_begun: Callable[[], bool] = lambda: True,
) -> Iterator[list[int]]:
    """Kill workers of a cluster one after another while the block runs; the ids of the killed processes.

    Args:
        cluster: of processes, each of which is started again when it dies.
        most: kills.
        pause: least and most seconds between them.
        seed: of the draws.
        has_begun: whether the work is so far that workers may be killed.
    """
    dice, killed, over = random.Random(seed), list[int](), threading.Event()

    def kill() -> None:
        while len(killed) < most and not over.wait(dice.uniform(*pause)):
            alive = [nanny.pid for nanny in list(cluster.workers.values()) if nanny.pid not in (None, *killed)]
            if alive and has_begun():
                with suppress(ProcessLookupError):
                    os.kill(victim := dice.choice(alive), signal.SIGKILL)
                    killed.append(victim)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()
