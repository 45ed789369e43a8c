from __future__ import annotations

import mmap
import pickle
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from encoders.errors import StoreError
from encoders.spec import EncoderSpec, TimedSpec
from encoders.store.timed_store import PLACES, TimedStore, rows_of
from encoders.timed import MEASURED, NONE, REPEATED, Timed

SPEC = EncoderSpec("fake", 1, "video", 3, {"sees": "much"}, "0123456789ab").in_time(None, {"form": "pictures"})


def timed(length: int, seed: int = 0, rate: Fraction = Fraction(24), start: float = 0.0) -> Timed:
    values = np.random.default_rng(seed).normal(size=(length, 3)).astype(np.float16)
    state = np.full(length, MEASURED, dtype=np.int8)
    state[:1], values[:1], state[1:2] = NONE, 0, REPEATED
    return Timed(values, rate, start, state)


def given(values: NDArray[np.float64], num_states: int, state: int) -> Timed:
    return Timed(values.astype(np.float16), Fraction(24), 0.0, np.full(num_states, state, dtype=np.int8))


def filled(root: Path, clips: Sequence[Timed], spec: TimedSpec = SPEC) -> TimedStore:
    store = TimedStore(root)
    ids = [f"clip{index}" for index in range(len(clips))]
    store.write_timed("corpus", spec, ids, ["now"] * len(ids), clips, [None, *["a note"] * (len(ids) - 1)])
    return store


def test_clips_come_back_as_they_were_written(tmp_path: Path) -> None:
    clips = [timed(5), timed(701, 1, Fraction(24000, 1001), 12.5)]
    store = filled(tmp_path, clips)
    store.write_timed("corpus", SPEC, ["later"], ["now"], [timed(2, 3)])
    read = store.open_timed("corpus", SPEC, ["later", "clip1", "none", "clip0"], ["now"] * 4)
    assert (read.width, len(read), read.lengths.tolist()) == (3, 4, [2, 701, 0, 5])
    assert read.present.tolist() == [True, True, False, True]
    assert read.rates == (Fraction(24), Fraction(24000, 1001), None, Fraction(24))
    assert read.starts.tolist() == [0.0, 12.5, 0.0, 0.0]
    for place, clip in ((1, clips[1]), (3, clips[0])):
        np.testing.assert_array_equal(read.frames(place), clip.values)
        np.testing.assert_array_equal(read.state(place), clip.state)
        assert read.frames(place).dtype == np.float16
    np.testing.assert_array_equal(read.frames(1, 400, 701), clips[1].values[400:])
    assert read.frames(2).shape == (0, 3)
    assert read.state(2).shape == (0,)
    assert store.notes("corpus", SPEC) == {("clip1", "now"): "a note"}
    with pytest.raises(IndexError, match="frames 3 to 6 of clip 3, which has 5"):
        read.frames(3, 3, 6)


def test_another_source_or_rate_is_another_thing(tmp_path: Path) -> None:
    store = filled(tmp_path, [timed(5)])
    assert not store.open_timed("corpus", SPEC, ["clip0"], ["before"]).present.any()
    other = EncoderSpec("fake", 1, "video", 3, {}, "0123456789ab").in_time(12.5, {"form": "pictures"})
    assert (SPEC.key[-11:], other.key[-12:]) == ("-frames-own", "-frames-12.5")
    assert SPEC.fingerprint == other.fingerprint != "0123456789ab"
    assert not store.open_timed("corpus", other, ["clip0"], ["now"]).present.any()


def test_what_was_opened_can_be_handed_to_another_process(tmp_path: Path) -> None:
    read = filled(tmp_path, [timed(50)]).open_timed("corpus", SPEC, ["clip0"], ["now"])
    read.frames(0)
    sent = pickle.dumps(read)
    assert len(sent) < 2000  # places and states, no values
    np.testing.assert_array_equal(pickle.loads(sent).frames(0, 7, 9), timed(50).values[7:9])


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        (
            Timed(np.zeros((2, 4), np.float16), Fraction(24), 0.0, np.zeros(2, np.int8)),
            r"float16 \(2, 4\) for 2 states",
        ),
        (Timed(np.zeros((2, 3), np.float16), Fraction(24), 0.0, np.zeros(3, np.int8)), r"\(2, 3\) for 3 states"),
        (Timed(np.zeros((0, 3), np.float16), Fraction(24), 0.0, np.zeros(0, np.int8)), r"expected float16 \[T, 3\]"),
        (Timed(np.full((1, 3), np.inf, np.float16), Fraction(24), 0.0, np.full(1, 2, np.int8)), "are not finite"),
        (Timed(np.ones((1, 3), np.float16), Fraction(24), 0.0, np.zeros(1, np.int8)), "not zero at frames that have"),
    ],
)
def test_what_is_not_sound_is_not_written(tmp_path: Path, clip: Timed, words: str) -> None:
    with pytest.raises(StoreError, match=rf"clip 'clip0' by 'fake' in time: .*{words}"):
        filled(tmp_path, [clip])
    assert not list(tmp_path.rglob("*.parquet"))


def test_rows_without_a_part_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", killed)
        with pytest.raises(KeyboardInterrupt):
            filled(tmp_path, [timed(5)])
    folder = TimedStore(tmp_path).folder("corpus", SPEC)
    assert len(list(folder.glob("frames-*.npy"))) == 1  # written before the part that would name them
    assert not len(TimedStore(tmp_path).done("corpus", SPEC))
    read = filled(tmp_path, [timed(5)]).open_timed("corpus", SPEC, ["clip0"], ["now"])
    np.testing.assert_array_equal(read.frames(0), timed(5).values)


def test_a_part_without_its_rows_says_what_to_do(tmp_path: Path) -> None:
    store = filled(tmp_path, [timed(5)])
    (part,) = store.folder("corpus", SPEC).glob("part-*.parquet")
    rows_of(part).unlink()
    with pytest.raises(StoreError, match=r"part-.*: its rows, frames-.*\.npy, are not there; delete the part"):
        store.open_timed("corpus", SPEC, ["clip0"], ["now"])


def test_rows_are_a_plain_array_that_numpy_reads(tmp_path: Path) -> None:
    clips = [timed(5), timed(7, 1)]
    store = filled(tmp_path, clips)
    (part,) = store.folder("corpus", SPEC).glob("part-*.parquet")
    np.testing.assert_array_equal(np.load(rows_of(part)), np.concatenate([clip.values for clip in clips]))
    table = pq.read_table(part)
    assert table["offset"].to_pylist() == [0, 5]
    assert table.schema.field("state").type == pa.binary()
    assert tuple(table.column_names[2:-1]) == PLACES


def touched(path: Path) -> int:
    """Bytes of a file that this process holds in memory through a map."""
    resident = 0
    lines = Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.endswith(str(path)):
            rss = next(each for each in lines[number:] if each.startswith("Rss:"))
            resident += 1024 * int(rss.split()[1])
    return resident


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_a_window_reads_only_its_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EncoderSpec("wide", 1, "video", 512, {}, "0123456789ab").in_time(None, {})
    store = TimedStore(tmp_path)
    length = 20_000  # 20 MB
    values = np.zeros((length, 512), dtype=np.float16)
    values[:, 0] = np.arange(length) % 1000
    clip = Timed(values, Fraction(24), 0.0, np.full(length, MEASURED, dtype=np.int8))
    store.write_timed("corpus", spec, ["a"], ["now"], [clip])
    (path,) = store.folder("corpus", spec).glob("frames-*.npy")
    read = store.open_timed("corpus", spec, ["a"], ["now"])
    assert touched(path) == 0
    held = []
    with monkeypatch.context() as patch:  # how much a window touches, before it is given back
        patch.delattr(mmap, "MADV_DONTNEED")
        window = read.frames(0, 12_000, 12_300)
        held.append(touched(path))
    assert window[:, 0].tolist() == [number % 1000 for number in range(12_000, 12_300)]
    assert window.nbytes == 300 * 1024
    # the system maps what it has cached in pages of up to 2 MB, and the window may lie in two of them and be read ahead
    assert window.nbytes <= held[0] <= 8 * 2**20
    assert type(window) is np.ndarray
    for begin in range(0, length, 3000):
        read.frames(0, begin, min(begin + 300, length))
        held.append(touched(path))
    assert held[1:] == [0] * (len(held) - 1)
