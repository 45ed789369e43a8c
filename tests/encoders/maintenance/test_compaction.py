"""Compaction: nothing is lost or doubled, whoever reads, writes or is killed at any moment."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.errors import StoreError
from encoders.maintenance.compaction import CompactionReport, compact, find_compactable
from encoders.maintenance.inventory import take_inventory
from encoders.maintenance.pruning import find_leftovers
from encoders.spec import EncoderSpec
from encoders.store import vector_store as store_module
from encoders.store.claims import Claims, Item
from encoders.store.parts import Compaction, list_parts, open_compactions, record_compaction
from encoders.store.sequence_store import SequenceStore
from encoders.store.text_store import TextStore, Written
from encoders.store.timed_store import TimedStore
from encoders.store.vector_store import FeatureStore
from encoders.timed import MEASURED, Timed

SPEC = EncoderSpec("fake", 1, "video", 2, {}, "0123456789ab", "none")
SEQUENCES, TIMED, TEXTS = SPEC.sequences(8), SPEC.in_time(None, {}), EncoderSpec("w", 1, "texts", 1, {}, "1" * 12)
FOLDER = f"meld/video/{SPEC.key}"
IDS = [f"clip{number}" for number in range(6)]
NOW = ["now"] * len(IDS)


def sequence(number: int) -> np.ndarray:
    return (np.arange(2 * (number + 1)).reshape(-1, 2) + 10 * number).astype(np.float16)


def timed(number: int) -> Timed:
    length = number + 2
    values = (np.arange(2 * length).reshape(-1, 2) + 100 * number).astype(np.float16)
    return Timed(values, Fraction(24 + number), float(number), np.full(length, MEASURED, np.int8))


def fill(root: Path, ids: list[str] = IDS) -> None:
    """A part for every clip, of every kind; of every other clip figures and a note, and a ledger for two clips."""
    for number, name in enumerate(ids):
        even, figures = number % 2 == 0, [{"num_frames": number}]
        vectors = np.array([[number, -number]], dtype=np.float32)
        notes = ["a note"] if even else None
        FeatureStore(root).write("meld", SPEC, [name], ["now"], vectors, notes, figures if even else None)
        SequenceStore(root).write_sequences("meld", SEQUENCES, [name], ["now"], [sequence(number)])
        TimedStore(root).write_timed("meld", TIMED, [name], ["now"], [timed(number)])
        TextStore(root).write_texts("meld", TEXTS, [name], ["now"], [Written(f"text {number}", "en", [("a", 0, 1)])])
    for number in range(2):
        row = (f"none{number}", "now", "failed", f"reason {number}")
        FeatureStore(root).write_failures("meld", SPEC, [row], "2026-01-01", [{"num_frames": 7}] if number else None)


def content(root: Path, ids: list[str] = IDS) -> dict[str, Any]:
    """All that readers get of a store."""
    sources = ["now"] * len(ids)
    store, sequences = FeatureStore(root), SequenceStore(root)
    places = sequences.locate("meld", SEQUENCES, ids, sources)
    values = np.zeros((places.lengths.sum(), 2), dtype=np.float16)
    sequences.fill(SEQUENCES, places, np.cumsum(places.lengths) - places.lengths, values)
    in_time = TimedStore(root).open_timed("meld", TIMED, ids, sources)
    present, vectors = store.read("meld", SPEC, ids, sources)
    index = store.done("meld", SPEC)
    return {
        "present": present.tolist(), "vectors": vectors.tolist(),
        "sequences": values.tolist(), "lengths": places.lengths.tolist(),
        "frames": [in_time.frames(clip).tolist() for clip in range(len(ids))],
        "in time": (in_time.rates, in_time.starts.tolist(), [in_time.state(clip).tolist() for clip in range(len(ids))]),
        "texts": TextStore(root).read_texts("meld", TEXTS),
        "notes": store.notes("meld", SPEC), "figures": store.figures("meld", SPEC),
        "ids": store.clip_ids("meld", SPEC), "settled": [index.get((name, "now")) for name in [*ids, "none0", "none1"]],
        "ledger": sorted(store.ledger("meld", SPEC)["reason"]),
        "rows": {report.folder: (report.done, report.failed, report.superseded) for report in take_inventory(root)},
    }  # fmt: skip


def num_parts(root: Path) -> dict[str, int]:
    return {path.name: len(list(path.glob("*.parquet"))) for path in root.glob("*/*/*")}


WHOLE = {SPEC.key: 2, SEQUENCES.key: 1, TIMED.key: 1, TEXTS.key: 1}
"""One part, and one ledger where there are any."""


def test_every_kind_is_read_as_before(tmp_path: Path) -> None:
    fill(tmp_path)
    before = content(tmp_path)
    assert before["vectors"][3] == [3.0, -3.0]
    assert before["frames"][5] == timed(5).values.tolist()
    reports = {report.folder.rpartition("/")[2]: report for report in compact(tmp_path)}
    assert content(tmp_path) == before
    assert num_parts(tmp_path) == WHOLE
    assert [(reports[name].parts_before, reports[name].parts_after) for name in WHOLE] == [
        (8, 2), (6, 1), (6, 1), (6, 1)
    ]  # fmt: skip
    rows = [path for path in tmp_path.rglob("*.npy")]
    assert [np.load(path).shape for path in rows] == [(27, 2)]  # 2 + 3 + ... + 7 frames
    assert list(compact(tmp_path)) == []
    FeatureStore(tmp_path).write("meld", SPEC, ["late"], ["now"], np.ones((1, 2), dtype=np.float32))
    (report,) = compact(tmp_path)
    assert (report.parts_before, report.parts_after) == (3, 2)
    assert FeatureStore(tmp_path).read("meld", SPEC, ["late", "clip1"], ["now"] * 2)[1].tolist() == [[1, 1], [1, -1]]


def test_what_would_be_done_is_told_without_doing_it(tmp_path: Path) -> None:
    assert find_compactable(tmp_path / "nowhere") == []
    fill(tmp_path)
    before = num_parts(tmp_path)
    plans = find_compactable(tmp_path)
    assert num_parts(tmp_path) == before
    assert plans == list(compact(tmp_path))
    assert find_compactable(tmp_path) == []


def test_what_readers_hold_stays_readable(tmp_path: Path) -> None:
    """Places of sequences, and files of rows that are not mapped yet, through two compactions."""
    fill(tmp_path)
    places = SequenceStore(tmp_path).locate("meld", SEQUENCES, IDS, NOW)
    in_time = TimedStore(tmp_path).open_timed("meld", TIMED, IDS, NOW)
    mapped = in_time.frames(2)
    worker = pickle.loads(pickle.dumps(in_time))
    for round_ in range(2):
        list(compact(tmp_path))
        for reader in (in_time, worker) if round_ else (in_time,):
            for clip in range(len(IDS)):
                np.testing.assert_array_equal(reader.frames(clip), timed(clip).values)
        values = np.zeros((places.lengths.sum(), 2), dtype=np.float16)
        starts = np.cumsum(places.lengths) - places.lengths
        SequenceStore(tmp_path).fill(SEQUENCES, places, starts, values)
        np.testing.assert_array_equal(values, np.concatenate([sequence(clip) for clip in range(len(IDS))]))
        TimedStore(tmp_path).write_timed("meld", TIMED, [f"late{round_}"], ["now"], [timed(8)])
        SequenceStore(tmp_path).write_sequences("meld", SEQUENCES, [f"late{round_}"], ["now"], [sequence(2)])
    np.testing.assert_array_equal(mapped, timed(2).values)
    assert len(list(tmp_path.rglob(".compacted/*.done.json"))) == 7  # vectors, ledger, texts; sequences, in time twice
    for path in tmp_path.rglob("frames-*.npy"):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickle.dumps(in_time)).frames(0)


def test_rows_of_a_part_that_is_read_while_it_is_taken_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    read, calls = store_module.read_part, []

    def meanwhile(path: Path, columns: list[str]) -> pa.Table:
        calls.append(path)
        if len(calls) == 3:
            list(compact(tmp_path))
        return read(path, columns)

    monkeypatch.setattr(store_module, "read_part", meanwhile)
    present, vectors = FeatureStore(tmp_path).read("meld", SPEC, IDS, NOW)
    assert present.all()
    assert vectors[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert len(calls) == 4  # two of the many, a third that is gone, and the one


def test_listing_that_missed_the_many_and_the_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    folder, scandir, calls = tmp_path / FOLDER, os.scandir, []

    def late(path: Path) -> Any:
        calls.append(path)
        if path == folder and calls.count(folder) == 1:
            (tmp_path / "empty").mkdir()
            list(compact(tmp_path))
            return scandir(tmp_path / "empty")  # the many are gone already, the one came behind the place of the scan
        return scandir(path)

    monkeypatch.setattr(os, "scandir", late)
    assert len(list_parts(folder, "part-")) == 1


def test_listing_while_the_one_takes_the_place_of_the_many_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    folder, scandir = tmp_path / FOLDER, os.scandir
    many = list_parts(folder, "part-")
    record_compaction(folder, Compaction("part-one.parquet", tuple(many), (1,) * len(many), (0,) * len(many)))
    assert list_parts(folder, "part-") == many  # the one has not appeared
    (folder / many[0]).rename(tmp_path / "removed")
    assert list_parts(folder, "part-") == many[1:]  # a person did it: there is nothing else to find
    (tmp_path / "removed").rename(folder / many[0])
    (tmp_path / "empty").mkdir()

    def meanwhile(path: Path) -> Any:
        monkeypatch.setattr(os, "scandir", scandir)
        (folder / many[0]).rename(folder / "part-one.parquet")
        for name in many[1:]:
            (folder / name).unlink()
        return scandir(tmp_path / "empty")

    monkeypatch.setattr(os, "scandir", meanwhile)
    assert list_parts(folder, "part-") == ["part-one.parquet"]


def test_large_parts_stay_and_none_becomes_larger_than_told(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    wide = EncoderSpec("wide", 1, "video", 1000, {}, "0" * 12, "none")  # 4000 bytes a clip
    for first, number in ((0, 3), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1)):
        ids = [f"clip{clip}" for clip in range(first, first + number)]
        store.write("meld", wide, ids, ["now"] * number, np.full((number, 1000), first, dtype=np.float32))
    (report,) = compact(tmp_path, 16_000)
    # the part of three clips has more than half; the five of one, of about 5 KB with their names, are three and two
    assert (report.parts_before, report.parts_after) == (6, 3)
    assert sorted(pq.read_metadata(path).num_rows for path in tmp_path.rglob("part-*")) == [2, 3, 3]
    assert store.read("meld", wide, ["clip2", "clip7"], ["now"] * 2)[1][:, 0].tolist() == [0, 7]


def test_what_cannot_be_read_or_joined_is_left_and_named(tmp_path: Path) -> None:
    fill(tmp_path)
    folder = tmp_path / FOLDER
    (folder / "part-torn.parquet").write_bytes(b"PAR1")
    odd = pa.table({"clip_id": ["odd"], "source": ["now"], "vector": [[1.0, 2.0]]})
    pq.write_table(odd, folder / "part-odd.parquet")
    (report,) = (report for report in compact(tmp_path) if report.folder == FOLDER)
    assert set(report.left) == {"part-torn.parquet", "part-odd.parquet"}
    assert "not a readable part" in report.left["part-torn.parquet"]
    assert "its columns are" in report.left["part-odd.parquet"]
    assert (folder / "part-torn.parquet").exists()
    assert (folder / "part-odd.parquet").exists()
    assert report.parts_after == 4


def test_a_folder_that_another_process_compacts_is_left_to_it(tmp_path: Path) -> None:
    fill(tmp_path)
    before = num_parts(tmp_path)
    with Claims(tmp_path) as other:
        other.add([Item(FOLDER, "", "compaction")])
        (report,) = (report for report in compact(tmp_path) if report.folder == FOLDER)
    assert report == CompactionReport(FOLDER, 8, 8, left={"": f"{report.left[''][:-12]} compacts it"})
    assert f"process {os.getpid()} on" in report.left[""]
    assert num_parts(tmp_path) == {**WHOLE, SPEC.key: before[SPEC.key]}


def test_a_linked_folder_and_a_store_that_is_not_there(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere")
    (tmp_path / "store/meld").mkdir(parents=True)
    (tmp_path / "store/meld/video").symlink_to(tmp_path / "elsewhere/meld/video")
    assert list(compact(tmp_path / "store")) == []
    assert len(list((tmp_path / "elsewhere" / FOLDER).glob("*.parquet"))) == 8
    with pytest.raises(StoreError, match=r"nowhere: there is no such folder"):
        list(compact(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_a_full_disk_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    before, files = content(tmp_path), num_parts(tmp_path)

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.pq, "write_table", full_disk)
    with pytest.raises(OSError, match="No space"):
        list(compact(tmp_path))
    assert content(tmp_path) == before
    assert num_parts(tmp_path) == files
    assert find_leftovers(tmp_path) == []
    assert all(not open_compactions(path) for path in tmp_path.glob("*/*/*"))


def in_child(work: Callable[[], object]) -> int:
    """Run in a fork of this process, which has imported all, and return how it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(step: int, root: Path) -> int:
    """Compact in a child that is killed before its n-th change of names."""
    taken = 0

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **named: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return change

    def work() -> None:
        for name in ("replace", "unlink", "mkdir"):
            setattr(os, name, dying(getattr(os, name)))
        list(compact(root))

    return in_child(work)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_before_any_change_of_names(tmp_path: Path) -> None:
    """After each kill all is read as before, and the next compaction ends what the killed one began."""

    def require_all(root: Path, step: int) -> None:
        in_time = TimedStore(root).open_timed("meld", TIMED, IDS[:2], NOW[:2])
        for clip in range(2):
            np.testing.assert_array_equal(in_time.frames(clip), timed(clip).values, str(step))
        (report,) = take_inventory(root)
        assert (report.done, report.failed, report.superseded, report.damaged) == (2, 2, 0, []), step

    step, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        step += 1
        root = tmp_path / str(step)
        store = TimedStore(root)
        for number in range(2):
            store.write_timed("meld", TIMED, [IDS[number]], ["now"], [timed(number)])
            store.write_failures("meld", TIMED, [(f"none{number}", "now", "failed", "why")])
        status = killed_at(step, root)
        require_all(root, step)
        list(compact(root))
        require_all(root, step)
        assert (num_parts(root), len(list(root.rglob("*.npy")))) == ({TIMED.key: 2}, 1), step
        assert not open_compactions(next(root.glob("*/*/*"))), step
    assert status == 0
    # records that come and get another name, a file of rows, a part and a ledger that come; two each that go
    assert step > 2 * 2 + 3 + 3 * 2


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_random_beside_a_writer_and_readers(tmp_path: Path) -> None:
    """One process compacts all the time and is killed 20 times, while clips are added and read."""
    rng, context = random.Random(0), multiprocessing.get_context("fork")
    store, follower = FeatureStore(tmp_path), FeatureStore(tmp_path)
    ids: list[str] = []
    opened: list[tuple[int, Any]] = []

    def compacting() -> None:
        while True:
            list(compact(tmp_path, 6_000))

    for round_ in range(20):
        process = context.Process(target=compacting)
        process.start()
        until = time.monotonic() + rng.uniform(0.02, 0.3)
        while time.monotonic() < until:
            number = len(ids)
            store.write("meld", SPEC, [f"clip{number}"], ["now"], np.array([[number, -number]], dtype=np.float32))
            TimedStore(tmp_path).write_timed("meld", TIMED, [f"clip{number}"], ["now"], [timed(number % 7)])
            ids.append(f"clip{number}")
            if number % 10 == 0:
                present, vectors = FeatureStore(tmp_path).read("meld", SPEC, ids, ["now"] * len(ids))
                assert present.all(), round_
                assert vectors[:, 0].tolist() == list(range(len(ids)))
                assert len(follower.done("meld", SPEC)) == len(FeatureStore(tmp_path).done("meld", SPEC)) == len(ids)
                opened.append((len(ids), TimedStore(tmp_path).open_timed("meld", TIMED, ids, ["now"] * len(ids))))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    for num_clips, in_time in opened[:: max(1, len(opened) // 10)]:
        for clip in range(num_clips):
            np.testing.assert_array_equal(in_time.frames(clip), timed(clip % 7).values)
    list(compact(tmp_path))
    for report in take_inventory(tmp_path):
        assert (report.done, report.superseded, report.damaged, report.num_parts) == (len(ids), 0, [], 1)
    assert [leftover for leftover in find_leftovers(tmp_path) if "temporary" not in leftover.path] == []
    table = pd.concat(
        pq.read_table(path, columns=["clip_id"]).to_pandas() for path in tmp_path.glob(f"{FOLDER}/part-*")
    )
    assert sorted(table["clip_id"]) == sorted(ids)
