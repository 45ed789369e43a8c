"""The queue of work, with a store and claims and no encoder."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from encoders.errors import Failure
from encoders.spec import EncoderSpec
from encoders.store.claims import Claims
from encoders.store.progress import Count, ExtractionSummary
from encoders.store.queue import CLIP_COLUMNS, WorkQueue, records_of
from encoders.store.vector_store import FeatureStore

SPEC = EncoderSpec("none", 1, "text", 2, {}, "0123456789ab", "none")


def queue(root: Path, ids: str, corpora: str | None = None, retry_failed: bool = False) -> WorkQueue:
    table = pd.DataFrame({"corpus": list(corpora or "k" * len(ids)), "clip_id": list(ids)})
    records = records_of(table, ["corpus", "clip_id"])
    sources = {"text": [f"of {clip_id}" for clip_id in ids]}
    return WorkQueue(FeatureStore(root), records, {"text": SPEC}, sources, range(len(ids)), retry_failed)


def settle(work: WorkQueue, rows: list[int], *, fails: bool = False) -> None:
    def write(ids: list[str], sources: list[str], values: list[float]) -> None:
        vectors = np.array(values, dtype=np.float32).repeat(2).reshape(-1, 2)
        work._store.write("k", SPEC, ids, sources, vectors)

    results = [(work.item(row, "text"), Failure("failed", "no word") if fails else 1.0) for row in rows]
    work.settle("k", "text", results, write)


def test_rows_are_plain_and_lack_nothing() -> None:
    rows = records_of(pd.DataFrame({"clip_id": ["a", pd.NA]}, dtype="string"), ["clip_id", "media"])
    assert list(rows) == [{"clip_id": "a", "media": None}, {"clip_id": None, "media": None}]


def test_rows_are_those_of_pandas_and_take_no_dictionary_each() -> None:
    num = 3000
    table = pd.DataFrame({
        "corpus": pd.array(["k"] * num, "string"), "start": np.arange(num) / 2, "speaker": [np.int64(3)] * num,
        "end": [None, *range(1, num)], "words": [["a", 1.5]] * num,
    })  # fmt: skip
    columns = list(dict.fromkeys([*table.columns, *CLIP_COLUMNS[6:]]))
    tracemalloc.start()
    rows = records_of(table, columns)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    plain = table.reindex(columns=columns).astype(object)
    assert list(rows) == plain.where(plain.notna(), None).to_dict("records")
    assert [rows[2], rows[-1]] == [list(rows)[2], list(rows)[-1]]
    assert list(rows[1:3]) == [rows[1], rows[2]]
    assert [type(rows[1][name]) for name in ("corpus", "start", "speaker", "words")] == [str, float, int, list]
    assert len(rows) == num
    assert held / num < 300  # 15 columns of 8 bytes and what they hold; with a dictionary each 850


def test_chunks_are_of_one_corpus_and_of_the_size_asked_for(tmp_path: Path) -> None:
    work = queue(tmp_path, "abcde", "kkkll")
    with Claims(tmp_path) as claims:
        chunks = [list(work.claim_rows(claims, 2, set())) for _ in range(4)]
    assert chunks == [[0, 1], [2], [3, 4], []]


def test_what_is_there_is_neither_claimed_nor_made_again(tmp_path: Path) -> None:
    first = queue(tmp_path, "ab")
    settle(first, [0])
    assert first.find_missing() == {"text"}
    assert list(first.pending) == [1]
    work = queue(tmp_path, "ab")
    with Claims(tmp_path) as claims:
        assert list(work.claim_rows(claims, 5, set())) == [1]
    assert not work.pending


def test_what_another_process_holds_is_left_to_it_and_asked_for_later(tmp_path: Path) -> None:
    work, peer = queue(tmp_path, "abc"), queue(tmp_path, "abc")
    with Claims(tmp_path) as claims, Claims(tmp_path) as others:
        assert list(peer.claim_rows(others, 1, set())) == [0]
        waits_for: set[str] = set()
        assert list(work.claim_rows(claims, 1, waits_for)) == [1]
        assert len(waits_for) == 1
        assert list(work.pending) == [0, 2]
        others.drop(others.held)  # it gave up
        assert list(work.claim_rows(claims, 5, set())) == [0, 2]


@pytest.mark.parametrize("retry_failed", [False, True])
def test_failures_are_tried_again_once_where_asked_for(retry_failed: bool, tmp_path: Path) -> None:
    settle(queue(tmp_path, "a"), [0], fails=True)
    work = queue(tmp_path, "a", retry_failed=retry_failed)
    assert work.find_missing() == ({"text"} if retry_failed else set())
    settle(work, [0], fails=True)
    assert not work.find_missing()  # newer than this run, whoever tried it
    assert work.num_failed == 1


def test_counts_and_ledger_are_those_of_the_whole_table(tmp_path: Path) -> None:
    settle(queue(tmp_path, "abc"), [0])
    work = queue(tmp_path, "abc")
    settle(work, [1])
    settle(work, [2], fails=True)
    summary = ExtractionSummary()
    work.add_to(summary)
    assert summary.counts == {("k", "text"): Count(done=1, reused=1, failed=1)}
    assert summary.ledger[["clip_id", "status", "reason"]].values.tolist() == [["c", "failed", "no word"]]
