"""A job in a process of elsewhere: where it runs, what it finds there, and that no two run at once."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from mmpsr.executors import base
from mmpsr.executors.base import ExecutorError, away, end_executor, home, works_away

ELSEWHERE = ("node7", 1)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(os.getcwd())  # which sets it back
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(base, "_is_away", False)
    for name in base.ONE_THREAD:
        monkeypatch.setenv(name, os.environ.get(name, ""))


def test_a_job_runs_where_the_command_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in base.ONE_THREAD:
        monkeypatch.delenv(name)
    (tmp_path / "of_ones_own_7f.py").write_text("where = __file__")
    assert away((str(tmp_path), *ELSEWHERE), os.getcwd, ()) == str(tmp_path)
    assert works_away()
    assert {os.environ[name] for name in base.ONE_THREAD} == {"1"}
    __import__("of_ones_own_7f")  # an encoder of one's own is found from there


def test_a_job_of_a_thread_leaves_the_process_as_it_is(tmp_path: Path) -> None:
    here = home()
    assert away((str(tmp_path), *here[1:]), os.getcwd, ()) == here[0]
    assert not works_away()


def test_a_machine_without_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match=r"cannot work in .*nowhere \(No such file or directory\).*all workers see"):
        away((str(tmp_path / "nowhere"), *ELSEWHERE), os.getcwd, ())


def test_jobs_of_one_process_take_turns() -> None:
    running, most = threading.Semaphore(0), list[bool]()

    def job() -> None:
        most.append(running.acquire(blocking=False))  # nobody is in the midst of it
        running.release()
        time.sleep(0.02)
        running.acquire()

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(away, home(), job, ()) for _ in range(3)]:
            done.result()
    assert most == [False] * 3


class BrokenAsItGrows(ProcessPoolExecutor):
    """A pool whose first process dies while the second is being started."""

    def _spawn_process(self) -> None:
        super()._spawn_process()  # type: ignore[misc]
        if len(self._processes) == 2:
            number, second = self._processes.popitem()
            next(iter(self._processes.values())).kill()
            give_up = time.monotonic() + 60
            while not self._broken and time.monotonic() < give_up:  # type: ignore[attr-defined]
                time.sleep(0.01)
            time.sleep(0.2)  # until the first one is buried
            self._processes[number] = second


@pytest.mark.parametrize("at_once", [True, False])
def test_a_pool_that_broke_while_it_started_a_process_ends(at_once: bool) -> None:
    """Python waits for the new process, which nobody ends, for ever."""
    pool = BrokenAsItGrows(2, multiprocessing.get_context("spawn"))
    jobs = [pool.submit(time.sleep, 60) for _ in range(2)]
    assert {type(job.exception(60)) for job in jobs} == {BrokenProcessPool}
    manager, processes = pool._executor_manager_thread, list(pool._processes.values())  # type: ignore[attr-defined]
    assert len(processes) == 2
    end_executor(pool, at_once)
    manager.join(30)
    assert not manager.is_alive()
    assert not any(process.is_alive() for process in processes)
