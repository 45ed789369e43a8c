"""Executors by name, and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from mmpsr.executors import cluster
from mmpsr.executors.base import ExecutorError, ExecutorName
from mmpsr.executors.build import open_engine
from tests.support.hidden_modules import without_modules


@pytest.mark.parametrize("name", ["local", "dask://node7:8786", "dask://10.0.0.1:1", "package.module:factory"])
def test_names(name: str) -> None:
    assert TypeAdapter(ExecutorName).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "Local", "dask://node7", "tcp://node7:8786", "package.module", "a b:c", "a:1"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"neither 'local', nor .*'dask://host:8786', nor .*'package\.module:fac"):
        TypeAdapter(ExecutorName).validate_python(name)


def test_an_executor_of_ones_own() -> None:
    with open_engine("tests.support.executors:threads", 7) as engine:
        assert engine.num_workers == 2  # it says so itself
        assert engine.submit(int, "12").result() == 12
        assert not engine.has_killed(RuntimeError())


def test_an_executor_that_does_not_tell_how_many_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support import executors

    class Silent(executors.Executor):
        def submit(self, function: object, *arguments: object) -> Future[object]:  # type: ignore[override]
            return Future()

        def shutdown(self, wait: bool = True) -> None:  # type: ignore[override]  # as Dask's
            pass

    monkeypatch.setattr(executors, "threads", Silent)
    with open_engine("tests.support.executors:threads", 7) as engine:
        assert engine.num_workers == 7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests.support.executors:none", "no attribute 'none'; its module must be importable"),
        ("tests.support.nowhere:threads", "No module named 'tests.support.nowhere'; its module must be importable"),
        ("tests.support.executors:nothing", "gives 'nothing', and not a concurrent.futures.Executor"),
    ],
)
def test_what_gives_no_executor(name: str, message: str) -> None:
    with pytest.raises(ExecutorError, match=message):
        open_engine(name)


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", 0.2)
    with pytest.raises(ExecutorError, match=r"dask://127\.0\.0\.1:9: no scheduler answers .*`dask worker tcp://127"):
        open_engine("dask://127.0.0.1:9")


def test_without_dask_the_extra_is_named() -> None:
    program = (
        "from mmpsr.errors import UserError\nfrom mmpsr.executors.build import open_engine\n"
        "try:\n    open_engine('dask://127.0.0.1:9')\nexcept UserError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", without_modules(["distributed"]) + program], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert 'pip install ".[dask]"' in done.stdout
