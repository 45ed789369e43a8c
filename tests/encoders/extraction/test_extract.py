from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from encoders.errors import ExtractionError, Failure, StoreError
from encoders.extraction import workers
from encoders.extraction.encode import make_encoder
from encoders.extraction.extract import _Work, extract
from encoders.extraction.read import encoder_specs, read_vectors
from encoders.media.clip import ClipMedia
from encoders.spec import source_of
from encoders.store.claims import Claims, Item
from encoders.store.progress import Count, ExtractionSummary
from encoders.store.vector_store import LEDGER_COLUMNS, FeatureStore
from encoders.workers import DIED, Workers
from mmpsr.config import ConfigError
from tests.support import fake_encoders
from tests.support.encoding import encode_clips
from tests.support.fake_encoders import Obedient, Other, expected, features, table
from tests.support.warm_workers import warm_workers

Mixed = tuple[Path, pd.DataFrame, ExtractionSummary]
BOTH = {"text": "tests.support.fake_encoders:Obedient", "behavior": "tests.support.fake_encoders:Other"}
NO_MEDIA = {"media": None, "start": None, "end": None, "description": None}


@pytest.fixture(scope="module", autouse=True)
def _ready() -> Iterator[None]:
    with warm_workers("encoders.extraction.jobs", fake_encoders.__name__):
        yield


def rows_in(store: Path, corpus: str = "fake") -> Counter[tuple[str, str]]:
    """How often each (modality, clip) lies in the parts, whatever the store's own reader makes of it."""
    counts: Counter[tuple[str, str]] = Counter()
    for path in store.glob(f"{corpus}/*/*/part-*.parquet"):
        counts.update(
            (path.parts[-3], clip) for clip in pq.read_table(path, columns=["clip_id"])["clip_id"].to_pylist()
        )
    return counts


def start(store: Path, seconds: list[float], kill_at: int = 0, moment: str = "never") -> subprocess.Popen[str]:
    times = ",".join(map(str, seconds))
    command = [sys.executable, "-m", fake_encoders.__name__, str(store), times, str(kill_at), moment]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def forbid_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pool was started")

    monkeypatch.setattr(workers, "ProcessPoolExecutor", refuse)


def loaded() -> Obedient:
    encoder = Obedient("text")
    encoder.load()
    return encoder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    """One extraction that meets every kind of clip, and its summary."""
    store = tmp_path_factory.mktemp("mixed")
    texts = ["hello", "raise", "good day", "nan", "absent", "fail", "wide", "empty", "note", "bye"]
    clips = pd.concat([table(texts), table(["elsewhere"], corpus="second")], ignore_index=True)
    return store, clips, extract(clips, features(store, encoders=BOTH, chunk_size=4), show_progress=False)


def test_vectors_follow_the_rows_of_the_table(mixed: Mixed) -> None:
    store, clips, _ = mixed
    order = [9, 1, 10, 0, 2, 4]
    read = read_vectors(clips.iloc[order], features(store, encoders=BOTH))
    assert list(read) == ["text", "behavior"]
    for present, vectors in read.values():
        assert present.tolist() == [True, False, True, True, True, False]
        absent = [0.0] * 4
        assert vectors.tolist() == [
            expected("bye", 9), absent, expected("elsewhere", 0), expected("hello", 0), expected("good day", 2), absent,
        ]  # fmt: skip


def test_an_exception_costs_only_the_clip_that_raises_it(mixed: Mixed) -> None:
    store, _, summary = mixed
    assert set(rows_in(store)) == {(m, f"clip{n}") for m in BOTH for n in (0, 2, 8, 9)}
    ledger = summary.ledger.query("modality == 'text'").set_index("clip_id")
    assert ledger[["status", "reason"]].apply(tuple, axis=1).to_dict() == {
        "clip1": ("failed", "ValueError: cannot take clip1"),
        "clip3": ("failed", "NaN in the vector"),
        "clip4": ("absent", "no transcript"),
        "clip5": ("failed", "face too small"),
        "clip6": ("failed", "the encoder returned shape (2, 5), expected [T >= 1, 2]"),
        "clip7": ("failed", "the encoder returned shape (0, 2), expected [T >= 1, 2]"),
    }


def test_summary_counts_add_up_and_can_be_shown(mixed: Mixed) -> None:
    _, _, summary = mixed
    assert {key: vars(count) for key, count in summary.counts.items()} == {
        **{("fake", name): {"done": 4, "reused": 0, "absent": 1, "failed": 5} for name in BOTH},
        **{("second", name): {"done": 1, "reused": 0, "absent": 0, "failed": 0} for name in BOTH},
    }
    assert summary.num_clips == 11
    assert summary.reasons["text", "failed", "face too small"] == 1
    out = io.StringIO()
    Console(file=out, width=120).print(summary)
    assert "11 clips" in out.getvalue()
    assert "ValueError: cannot take clip1" in out.getvalue()


def test_reasons_are_shown_as_they_are() -> None:
    ledger = pd.DataFrame([["c", "1", "video", "e", "failed", "[/data/a] unread", ""]], columns=list(LEDGER_COLUMNS))
    out = io.StringIO()
    Console(file=out, width=120).print(ExtractionSummary({("c", "video"): Count(failed=1)}, ledger))
    assert "[/data/a] unread" in out.getvalue()


def test_notes_are_kept(mixed: Mixed) -> None:
    store, _, _ = mixed
    notes = FeatureStore(store).notes("fake", Obedient("text").spec)
    assert {clip: note for (clip, _), note in notes.items()} == {"clip8": "repeated frames in clip8"}


def test_second_run_starts_no_worker_and_is_quick(mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    store, clips, _ = mixed
    forbid_pools(monkeypatch)
    summary = extract(clips, features(store, encoders=BOTH), show_progress=False)
    assert vars(summary.counts["fake", "text"]) == {"done": 0, "reused": 4, "absent": 1, "failed": 5}
    assert len(summary.ledger) == 12
    with pytest.raises(AssertionError, match="a pool was started"):  # the refusal is real
        extract(table(["new"], corpus="third"), features(store), show_progress=False)


def test_thousand_clips_are_recognised_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips, config = table([f"text {n}" for n in range(1000)]), features(tmp_path, encoders=BOTH)
    store, specs = FeatureStore(tmp_path), encoder_specs(config)
    for name, spec in specs.items():
        for first in range(0, 1000, 16):
            chunk = clips.iloc[first : first + 16]
            sources = [source_of({**NO_MEDIA, "text": text}, name) for text in chunk["text"]]
            store.write("fake", spec, chunk["clip_id"].tolist(), sources, np.zeros((len(chunk), 4), dtype=np.float32))
    forbid_pools(monkeypatch)
    assert extract(clips, config, show_progress=False).seconds < 1.0


def test_changed_source_and_retried_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, file = tmp_path / "store", tmp_path / "repaired"
    clips = table(["one", f"unless {file}", "fail"])
    extract(clips, features(store), show_progress=False)
    with monkeypatch.context() as patch:  # failures are settled unless asked for
        forbid_pools(patch)
        assert extract(clips, features(store), show_progress=False).counts["fake", "text"].failed == 2
    file.touch()
    clips.loc[0, "text"] = "changed"
    summary = extract(clips, features(store, retry_failed=True), show_progress=False)
    assert vars(summary.counts["fake", "text"]) == {"done": 2, "reused": 0, "absent": 0, "failed": 1}
    present, vectors = read_vectors(clips, features(store))["text"]
    assert present.tolist() == [True, True, False]
    assert vectors[0].tolist() == expected("changed", 0)
    assert rows_in(store) == {("text", "clip0"): 2, ("text", "clip1"): 1}  # clip0 once per source
    assert summary.ledger["clip_id"].tolist() == ["clip2"]


@pytest.mark.slow
def test_processes_share_the_work(tmp_path: Path) -> None:
    peers = [start(tmp_path, [0.05] * 40) for _ in range(2)]
    outputs = [peer.communicate(timeout=60) for peer in peers]
    assert [peer.returncode for peer in peers] == [0, 0], outputs
    assert rows_in(tmp_path) == {(name, f"clip{n}"): 1 for name in BOTH for n in range(40)}
    shares = [int(out.strip().splitlines()[-1]) for out, _ in outputs]
    assert sum(shares) == 80
    assert min(shares) > 0


@pytest.mark.slow
def test_waits_for_a_peer_and_takes_over_what_it_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A peer holds the texts of three clips: it finishes the first, and gives up the second and the third."""
    texts = ["zero", "one", "two", "three"]
    clips, config = table(texts), features(tmp_path, encoders=BOTH)
    spec, store = encoder_specs(config)["text"], FeatureStore(tmp_path)
    folder = store.folder("fake", spec).relative_to(tmp_path).as_posix()
    items = [Item(folder, f"clip{n}", source_of({**NO_MEDIA, "text": texts[n]}, "text")) for n in range(3)]
    marker = np.full((1, 4), 42, dtype=np.float32)
    claimed, events = threading.Event(), []

    def peer() -> None:
        with Claims(tmp_path) as claims:
            with claims.exclusive:
                claims.add(items)
            claimed.set()
            while len(rows_in(tmp_path)) < 5:  # what is free: four of behavior, one of text
                time.sleep(0.05)
            time.sleep(1.0)
            events.append("finishes")
            store.write("fake", spec, ["clip0"], [items[0].source], marker)

    thread = threading.Thread(target=peer)
    thread.start()
    claimed.wait()
    summary = extract(clips, config)
    events.append("returns")
    thread.join()
    assert events == ["finishes", "returns"]
    assert rows_in(tmp_path) == {(name, f"clip{n}"): 1 for name in BOTH for n in range(4)}
    assert vars(summary.counts["fake", "text"]) == {"done": 3, "reused": 1, "absent": 0, "failed": 0}
    vectors = read_vectors(clips, config)["text"][1]
    assert vectors.tolist() == [[42.0] * 4, *(expected(texts[n], n) for n in (1, 2, 3))]
    assert f"waiting for 3 clips that process {os.getpid()} on" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_or_stored_twice(tmp_path: Path) -> None:
    store = tmp_path / "killed"
    for kill_at, moment in [(1, "after"), (5, "before"), (7, "before"), (6, "after"), (9, "after")]:
        peer = start(store, [0.02] * 30, kill_at, moment)
        peer.communicate(timeout=60)  # also waits until its workers, who share its pipes, are gone
        assert peer.returncode == -signal.SIGKILL
        assert set(rows_in(store).values()) <= {1}
    survivor = start(store, [0.02] * 30)
    assert survivor.communicate(timeout=60) is not None
    assert survivor.returncode == 0
    assert rows_in(store) == {(name, f"clip{n}"): 1 for name in BOTH for n in range(30)}
    assert [path.name for path in (store / ".claims").iterdir() if path.suffix] == ["exclusive.lock"]
    clips = table(["sleep 0.02"] * 30)
    for present, vectors in read_vectors(clips, features(store, encoders=BOTH)).values():
        assert present.all()
        assert vectors.tolist() == [expected("sleep 0.02", n) for n in range(30)]


@pytest.mark.slow
def test_peer_takes_over_from_the_killed(tmp_path: Path) -> None:
    victim, heir = start(tmp_path, [0.03] * 40), start(tmp_path, [0.03] * 40)
    while len(rows_in(tmp_path)) < 20:
        time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=60)
    _, error = heir.communicate(timeout=60)
    assert heir.returncode == 0, error
    assert rows_in(tmp_path) == {(name, f"clip{n}"): 1 for name in BOTH for n in range(40)}


@pytest.mark.slow
def test_a_clip_that_kills_its_worker_has_failed_and_all_others_are_done(tmp_path: Path) -> None:
    clips = table(["a", "b", "c", "d", "die", "e", "f"])
    summary = extract(clips, features(tmp_path), show_progress=False)
    assert (summary.counts["fake", "text"].done, summary.counts["fake", "text"].failed) == (6, 1)
    assert rows_in(tmp_path) == {("text", f"clip{n}"): 1 for n in range(7) if n != 4}
    (reason,) = {row.reason for row in summary.ledger.itertuples() if row.status == "failed"}
    assert reason == DIED
    clips.loc[4, "text"] = "lives"
    summary = extract(clips, features(tmp_path), show_progress=False)
    assert summary.counts["fake", "text"].failed == 0
    assert rows_in(tmp_path) == {("text", f"clip{n}"): 1 for n in range(7)}


@pytest.mark.slow
def test_deaths_are_counted_by_encoder(tmp_path: Path) -> None:
    """Two clips that kill two encoders each are four deaths, but no encoder dies of three clips in a row."""
    summary = extract(table(["a", "die", "die", "b"]), features(tmp_path, encoders=BOTH), show_progress=False)
    for name in BOTH:
        assert (summary.counts["fake", name].done, summary.counts["fake", name].failed) == (2, 2)


def test_workers_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that they are forked from has died, which executors tell as they find it."""

    def refuse(*_: object) -> None:
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(workers.ProcessPoolExecutor, "submit", refuse)
    with pytest.raises(ExtractionError, match=r"cannot be started: one of .*fake_encoders.* ended the process"):
        extract(table(["a"]), features(tmp_path), show_progress=False)


def test_clips_in_a_row_that_kill_their_workers_end_the_run(tmp_path: Path) -> None:
    """It is then no clip's fault, but a library's or the machine's; those of before stay failed."""
    with pytest.raises(ExtractionError, match=r"encoder .*fake/clip1, fake/clip2, fake/clip3\. .*retry_failed"):
        extract(table(["a", "die", "die", "die", "b"]), features(tmp_path), show_progress=False)
    assert ("text", "clip0") in rows_in(tmp_path)


@pytest.mark.slow
def test_interrupt_keeps_what_is_complete_and_ends_the_workers(tmp_path: Path) -> None:
    peer = start(tmp_path, [0.01] * 6 + [60.0] * 6)
    while len(rows_in(tmp_path)) < 12:
        time.sleep(0.05)
    peer.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, error = peer.communicate(timeout=60)  # returns when the workers, who share its pipes, are gone too
    assert time.monotonic() - sent < 10.0
    assert error.rstrip().endswith("KeyboardInterrupt")
    assert not list((tmp_path / ".claims").glob("*.json"))
    assert rows_in(tmp_path) == {(name, f"clip{n}"): 1 for name in BOTH for n in range(6)}


def test_interrupt_stores_what_the_workers_have_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    completed, leave = Workers.completed, Claims.__exit__
    held_at_end: list[frozenset[Item]] = []

    def interrupted(self: Workers[Any, Any], timeout: float, quiet: bool = False, **rest: Any) -> Iterator[object]:
        if not quiet:
            wait(self.jobs)
            raise KeyboardInterrupt
        yield from completed(self, timeout, quiet, **rest)

    def record(self: Claims, *error: Any) -> None:
        held_at_end.append(self.held)
        leave(self, *error)

    monkeypatch.setattr(Workers, "completed", interrupted)
    monkeypatch.setattr(Claims, "__exit__", record)
    with pytest.raises(KeyboardInterrupt):
        extract(table(["a"] * 20), features(tmp_path), show_progress=False)
    assert rows_in(tmp_path) == {("text", f"clip{n}"): 1 for n in range(6)}  # one worker: two chunks of three
    assert held_at_end == [frozenset()]


def test_a_failure_newer_than_the_run_is_not_retried_again(tmp_path: Path) -> None:
    clips, config = table(["a"]), features(tmp_path, retry_failed=True)
    spec, store = encoder_specs(config)["text"], FeatureStore(tmp_path)
    row = ("clip0", source_of({**NO_MEDIA, "text": "a"}, "text"), "failed", "no face")
    store.write_failures("fake", spec, [row])
    work = _Work(clips, config)
    assert work.refresh()
    store.write_failures("fake", spec, [row])  # a peer that was asked to retry, too, has just done so
    assert not work.refresh()


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("tests.support.fake_encoders:Unloadable", "cannot be loaded: OSError: weights need a download of 400 MB"),
        ("tests.support.fake_encoders:Undecided", "width and settings must be known to the constructor"),
        ("tests.support.fake_encoders:Short", "returned 0 results for 1 clips"),
    ],
)
def test_encoder_that_cannot_work_is_no_clips_failure(tmp_path: Path, encoder: str, message: str) -> None:
    with pytest.raises(ExtractionError, match=message):
        extract(table(["a"]), features(tmp_path, encoders={"text": encoder}), show_progress=False)
    assert not list(tmp_path.glob("*/*/*/ledger-*"))
    assert not list((tmp_path / ".claims").glob("*.json"))


def test_missing_library_is_no_clips_failure() -> None:
    with pytest.raises(ExtractionError, match=r"'obedient' \(text\) needs a library: No module named 'opensmile'"):
        encode_clips(loaded(), [ClipMedia(clip_id="clip0", text="a"), ClipMedia(clip_id="clip1", text="library")])


def test_encode_clips_is_what_prediction_uses() -> None:
    clips = [ClipMedia(clip_id="clip4", text="hi"), ClipMedia(clip_id="clip5", text="raise")]
    vector, failure = encode_clips(loaded(), clips)
    assert isinstance(vector, np.ndarray)
    assert vector.tolist() == expected("hi", 4)
    assert failure == Failure("failed", "ValueError: cannot take clip5")
    assert encode_clips(loaded(), []) == []


def test_own_encoders_are_named_by_import_path() -> None:
    assert isinstance(make_encoder("tests.support.fake_encoders:Other", "text"), Other)
    for name, message in [
        ("no_such_module:Encoder", "No module named 'no_such_module'.*importable"),
        ("tests.support.fake_encoders:Absence", "no attribute 'Absence'|has no attribute"),
        ("tests.support.fake_encoders:table", "table is not a subclass of encoders.base.Encoder"),
        ("encoders.base:Encoder", "id must be a string"),
    ]:
        with pytest.raises(ExtractionError, match=message):
            make_encoder(name, "text")


def test_wrong_modality_and_repeated_clip_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no modality is named 'behaviour'; did you mean 'behavior'"):
        encoder_specs(features(tmp_path, encoders={"behaviour": "tests.support.fake_encoders:Obedient"}))
    with pytest.raises(StoreError, match="clip 'clip0' of corpus 'fake' occurs twice"):
        extract(pd.concat([table(["a"]), table(["b"])]), features(tmp_path))
