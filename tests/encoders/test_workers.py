"""Jobs that workers die of, by engines whose deaths are written down beforehand."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pytest

from encoders.errors import ExtractionError
from encoders.workers import Workers
from mmpsr.executors.base import Engine


class KilledWorker(Exception):  # noqa: N818  Dask's name
    """A job was given up."""


DEADLY = "xyz"


@dataclass(frozen=True)
class Letters:
    """A job on letters, which can be divided into single ones."""

    text: str

    @property
    def names(self) -> list[str]:
        return list(self.text)

    @property
    def culprits(self) -> list[str]:
        return ["spelling"]

    def parts(self) -> list[Letters]:
        return [Letters(letter) for letter in self.text]

    def dead(self) -> str:
        return "dead"


class Cluster(Engine):
    """Does jobs when it is told to; one with a deadly letter is given up, and with it what stands beside it."""

    name = "dask://node7:8786"
    num_workers = 2

    def __init__(self, neighbours: str = "") -> None:
        self.neighbours, self.given = neighbours, list[list[str]]()
        self.open: dict[str, Future[Any]] = {}
        self.is_there = True

    @property
    def is_open(self) -> bool:
        return self.is_there

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        (job,) = arguments
        self.open[job.text] = Future()
        return self.open[job.text]

    def has_killed(self, error: BaseException | None) -> bool:
        return type(error).__name__ == "KilledWorker"

    def work(self) -> None:
        """Do all that is there at once."""
        self.given.append(list(self.open))
        deadly = [text for text in self.open if set(text) & set(DEADLY)]
        for text, future in self.open.items():
            if text in deadly or (deadly and text in self.neighbours):
                future.set_exception(KilledWorker(text))
            else:
                future.set_result(text.upper())
        self.open = {}


def cancel(future: Future[Any]) -> None:
    """Cancel as Dask does."""
    future.cancel()
    future.set_running_or_notify_cancel()


def work_off(engine: Cluster, jobs: list[str]) -> dict[str, str]:
    workers: Workers[Letters, str] = Workers(engine, lambda job: job.text)
    for text in jobs:
        workers.submit(Letters(text))
    results = {}
    while workers.in_flight:
        engine.work()
        results |= {job.text: result for job, result in workers.completed(1.0)}
    assert workers.limit == 4
    return results


def test_a_job_that_a_cluster_gave_up_is_divided_until_one_clip_is_to_blame() -> None:
    engine = Cluster(neighbours="c")
    assert work_off(engine, ["ab", "cxd", "ef"]) == {
        "ab": "AB", "ef": "EF", "c": "C", "d": "D", "x": "dead",
    }  # fmt: skip
    # all go on beside the parts; x and its neighbour are then done alone, in the order in which they died
    assert engine.given == [["ab", "cxd", "ef"], ["c", "x", "d"], ["c"], ["x"]]


def test_nothing_new_is_given_away_while_a_clip_is_to_be_alone() -> None:
    engine = Cluster()
    workers: Workers[Letters, str] = Workers(engine, lambda job: job.text)
    workers.submit(Letters("x"))
    engine.open["x"].set_exception(KilledWorker())
    workers.submit(Letters("a"))
    assert list(workers.completed(1.0)) == []
    assert (workers.limit, [job.text for job in workers.suspects]) == (0, ["x"])
    engine.open["a"].set_result("A")
    assert list(workers.completed(1.0)) == [(Letters("a"), "A")]
    assert [job.text for job in workers.jobs.values()] == ["x"]


def test_three_in_a_row_are_no_clips_fault() -> None:
    with pytest.raises(ExtractionError, match=r"spelling: worker processes died .* clips: x, y, z\."):
        work_off(Cluster(), ["axb", "yz"])


def test_a_job_that_somebody_else_cancelled_is_given_away_again() -> None:
    engine = Cluster()
    workers: Workers[Letters, str] = Workers(engine, lambda job: job.text)
    workers.submit(Letters("a"))
    cancel(engine.open.pop("a"))
    assert list(workers.completed(1.0)) == []
    engine.work()
    assert list(workers.completed(1.0)) == [(Letters("a"), "A")]


def test_a_lost_connection_ends_it() -> None:
    engine = Cluster()
    workers: Workers[Letters, str] = Workers(engine, lambda job: job.text)
    workers.submit(Letters("a"))
    engine.is_there = False
    cancel(engine.open["a"])
    with pytest.raises(ExtractionError, match=r"connection to dask://node7:8786 is lost; everything complete is kept"):
        list(workers.completed(1.0))


def test_a_worker_that_lacks_a_library() -> None:
    engine = Cluster()
    workers: Workers[Letters, str] = Workers(engine, lambda job: job.text)
    workers.submit(Letters("a"))
    engine.open["a"].set_exception(ModuleNotFoundError("No module named 'encoders'"))
    with pytest.raises(ExtractionError, match=r"worker of dask://node7.* No module named 'encoders'; install there"):
        list(workers.completed(1.0))
