"""The index of a folder: read once, followed, small; and claims that list no folder."""

from __future__ import annotations

import os
import signal
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from encoders.maintenance.compaction import compact
from encoders.spec import EncoderSpec
from encoders.store import index as module
from encoders.store.claims import Claims
from encoders.store.index import DONE
from encoders.store.queue import WorkQueue, records_of
from encoders.store.vector_store import FeatureStore

SPEC = EncoderSpec("none", 1, "video", 1, {}, "0123456789ab", "none")


def write(root: Path, *ids: str) -> None:
    FeatureStore(root).write("k", SPEC, ids, ["now"] * len(ids), np.ones((len(ids), 1), dtype=np.float32))


def queue(root: Path, num_clips: int) -> WorkQueue:
    table = pd.DataFrame({"corpus": "k", "clip_id": [f"clip{clip}" for clip in range(num_clips)]})
    records = records_of(table, ["corpus", "clip_id"])
    return WorkQueue(
        FeatureStore(root), records, {"video": SPEC}, {"video": ["now"] * num_clips}, range(num_clips), False
    )


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders that were listed for an index."""
    listed: list[Path] = []
    real = module.list_parts
    monkeypatch.setattr(module, "list_parts", lambda folder, *kinds: (listed.append(folder), real(folder, *kinds))[1])
    return listed


def test_a_clip_is_known_by_id_and_source(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.write("k", SPEC, ["a", "b"], ["s", "\N{SNOWMAN}"], np.ones((2, 1), dtype=np.float32))
    store.write_failures("k", SPEC, [("c", "s", "failed", "why"), ("a", "s", "absent", "not now")], "2026-01-01")
    index = store.done("k", SPEC)
    assert [index.get(key) for key in (("a", "s"), ("b", "\N{SNOWMAN}"), ("a", "t"), ("", "as"))] == [
        DONE,
        DONE,
        None,
        None,
    ]
    assert index["c", "s"] == ("failed", "why", "2026-01-01")
    assert len(index) == 3
    assert ("a", "s") in index
    with pytest.raises(KeyError):
        index["a", "other"]


def test_a_vector_that_comes_later_outweighs_a_failure_that_is_known(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.write_failures("k", SPEC, [("a", "now", "failed", "why")])
    assert store.done("k", SPEC)["a", "now"].status == "failed"
    write(tmp_path, "a")
    index = store.done("k", SPEC)
    assert index["a", "now"] == DONE
    assert len(index) == 1
    store.write_failures("k", SPEC, [("a", "now", "failed", "again")])
    assert store.done("k", SPEC)["a", "now"] == DONE
    assert len(index) == 1


def test_what_compaction_made_of_known_parts_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for clip in "abc":
        write(tmp_path, clip)
    store = FeatureStore(tmp_path)
    assert len(store.done("k", SPEC)) == 3
    list(compact(tmp_path))
    opened: list[str] = []
    read = module.read_part
    monkeypatch.setattr(module, "read_part", lambda path, names: (opened.append(path.name), read(path, names))[1])
    assert len(store.done("k", SPEC)) == 3
    assert opened == []
    write(tmp_path, "d")
    assert len(store.done("k", SPEC)) == 4
    assert len(opened) == 1
    assert len(FeatureStore(tmp_path).done("k", SPEC)) == 4  # who knows none reads the one
    assert len(opened) == 3


def test_a_clip_that_is_done_takes_few_bytes(tmp_path: Path) -> None:
    """The pair of texts alone takes 56 bytes, the texts 60 each: at least 200 with its place in a dictionary."""
    num = 20_000
    write(tmp_path, *(f"video{clip:07}" for clip in range(num)))
    store = FeatureStore(tmp_path)
    tracemalloc.start()
    index = store.done("k", SPEC)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index) == num
    assert held / num < 170


def test_claims_follow_others_without_listing(tmp_path: Path, listings: list[Path]) -> None:
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        queues = [(queue(tmp_path, 40), one), (queue(tmp_path, 40), other)]
        order = []
        for turn in range(20):
            work, claims = queues[turn % 2]
            claimed = work.claim_rows(claims, 2, set())
            order += list(claimed)
            write(tmp_path, *(items["video"].clip_id for items in claimed.values()))
            claims.drop(items["video"] for items in claimed.values())
        assert order == list(range(40))  # each once, though the other finds no claim on what was finished
        assert len(listings) == 2  # once for each queue
        assert [work.claim_rows(claims, 2, set()) for work, claims in queues] == [{}, {}]


def test_the_end_of_a_process_lets_others_list_once(tmp_path: Path, listings: list[Path]) -> None:
    work = queue(tmp_path, 10)
    with Claims(tmp_path) as claims:
        assert list(work.claim_rows(claims, 1, set())) == [0]
        with Claims(tmp_path) as other:  # begins and ends between two looks
            with other.exclusive:
                peer = queue(tmp_path, 10)
                other.others()
            assert list(peer.claim_rows(other, 1, set())) == [1]
            write(tmp_path, "clip1")
            other.drop(other.held)
        listings.clear()
        assert list(work.claim_rows(claims, 1, set())) == [2]
        assert list(work.claim_rows(claims, 1, set())) == [3]
        assert len(listings) == 1
    assert sorted(path.name for path in (tmp_path / ".claims").iterdir()) == ["ended", "exclusive.lock"]


def test_a_version_that_names_no_parts_is_followed_by_listing(tmp_path: Path, listings: list[Path]) -> None:
    work = queue(tmp_path, 10)
    with Claims(tmp_path) as claims, Claims(tmp_path) as older:
        older._parts.unlink()
        for row in (0, 2):
            assert list(work.claim_rows(claims, 1, set())) == [row]
            FeatureStore(tmp_path)._add_part("k", SPEC, [f"clip{row + 1}"], ["now"], {}, None)
            older._parts.unlink(missing_ok=True)
        assert list(work.claim_rows(claims, 1, set())) == [4]
        assert len(listings) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_part_whose_writer_died_before_naming_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = queue(tmp_path, 3)
    with Claims(tmp_path) as claims:
        assert list(work.claim_rows(claims, 1, set())) == [0]
        pid = os.fork()
        if pid == 0:
            monkeypatch.setattr(Claims, "announce", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            with Claims(tmp_path) as own:
                queue(tmp_path, 3).claim_rows(own, 1, set())
                write(tmp_path, "clip1")
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert list(work.claim_rows(claims, 1, set())) == [2]


def test_claims_of_another_store_hear_nothing(tmp_path: Path) -> None:
    with Claims(tmp_path / "one") as one, Claims(tmp_path / "other") as other:
        for claims in (one, other):
            assert claims.news() is None  # not known what there was before
        write(tmp_path / "one", "a")
        write(tmp_path / "one/nested/..", "b")
        (added,) = (one.news() or {}).items()
        assert added[0] == f"k/video/{SPEC.key}"
        assert len(added[1]) == 2
        assert other.news() == {}
        assert one.news() == {}
