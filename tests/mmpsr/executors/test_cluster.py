"""Extraction, texts and inspection by executors of elsewhere: what this machine's own workers give, whoever dies."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from encoders.config import FeaturesConfig
from encoders.errors import ExtractionError
from encoders.extraction.extract import extract
from encoders.extraction.read import read_vectors
from encoders.extraction.workers import WarmEncoders
from encoders.maintenance.inspection import inspect_media, inspect_there
from encoders.workers import DIED, require_files
from encoders.writers.fill import fill_texts
from mmpsr.executors.cluster import DaskCluster
from tests.support import executors, fake_encoders, fake_writers
from tests.support.executors import killed_at_random, two_processes
from tests.support.fake_encoders import features, table
from tests.support.warm_workers import warm_workers

BOTH = {"text": "tests.support.fake_encoders:Obedient", "behavior": "tests.support.fake_encoders:Attentive"}
DEADLY = ["a", "b", "c", "d", "die", "e", "f"]


@pytest.fixture(scope="module", autouse=True)
def _ready() -> Iterator[None]:
    with warm_workers("encoders.extraction.jobs", fake_encoders.__name__):
        yield


def require_all_but_the_deadly(config: FeaturesConfig, warm: WarmEncoders | None = None) -> None:
    summary = extract(table(DEADLY), config, show_progress=False, warm=warm)
    for count in summary.counts.values():
        assert (count.done, count.failed) == (6, 1)
    assert {row.reason for row in summary.ledger.itertuples()} == {DIED}
    for present, _ in read_vectors(table(DEADLY), config).values():
        assert present.tolist() == [text != "die" for text in DEADLY]


def test_an_executor_of_ones_own_that_breaks_is_made_anew(tmp_path: Path) -> None:
    require_all_but_the_deadly(features(tmp_path, executor="tests.support.executors:processes"))


def test_processes_that_outlive_an_extraction_may_die(tmp_path: Path) -> None:
    config = features(tmp_path)
    with WarmEncoders(config, num_processes=1) as warm:
        require_all_but_the_deadly(config, warm)
        assert extract(table(["g"]), config, show_progress=False, warm=warm).counts["fake", "text"].done == 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs that were given to threads."""
    return executors.jobs_of_threads(monkeypatch)


def test_an_executor_of_threads_gives_what_workers_give(tmp_path: Path, asked: list[str]) -> None:
    texts = ["hello", "fail", "absent", *"abcdefgh"]
    encoders = {"text": BOTH["text"], "behavior": "tests.support.fake_encoders:Other"}
    own = features(tmp_path / "own", encoders=encoders)
    there = features(tmp_path / "there", encoders=encoders, executor="tests.support.executors:threads")
    extract(table(texts), own, show_progress=False)
    assert asked == []
    extract(table(texts), there, show_progress=False)
    assert set(asked) == {"encode_job"}
    assert len(asked) >= 4  # of eleven clips, three to a chunk
    for name, (present, vectors) in read_vectors(table(texts), own).items():
        assert np.array_equal(present, read_vectors(table(texts), there)[name][0])
        assert np.array_equal(vectors, read_vectors(table(texts), there)[name][1])


def test_media_are_inspected_by_executors(tmp_path: Path, asked: list[str]) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("no media")
    clips = pd.DataFrame([{"corpus": "own", "clip_id": "a", "media": str(path)}, {"corpus": "own", "clip_id": "b"}])
    findings = inspect_media(clips, 1, False, "tests.support.executors:threads")
    assert findings[["clip_id", "kind"]].to_numpy().tolist() == [["a", "unreadable"]]
    assert findings["reason"].item().startswith(f"{path}: ")
    assert asked == ["inspect_there"]


def test_a_machine_that_does_not_see_the_media_is_no_clips_fault(tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match=r"does not see .*a\.mp4, .*under the same path"):
        require_files([str(tmp_path), str(tmp_path / "a.mp4")])


class ClientOf:
    """A connection to a scheduler, of one job's outcome."""

    def __init__(self, outcome: object) -> None:
        self.outcome, self.loop = outcome, self

    def submit(self, *_: object, key: str) -> Future[Any]:
        assert key.startswith("int-")
        return Future()

    def add_callback(self, callback: Callable[..., Any], *arguments: object) -> None:
        asyncio.run(callback(*arguments))

    async def gather(self, futures: list[object], asynchronous: bool) -> list[object]:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return [self.outcome]


def test_whatever_becomes_of_a_job_is_told() -> None:
    """Also a worker's death while the result is fetched, of which Dask's own executor never tells."""

    def of(outcome: object) -> Future[Any]:
        return DaskCluster("dask://node7:8786", ClientOf(outcome)).submit(int, "12")  # type: ignore[arg-type]

    assert of(12).result(0) == 12
    killed = RuntimeError("given up")
    assert of(killed).exception(0) is killed
    for error in (asyncio.CancelledError(), CancelledError()):
        assert of(error).cancelled()


def test_a_scheduler_needs_nothing_of_a_job_and_workers_import_it_in_threads(tmp_path: Path) -> None:
    """A scheduler unpickles what is submitted, in a thread, though it has neither torch nor the folder."""

    class Submitted(ClientOf):
        def submit(self, *given: object, key: str) -> Future[Any]:
            self.given = pickle.dumps(given)
            return Future()

    client = Submitted(None)
    DaskCluster("dask://node7:8786", client).submit(int, "12")  # type: ignore[arg-type]
    function, *arguments = pickle.loads(client.given)
    assert function(*arguments) == 12
    DaskCluster("dask://node7:8786", client).submit(inspect_there, "a.mp4", True)  # type: ignore[arg-type]
    (tmp_path / "given").write_bytes(client.given)
    lines = [
        "import pickle, sys, threading",
        "function, place, job, (content,) = pickle.load(open(sys.argv[1], 'rb'))",
        "assert not {'encoders.extraction', 'torch', 'av'} & sys.modules.keys()",
        "read = []",
        "thread = threading.Thread(target=lambda: read.append(pickle.loads(content)))",
        "thread.start(); thread.join(); print(read[0][0].__name__)",
    ]
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), str(tmp_path / "given")], capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.returncode) == ("inspect_there\n", 0), run.stderr


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, executors.LocalCluster]]:
    with two_processes() as found:
        yield found


@pytest.mark.slow
def test_a_cluster_gives_the_same_vectors_and_a_deadly_clip_is_a_row(
    cluster: tuple[str, executors.LocalCluster], tmp_path: Path
) -> None:
    texts = [*(f"text {number}" for number in range(20)), "die"]
    own = features(tmp_path / "own", encoders=BOTH, num_workers=2)
    there = features(tmp_path / "there", encoders=BOTH, executor=cluster[0])
    extract(table(texts[:-1]), own, show_progress=False)
    summary = extract(table(texts), there, show_progress=False)
    assert {name: (count.done, count.failed) for (_, name), count in summary.counts.items()} == dict.fromkeys(
        BOTH, (20, 1)
    )
    assert "encode_job" in cluster[1].scheduler.task_prefixes
    for name, (present, vectors) in read_vectors(table(texts[:-1]), own).items():
        assert present.all()
        # what models on the device give depends on which clips they see at once, in the last digits
        same = np.array_equal if name == "text" else np.allclose
        assert same(vectors, read_vectors(table(texts[:-1]), there)[name][1])


@pytest.mark.slow
def test_workers_killed_at_random_cost_nothing(cluster: tuple[str, executors.LocalCluster], tmp_path: Path) -> None:
    texts = ["sleep 0.1"] * 60
    config = features(tmp_path, executor=cluster[0])
    with killed_at_random(cluster[1], 3, (0.2, 0.8)) as killed:
        summary = extract(table(texts), config, show_progress=False)
    assert len(killed) == 3
    assert vars(summary.counts["fake", "text"]) == {"done": 60, "reused": 0, "absent": 0, "failed": 0}
    parts = [pq.read_table(path)["clip_id"].to_pylist() for path in tmp_path.glob("fake/text/*/part-*.parquet")]
    assert sorted(clip for part in parts for clip in part) == sorted(f"clip{number}" for number in range(60))
    vectors = read_vectors(table(texts), config)["text"][1]
    assert vectors.tolist() == [fake_encoders.expected("sleep 0.1", number) for number in range(60)]


@pytest.mark.slow
def test_texts_are_prepared_by_a_cluster(cluster: tuple[str, executors.LocalCluster], tmp_path: Path) -> None:
    writer = fake_writers.FakeWriter(tmp_path / "log")
    config = fake_writers.features(tmp_path, executor=cluster[0])
    ids = ["a", "silent-b", "c", "here-d"]
    filled = fill_texts(fake_writers.table(ids), config, show_progress=False, writers=[writer])
    assert filled.clips["text"].tolist() == ["words of a", pd.NA, "words of c", pd.NA]
    reasons = dict(filled.summary.ledger[["clip_id", "reason"]].to_numpy())
    assert reasons == {"silent-b": "no media file", "here-d": "read elsewhere, without weights"}
    assert writer.loaded == 1  # here, and once
    assert "read_there" in cluster[1].scheduler.task_prefixes
