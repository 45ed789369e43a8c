"""Sequences beside pooled vectors: shortened, made in the same pass, stored apart, read in batches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from encoders.base import pool
from encoders.config import FeaturesConfig
from encoders.errors import Failure, StoreError
from encoders.extraction import jobs, workers
from encoders.extraction.encode import Encoded, check_results
from encoders.extraction.extract import _Work, extract
from encoders.extraction.read import encoder_specs, read_sequences, read_vectors, sequence_specs
from encoders.media.clip import ClipMedia
from encoders.sequences import Sequences, shorten, to_half
from encoders.spec import EncoderSpec, SequenceSpec
from encoders.store.claims import Claims, Item
from encoders.store.progress import ExtractionSummary
from encoders.store.sequence_store import SequenceStore
from encoders.store.vector_store import FeatureStore
from mmpsr.config import Config, ConfigError, validate
from tests.support import sequence_encoders
from tests.support.encoding import encode_clips
from tests.support.sequence_encoders import CALLS, features, ramp, table

SPEC = EncoderSpec("org/name", 1, "text", 2, {}, "0123456789ab")
DEVICE = "tests.support.sequence_encoders:DeviceRamp"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line for each clip that was encoded."""
    path = tmp_path / "calls"
    path.touch()
    monkeypatch.setenv(CALLS, str(path))
    return path


class _Pool:
    """Worker processes whose work is done in this one, which is quicker."""

    _processes: ClassVar[dict[int, object]] = {}

    def __init__(self, *_: object, **__: object) -> None: ...

    def submit(self, function: Callable[[jobs.Job], jobs.Result], job: jobs.Job) -> Future[jobs.Result]:
        future = Future[jobs.Result]()
        future.set_result(function(job))
        return future

    def shutdown(self, **_: object) -> None: ...


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ProcessPoolExecutor", _Pool)
    monkeypatch.setattr(jobs, "_loaded", {})


def rows_in(store: Path) -> Counter[tuple[bool, str]]:
    """How often each (is a sequence, clip) lies in the parts, whatever the store's own reader makes of it."""
    return Counter(
        ("-sequence-" in path.parts[-2], clip)
        for path in store.glob("*/*/*/part-*.parquet")
        for clip in pq.read_table(path, columns=["clip_id"])["clip_id"].to_pylist()
    )


def run(clips: pd.DataFrame, config: FeaturesConfig) -> ExtractionSummary:
    return extract(clips, config, show_progress=False)


def counts(summary: ExtractionSummary, subject: str = "text sequences") -> tuple[int, ...]:
    count = summary.counts["fake", subject]
    return count.done, count.reused, count.absent, count.failed


def test_shortening_by_hand() -> None:
    steps = np.array([[0, 5], [3, 5], [6, 5], [9, 5], [12, 5]], dtype=np.float32)
    # spans of 2.5: (0 + 3 + 6 / 2) / 2.5 and (6 / 2 + 9 + 12) / 2.5
    np.testing.assert_allclose(shorten(steps, 2), [[2.4, 5], [9.6, 5]])
    # spans of 5 / 3: (0 + 3 * 2/3), (3 / 3 + 6 + 9 / 3) and (9 * 2/3 + 12), each by 5 / 3
    np.testing.assert_allclose(shorten(steps, 3), [[1.2, 5], [6.0, 5], [10.8, 5]])
    for cap in (5, 6):
        assert shorten(steps, cap) is steps


@pytest.mark.parametrize(("length", "cap"), [(7, 2), (7, 3), (64, 16), (1000, 256), (257, 256)])
def test_shortening_is_the_mean_over_equal_spans(length: int, cap: int) -> None:
    sequence = 1e3 + np.random.default_rng(length).normal(size=(length, 3))
    shortened = shorten(sequence, cap)
    # each element drawn out to `cap` pieces, the pieces dealt to `cap` spans of `length`
    reference = np.repeat(sequence, cap, axis=0).reshape(cap, length, 3).mean(axis=1)
    np.testing.assert_allclose(shortened, reference, rtol=1e-12)
    np.testing.assert_allclose(shortened.mean(axis=0), sequence.mean(axis=0), rtol=1e-12)


def test_half_precision_is_a_copy_and_never_infinite() -> None:
    values = np.array([[65504.0, 0.1]], dtype=np.float32)
    half = to_half(values)
    assert (half.dtype, half[0, 0]) == (np.float16, 65504.0)
    assert not np.shares_memory(to_half(half), half)  # a whole batch would stay in memory
    with pytest.raises(OverflowError, match=r"^the sequence reaches 65505, and float16 ends at 65504$"):
        to_half(np.array([[1.0, -65505.0]]))


def some() -> Sequences:
    """Three clips: two elements, none, one."""
    values = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float16)
    return Sequences(np.array([True, False, True]), np.array([0, 2, 2, 3]), values)


def test_a_batch_by_hand() -> None:
    assert some().lengths.tolist() == [2, 0, 1]
    padded, mask = some().batch([2, 0, 1, 2])
    assert (padded.dtype, mask.dtype) == (np.float32, np.bool_)
    assert padded.tolist() == [[[5, 6], [0, 0]], [[1, 2], [3, 4]], [[0, 0], [0, 0]], [[5, 6], [0, 0]]]
    assert mask.tolist() == [[True, False], [True, True], [False, False], [True, False]]


def test_a_batch_is_as_long_as_its_longest_and_never_empty() -> None:
    assert some().batch(np.array([2]))[0].tolist() == [[[5, 6]]]
    padded, mask = some().batch([1])
    assert (padded.tolist(), mask.tolist()) == ([[[0, 0]]], [[False]])
    assert some().batch([])[0].shape == (0, 1, 2)
    with pytest.raises(IndexError):
        some().batch([3])


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ({"texts": 8}, r"features\.sequences: 'texts' has no encoder; did you mean 'text'\?"),
        ({"text": 1}, r"features\.sequences\.text: .*greater than or equal to 2 \(found 1\)"),
        ({"video": 8}, r"features\.sequences: 'video' has no encoder; known names are text"),
    ],
)
def test_wrong_settings_are_named(sequences: dict[str, int], message: str) -> None:
    class Run(Config):
        features: FeaturesConfig

    tree = {"features": {"encoders": {"text": "minilm"}, "sequences": sequences}}
    with pytest.raises(ConfigError, match=message):
        validate(Run, tree, "run.toml")


def test_an_encoder_without_time_has_no_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("clip0.npy", np.ones(3))
    config = features("store", 8, "plain", precomputed={"plain": {"path": "{clip_id}.npy"}})
    message = r"features\.sequences\.text: 'plain' gives one vector for a clip, without time.*take text out"
    for use in (encoder_specs, lambda config: read_vectors(table(["a"]), config)):
        with pytest.raises(ConfigError, match=message):
            use(config)


def test_sequences_of_modalities_that_are_not_in_use_are_not_made() -> None:
    """A run with fewer modalities copies the configuration with fewer encoders."""
    config = FeaturesConfig(encoders={"text": "minilm", "audio": "egemaps"}, sequences={"text": 9, "audio": 9})
    fewer = config.model_copy(update={"encoders": {"text": "minilm"}})
    specs = encoder_specs(fewer)
    assert {name: spec.key for name, spec in sequence_specs(fewer, specs).items()} == {
        "text": f"{specs['text'].key}-sequence-9"
    }


def write(store: SequenceStore, spec: SequenceSpec, **sequences: list[list[float]]) -> None:
    arrays = [np.array(values, dtype=np.float16) for values in sequences.values()]
    store.write_sequences("meld", spec, list(sequences), ["s"] * len(arrays), arrays)


def read(store: SequenceStore, spec: SequenceSpec, ids: list[str], source: str = "s") -> list[list[list[float]]]:
    places = store.locate("meld", spec, ids, [source] * len(ids))
    offsets = np.concatenate([[0], np.cumsum(places.lengths)])
    values = np.empty((offsets[-1], spec.width), dtype=np.float16)
    store.fill(spec, places, offsets[:-1], values)
    found: list[list[list[float]]] = [part.tolist() for part in np.split(values, offsets[1:-1])]
    return found


def test_layout_is_the_documented_one(tmp_path: Path) -> None:
    store, spec = SequenceStore(tmp_path), SPEC.sequences(3)
    store.write_sequences("meld", spec, ["a"], ["s"], [np.array([[1, 2], [3, 4.5]], dtype=np.float16)], ["a note"])
    folder = tmp_path / "meld" / "text" / "org_name-0123456789ab-sequence-3"
    assert json.loads((folder / "encoder.json").read_text()) == {
        "id": "org/name", "version": 1, "modality": "text", "width": 2, "settings": {}, "fingerprint": "0123456789ab",
        "pooling": "mean+std", "cap": 3,
    }  # fmt: skip
    part = pq.read_table(next(folder.glob("part-*.parquet")))
    assert part.column_names == ["clip_id", "source", "length", "sequence", "note"]
    assert str(part.schema.field("sequence").type) == "list<element: fixed_size_binary[4] not null>"
    # float16 1, 2, 3, 4.5: 0x3c00, 0x4000, 0x4200, 0x4480, the low byte first
    elements = [bytes.fromhex("003c0040"), bytes.fromhex("00428044")]
    assert part.to_pylist() == [
        {"clip_id": "a", "source": "s", "length": 2, "sequence": elements, "note": "a note"},
    ]


def test_reading_follows_the_order_asked_for(tmp_path: Path) -> None:
    store, spec = SequenceStore(tmp_path), SPEC.sequences(3)
    write(store, spec, a=[[1, 2]], b=[[3, 4], [5, 6]])
    write(store, spec, c=[[7, 8], [9, 10], [11, 12]])
    assert read(store, spec, ["c", "x", "a"]) == [[[7, 8], [9, 10], [11, 12]], [], [[1, 2]]]
    assert read(store, spec, ["b"]) == [[[3, 4], [5, 6]]]
    assert read(store, spec, ["a", "b"], "another source") == [[], []]
    assert read(store, SPEC.sequences(4), ["a"]) == [[]]  # another cap, another folder
    with pytest.raises(StoreError, match="asked for twice"):
        read(store, spec, ["a", "a"])


def test_a_clip_stored_twice_is_read_whole(tmp_path: Path) -> None:
    """Two sequences of one clip and of other lengths: whichever counts, nothing runs into its neighbours."""
    store, spec = SequenceStore(tmp_path), SPEC.sequences(3)
    write(store, spec, a=[[1, 1]] * 3, b=[[2, 2]])
    write(store, spec, a=[[1, 1]])
    first, second, third = read(store, spec, ["b", "a", "x"])
    assert (first, third) == ([[2, 2]], [])
    assert second in ([[1, 1]] * 3, [[1, 1]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((4, 2)), r"clip 'a' by 'org/name' has shape \(4, 2\), expected \[1 to 3, 2\]"),
        (np.ones((0, 2)), r"has shape \(0, 2\)"),
        (np.ones((2, 3)), r"has shape \(2, 3\)"),
        (np.array([[1, np.inf]]), r"clip 'a' by 'org/name' is not finite; record it as a failure"),
    ],
)
def test_wrong_sequences_are_refused(tmp_path: Path, values: NDArray[np.float64], message: str) -> None:
    store, spec = SequenceStore(tmp_path), SPEC.sequences(3)
    with pytest.raises(StoreError, match=message):
        store.write_sequences("meld", spec, ["a"], ["s"], [values.astype(np.float16)])
    assert not store.folder("meld", spec).exists()


def test_damaged_parts_are_named(tmp_path: Path) -> None:
    store, spec = SequenceStore(tmp_path), SPEC.sequences(3)
    write(store, spec, a=[[1, 2]])
    (path,) = store.folder("meld", spec).glob("part-*")
    part = pq.read_table(path)
    for stated in (2, 0):
        pq.write_table(part.set_column(2, "length", pa.array([stated], pa.int32())), path)
        with pytest.raises(StoreError, match=r"part-.*: lengths of sequences are not those stated; delete it"):
            read(store, spec, ["a"])
    pq.write_table(part.set_column(3, "sequence", pa.array([[1.0]])), path)
    with pytest.raises(StoreError, match=r"of type list<.*double>, expected lists of the bytes of 2 float16"):
        read(store, spec, ["a"])
    path.write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"part-.*: not a readable part .*delete it"):
        read(store, spec, ["a"])


@pytest.mark.parametrize("encoder", ["tests.support.sequence_encoders:Ramp", DEVICE])
def test_one_pass_makes_both(tmp_path: Path, calls: Path, encoder: str) -> None:
    store, texts = tmp_path / "store", ["1", "4", "9 0.5", "6"]
    config = features(store, 4, encoder)
    summary = run(table(texts), config)
    assert len(calls.read_text().split()) == 4
    assert (counts(summary), counts(summary, "text"), summary.num_clips) == ((4, 0, 0, 0), (4, 0, 0, 0), 4)
    assert rows_in(store) == {(kind, f"clip{n}"): 1 for kind in (False, True) for n in range(4)}
    found = read_sequences(table(texts).iloc[::-1], config)["text"]
    assert found.present.all()
    assert found.lengths.tolist() == [4, 4, 4, 1]
    # spans of 1.5 of 0..5: (0 + 1/2) / 1.5, (1/2 + 2) / 1.5, (3 + 4/2) / 1.5, (4/2 + 5) / 1.5
    np.testing.assert_allclose(found.values[:4, 0], np.array([1 / 3, 5 / 3, 10 / 3, 14 / 3]), rtol=1e-3)
    assert found.values[8:, 0].tolist() == [0, 1, 2, 3, 0]
    np.testing.assert_array_equal(found.values[:, 1], 1)
    _, vectors = read_vectors(table(texts), config)["text"]
    np.testing.assert_array_equal(vectors, [pool(ramp(text)) for text in texts])


def test_a_vector_is_the_mean_and_deviation_of_an_unshortened_sequence() -> None:
    sequence = np.random.default_rng(0).normal(scale=100, size=(500, 2)).astype(np.float32)
    (both,) = check_results(sequence_encoders.Ramp("text"), [sequence], 1, 500)
    assert isinstance(both, Encoded)
    assert isinstance(both.sequence, np.ndarray)
    assert len(both.sequence) == 500
    half = 2**-11 * np.abs(sequence).max()  # half a unit of the last place of float16
    np.testing.assert_allclose(pool(both.sequence.astype(np.float32)), both.vector, atol=half)
    assert np.abs(both.sequence - sequence).max() <= half


@pytest.mark.usefixtures("here")
def test_precomputed_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("clip0.npy", ramp("3"))
    np.save("clip1.npy", ramp("8"))
    config = features("store", 4, "mine", precomputed={"mine": {"path": "{clip_id}.npy"}})
    clips = table(["", "", ""])
    summary = run(clips, config)
    assert (counts(summary), len(summary.ledger)) == ((2, 0, 1, 0), 1)
    found = read_sequences(clips, config)["text"]
    assert found.present.tolist() == [True, True, False]
    assert found.offsets.tolist() == [0, 3, 7, 7]
    assert found.values[:, 0].tolist() == [0, 1, 2, 0.5, 2.5, 4.5, 6.5]


@pytest.mark.usefixtures("here")
def test_clips_of_several_corpora_in_any_order(tmp_path: Path) -> None:
    clips = pd.concat([table(["1", "2", "3"]), table(["4 2", "5 2"], "second")], ignore_index=True)
    config = features(tmp_path, 9)
    run(clips, config)
    order = [4, 0, 3, 2, 1]
    found = read_sequences(clips.iloc[order], config)["text"]
    for place, row in enumerate(order):
        sequence = found.values[found.offsets[place] : found.offsets[place + 1]]
        assert sequence.tolist() == ramp(clips["text"][row]).tolist()
    assert read_sequences(clips.iloc[:0], config)["text"].batch([])[0].shape == (0, 1, 2)
    assert read_sequences(clips, features(tmp_path, None)) == {}


def forbid_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pool was started")

    monkeypatch.setattr(workers, "ProcessPoolExecutor", refuse)


@pytest.mark.usefixtures("here")
def test_turned_on_later_only_sequences_are_made(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, clips = tmp_path / "store", table(["1", "2", "absent", "fail now", "5"])
    run(clips, features(store, None))
    before = {path: path.stat().st_mtime_ns for path in store.glob("fake/*/*/*")}
    calls.write_text("")
    summary = run(clips, features(store, 4))
    assert sorted(calls.read_text().split()) == ["clip0", "clip1", "clip4"]  # what failed is settled for both
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (counts(summary), counts(summary, "text")) == ((3, 0, 1, 1), (0, 3, 1, 1))
    assert summary.ledger["modality"].tolist() == ["text", "text"]  # a row for a clip, not two
    with monkeypatch.context() as patch:
        forbid_pools(patch)
        assert counts(run(clips, features(store, 4))) == (0, 3, 1, 1)
        assert ("fake", "text sequences") not in run(clips, features(store, None)).counts
    run(clips, features(store, 3))
    assert len(list(store.glob("fake/text/*-sequence-*"))) == 2
    assert rows_in(store) == {(is_one, f"clip{n}"): 1 + is_one for is_one in (False, True) for n in (0, 1, 4)}


@pytest.mark.usefixtures("here")
def test_a_device_encoder_makes_sequences_later(tmp_path: Path, calls: Path) -> None:
    store, clips = tmp_path / "store", table(["1", "2", "5"])
    run(clips.iloc[:2], features(store, None, DEVICE))
    calls.write_text("")
    summary = run(clips, features(store, 4, DEVICE))  # in one chunk a sequence alone, in the next both
    assert (counts(summary), counts(summary, "text")) == ((3, 0, 0, 0), (1, 2, 0, 0))
    assert len(calls.read_text().split()) == 3
    assert rows_in(store) == {(kind, f"clip{n}"): 1 for kind in (False, True) for n in range(3)}


@pytest.mark.usefixtures("here")
def test_a_clip_with_a_vector_may_fail_for_its_sequence(tmp_path: Path) -> None:
    store, there = tmp_path / "store", tmp_path / "there"
    clips, config = table([f"fail {there}", "2"]), features(store, 4)
    there.touch()
    run(clips, features(store, None))
    there.unlink()
    summary = run(clips, config)
    assert (counts(summary), counts(summary, "text")) == ((1, 0, 0, 1), (0, 2, 0, 0))
    assert summary.ledger[["clip_id", "modality", "reason"]].to_numpy().tolist() == [
        ["clip0", "text sequences", "no face"]
    ]
    assert not list(store.glob(f"fake/text/{encoder_specs(config)['text'].key}/ledger-*"))
    assert read_vectors(clips, config)["text"][0].all()


@pytest.mark.usefixtures("here")
def test_a_retried_clip_gets_both_in_one_pass(tmp_path: Path, calls: Path) -> None:
    store, repaired = tmp_path / "store", tmp_path / "repaired"
    clips = table([f"fail {repaired}", "fail for ever", "2"])
    summary = run(clips, features(store, 4))
    assert (counts(summary), counts(summary, "text")) == ((1, 0, 0, 2), (1, 0, 0, 2))
    repaired.touch()
    calls.write_text("")
    summary = run(clips, features(store, 4, retry_failed=True))
    assert calls.read_text().split() == ["clip0", "clip1"]
    assert (counts(summary), counts(summary, "text")) == ((1, 1, 0, 1), (1, 1, 0, 1))
    assert rows_in(store) == {(kind, f"clip{n}"): 1 for kind in (False, True) for n in (0, 2)}


@pytest.mark.usefixtures("here")
def test_what_float16_cannot_hold_is_a_failure_of_the_sequence_alone(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clips = tmp_path / "store", table(["3 65504", "2 65504"])  # up to 131008, and up to 65504
    summary = run(clips, features(store, 4))
    assert (counts(summary), counts(summary, "text")) == ((1, 0, 0, 1), (2, 0, 0, 0))
    assert summary.ledger[["clip_id", "modality", "status", "reason"]].to_numpy().tolist() == [
        ["clip0", "text sequences", "failed", "the sequence reaches 131008, and float16 ends at 65504"]
    ]
    assert read_sequences(clips, features(store, 4))["text"].present.tolist() == [False, True]
    assert read_vectors(clips, features(store, 4))["text"][0].all()
    with monkeypatch.context() as patch:
        forbid_pools(patch)
        run(clips, features(store, 4))
    calls.write_text("")
    summary = run(clips, features(store, 4, retry_failed=True))
    assert calls.read_text().split() == ["clip0"]
    assert (counts(summary), counts(summary, "text")) == ((0, 1, 0, 1), (0, 2, 0, 0))
    # spans of 1.5: (0 + 65504 / 2) / 1.5 and (65504 / 2 + 131008) / 1.5 = 109173: averages may overflow as well
    assert run(clips, features(store, 2)).ledger["reason"].tolist() == [
        "the sequence reaches 109173, and float16 ends at 65504"
    ]


def test_killed_between_the_two_writes(tmp_path: Path, calls: Path) -> None:
    store, root = tmp_path / "store", Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", sequence_encoders.__name__, str(store)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert rows_in(store) == {(False, "clip0"): 1, (False, "clip1"): 1}
    (written,) = store.glob("fake/text/*/part-*")
    before = written.stat().st_mtime_ns
    calls.write_text("")
    clips, config = table(["1", "2", "3", "4"]), features(store, 3)
    summary = run(clips, config)
    assert (counts(summary), counts(summary, "text")) == ((4, 0, 0, 0), (2, 2, 0, 0))
    assert sorted(calls.read_text().split()) == ["clip0", "clip1", "clip2", "clip3"]
    assert written.stat().st_mtime_ns == before
    assert rows_in(store) == {(kind, f"clip{n}"): 1 for kind in (False, True) for n in range(4)}
    assert read_sequences(clips, config)["text"].lengths.tolist() == [1, 2, 3, 3]


def test_a_vector_that_another_process_works_on_is_left_to_it(tmp_path: Path) -> None:
    """Its peer keeps no sequences, so the sequence is free."""
    config = features(tmp_path, 3)
    work = _Work(table(["1", "2"]), config)
    vectors, sequences = (work.item(0, name) for name in ("text", "text sequences"))
    assert vectors.folder + "-sequence-3" == sequences.folder
    assert vectors[1:] == sequences[1:]
    with Claims(tmp_path) as peer, Claims(tmp_path) as own:
        with peer.exclusive:
            peer.add([vectors])
        waits_for: set[str] = set()
        (job,) = work.pieces_of(work.claim(own, waits_for))
        assert [sorted(kind["text"]) for kind in (job.wanted, job.sequences)] == [[1], [0, 1]]
        assert job.rows("text") == [0, 1]
        assert own.held == {*job.items} == {sequences, *(work.item(1, name) for name in work.specs)}
        assert len(waits_for) == 1
        peer.drop([vectors])
        result = jobs.encode_job(job)
        work.receive(job, result, own)
        assert own.held == set()
    assert rows_in(tmp_path) == {(True, "clip0"): 1, (True, "clip1"): 1, (False, "clip1"): 1}
    assert list(work.pending) == [0]


def test_a_vector_made_meanwhile_does_not_end_the_summary(tmp_path: Path) -> None:
    """The clip's failure had settled its sequence; a peer without sequences then made the vector."""
    config = features(tmp_path, 3)
    work = _Work(table(["1"]), config)
    item, store = Item(*work.item(0, "text")), FeatureStore(tmp_path)
    store.write_failures("fake", work.specs["text"], [(item.clip_id, item.source, "failed", "no face")])
    assert not work.refresh()
    store.write("fake", work.specs["text"], ["clip0"], [item.source], np.zeros((1, 4), dtype=np.float32))
    assert counts(work.summarise(1.0)) == (0, 0, 0, 1)


def test_prediction_gets_vectors_alone_or_both() -> None:
    encoder, clip = sequence_encoders.Ramp("text"), ClipMedia(clip_id="clip0", text="3")
    (vector,) = encode_clips(encoder, [clip])
    assert isinstance(vector, np.ndarray)
    both, plain, failure = check_results(encoder, [ramp("3"), ramp("1 1e5"), ValueError("no")], 3, 2)
    assert isinstance(both, Encoded)
    assert isinstance(both.sequence, np.ndarray)
    assert both.vector.tolist() == vector.tolist()
    assert both.sequence[:, 0].tolist() == pytest.approx([1 / 3, 5 / 3], rel=1e-3)
    assert isinstance(plain, Encoded)
    assert failure == Failure("failed", "ValueError: no")
    (alone,) = check_results(encoder, [ramp("3")], 1, None)
    assert isinstance(alone, Encoded)
    assert alone.sequence is None


@pytest.mark.usefixtures("here")
def test_readers_of_vectors_open_no_sequences(tmp_path: Path) -> None:
    clips, config = table(["1", "2"]), features(tmp_path, 3)
    run(clips, config)
    for path in tmp_path.glob("*/*/*-sequence-3/part-*"):
        path.write_bytes(b"damaged")
    assert read_vectors(clips, config)["text"][0].all()
    assert counts(run(clips, features(tmp_path, None)), "text") == (0, 2, 0, 0)
