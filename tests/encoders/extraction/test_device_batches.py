"""Device encoders in extraction: prepared in workers, embedded in batches in this process."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from encoders.config import FeaturesConfig
from encoders.device import Prepared, choose_device, one_thread
from encoders.errors import ExtractionError, Failure
from encoders.extraction import device_batches as embedding
from encoders.extraction.device_batches import Embedder
from encoders.extraction.encode import make_encoder
from encoders.extraction.extract import extract
from encoders.extraction.jobs import Job, Outcome, Result, encode_job
from encoders.extraction.read import clip_records, read_vectors
from encoders.extraction.workers import LocalPool
from encoders.media import clip as media
from encoders.media.clip import ClipMedia
from encoders.store.claims import Item
from encoders.store.progress import ExtractionSummary
from encoders.store.vector_store import FeatureStore
from encoders.workers import Workers
from mmpsr.config import ConfigError, validate
from tests.encoders.extraction.test_extract import rows_in
from tests.support import fake_encoders
from tests.support.encoding import encode_clips
from tests.support.fake_encoders import Attentive, features, table
from tests.support.media_files import grey, write_media
from tests.support.warm_workers import warm_workers

DEVICE = {"text": "tests.support.fake_encoders:Attentive"}
BOTH = {"text": "tests.support.fake_encoders:Attentive", "behavior": "tests.support.fake_encoders:Obedient"}
WORDS = ["a", "bread", "to the sea", "why", "good evening everybody", "no", "a long way home", "yes", "seven"]


@pytest.fixture(scope="module", autouse=True)
def _ready() -> Iterator[None]:
    with warm_workers("encoders.extraction.jobs", fake_encoders.__name__):
        yield


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Attentive.passes.clear()


def loaded() -> Attentive:
    encoder = Attentive("text")
    encoder.load()
    return encoder


def alone(texts: list[str]) -> list[object]:
    """Vectors of texts, each encoded by itself."""
    encoder = loaded()
    return [encode_clips(encoder, [ClipMedia(clip_id="clip0", text=text)])[0] for text in texts]


def job_of(clips: pd.DataFrame, encoders: dict[str, str], config: FeaturesConfig) -> Job:
    made = {name: make_encoder(each, name) for name, each in encoders.items()}
    wanted = {name: {row: Item(name, clip, "0") for row, clip in enumerate(clips["clip_id"])} for name in encoders}
    fingerprints = {name: (each, made[name].fingerprint()) for name, each in encoders.items()}
    return Job(clips["corpus"].iloc[0], clip_records(clips, config), wanted, fingerprints, config)


def embedded(
    texts: list[str], check: Callable[[Embedder], object] = lambda embedder: None, **changes: object
) -> dict[int, object]:
    """What the embedder alone, without workers, makes of texts, by their position."""
    config = features("unused", encoders=DEVICE, **changes)
    job = job_of(table(texts), DEVICE, config)
    outcome = Outcome(prepared={row: Attentive("text").prepare(ClipMedia(text=text)) for row, text in enumerate(texts)})
    with Embedder({"text": Attentive("text")}, config) as embedder:
        embedder.add(job, "text", outcome)
        finished: list[object] = []
        while not finished:
            finished += embedder.completed()
            check(embedder)
        assert finished == [(job, "text", outcome)]
        assert (embedder.num_clips, embedder.num_bytes, embedder.jobs) == (0, 0, [])
    return {**{row: encoded.vector for row, (encoded, _) in outcome.made.items()}, **outcome.failures}


@pytest.mark.parametrize(
    ("batch_size", "num_workers", "chunk_size", "order"),
    [(1, 1, 2, 1), (4, 2, 3, -1), (32, 1, 16, 1)],
)
def test_a_vector_does_not_depend_on_its_company(
    tmp_path: Path, batch_size: int, num_workers: int, chunk_size: int, order: int
) -> None:
    config = features(tmp_path, encoders=BOTH, batch_size=batch_size, num_workers=num_workers, chunk_size=chunk_size)
    clips = table(WORDS).iloc[::order]
    summary = extract(clips, config, show_progress=False)
    present, vectors = read_vectors(clips, config)["text"]
    assert present.all()
    np.testing.assert_allclose(vectors, np.stack(alone(WORDS[::order])), atol=1e-5)
    assert vars(summary.counts["fake", "text"]) == {"done": 9, "reused": 0, "absent": 0, "failed": 0}
    assert rows_in(tmp_path) == {(name, f"clip{n}"): 1 for name in BOTH for n in range(9)}
    assert max(Attentive.passes[:-9]) <= batch_size  # the last nine are `alone`
    parts = len(list(tmp_path.glob("fake/text/*/part-*")))
    # a part for each chunk, whatever the batches; several workers divide the last chunks
    assert parts == -(-9 // chunk_size) if num_workers == 1 else parts > 9 // chunk_size


def test_every_kind_of_clip(tmp_path: Path) -> None:
    texts = ["hello", "raise", "absent", "fail", "explode", "nan", "note", "bye"]
    summary = extract(table(texts), features(tmp_path, encoders=BOTH, batch_size=8, chunk_size=8), show_progress=False)
    ledger = summary.ledger.query("modality == 'text'").set_index("clip_id")
    assert ledger[["status", "reason"]].apply(tuple, axis=1).to_dict() == {
        "clip1": ("failed", "ValueError: cannot take clip1"),
        "clip2": ("absent", "no transcript"),
        "clip3": ("failed", "face too small"),
        "clip4": ("failed", "ValueError: cannot embed explode"),
        "clip5": ("failed", "NaN in the vector"),
    }
    kept = {"clip0", "clip6", "clip7"}
    assert {clip for modality, clip in rows_in(tmp_path) if modality == "text"} == kept
    notes = FeatureStore(tmp_path).notes("fake", Attentive("text").spec)
    assert {clip: note for (clip, _), note in notes.items()} == {"clip6": "note on clip6"}
    assert Attentive.passes == [5, 1, 1, 1, 1, 1]
    assert not list((tmp_path / ".claims").glob("*.json"))


def test_encode_is_prepare_and_embed() -> None:
    clips = [ClipMedia(clip_id=f"clip{n}", text=text) for n, text in enumerate(["absent", "one", "fail", "note"])]
    encoder = loaded()
    results = encoder.encode(clips)
    assert [type(each).__name__ for each in results] == ["MissingModality", "ndarray", "EncodingError", "ndarray"]
    assert [each.shape for each in results[1::2]] == [(3, 6), (4, 6)]  # type: ignore[union-attr]
    assert clips[3].take_note("attentive") == "note on clip3"
    assert Attentive.passes == [2]
    assert [type(each).__name__ for each in encoder.encode(clips[:1])] == ["MissingModality"]
    assert Attentive.passes == [2]  # nothing to embed, no pass


def test_a_batch_too_large_is_halved_and_the_next_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attentive, "most", 10)
    texts = [letter * 3 for letter in "abcdefghijklmnop"]
    found = embedded(texts, batch_size=8)
    # 8 x 3 letters are too many, 4 x 3 too; 2 x 3 fit. From then on batches of 4 x 3 are halved without a trial
    assert Attentive.passes == [8, 4, *[2] * 8]
    np.testing.assert_allclose(np.stack([found[n] for n in range(16)]), np.stack(alone(texts)), atol=1e-5)


def test_shorter_clips_are_tried_in_whole_batches_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attentive, "most", 40)
    embedded(["x" * 12] * 4 + ["yes"] * 4, batch_size=4)
    assert Attentive.passes == [4, 2, 2, 4]  # 48 letters are too many; then twice 24, and 12


def test_the_next_batch_begins_by_itself() -> None:
    config = features("unused", encoders=DEVICE, batch_size=2)
    prepared = {row: Attentive("text").prepare(ClipMedia(text="yes")) for row in range(4)}
    with Embedder({"text": Attentive("text")}, config) as embedder:
        embedder.add(job_of(table(["yes"] * 4), DEVICE, config), "text", Outcome(prepared=prepared))
        until = time.monotonic() + 20
        while len(Attentive.passes) < 2 and time.monotonic() < until:
            time.sleep(0.01)
    assert Attentive.passes == [2, 2]


def test_two_device_encoders_share_the_device(tmp_path: Path) -> None:
    config = features(tmp_path, encoders={**DEVICE, "behavior": "tests.support.fake_encoders:Heavy"}, batch_size=8)
    summary = extract(table(WORDS), config, show_progress=False)
    assert [count.done for count in summary.counts.values()] == [9, 9]
    vectors = read_vectors(table(WORDS), config)
    np.testing.assert_allclose(vectors["text"][1], np.stack(alone(WORDS)), atol=1e-5)
    assert vectors["behavior"][1].tolist() == [[3.0, 0.0]] * 9


@pytest.mark.parametrize(
    "lacking",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
)
def test_a_clip_that_does_not_fit_alone_fails_alone(lacking: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attentive, "most", 20)
    monkeypatch.setattr(Attentive, "lacking", lacking)
    found = embedded(["abc", "abd", "x" * 21, "y"])
    assert found[2] == Failure("failed", f"{type(lacking).__name__}: {lacking}")
    assert all(isinstance(found[n], np.ndarray) for n in (0, 1, 3))
    assert Attentive.passes == [4, 2, 2, 1, 1]  # 84 letters, 6 of [y, abc]; 42 of [abd, xx..], then each


def test_other_errors_are_not_taken_for_lack_of_memory() -> None:
    found = embedded(["one", "explode", "two", "six"])
    assert Attentive.passes == [4, 1, 1, 1, 1]
    assert found[1] == Failure("failed", "ValueError: cannot embed explode")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.AcceleratorError("CUDA error: illegal memory access"), "cpu failed .*illegal.*same command continues"),
        (ModuleNotFoundError("No module named 'einops'"), r"'attentive' \(text\) needs a library: No module.*einops"),
        (ExtractionError("as it is"), "^as it is$"),
    ],
)
def test_what_is_no_clips_fault_ends_the_run(
    tmp_path: Path, error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Attentive, "most", 1)
    monkeypatch.setattr(Attentive, "lacking", error)
    with pytest.raises(ExtractionError, match=message):
        extract(table(WORDS), features(tmp_path, encoders=BOTH), show_progress=False)
    assert not list(tmp_path.glob("*/text/*/ledger-*"))
    assert not list((tmp_path / ".claims").glob("*.json"))


def test_too_few_results_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attentive, "embed", lambda self, inputs: [])
    with pytest.raises(ExtractionError, match="returned 0 results for 1 clips"):
        embedded(["a"])


def test_weights_that_cannot_be_loaded_end_the_run_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise OSError("a download of 400 MB")

    def start(_: object, job: Job) -> None:
        raise AssertionError(f"{job} was submitted")

    monkeypatch.setattr(Attentive, "load", refuse)
    monkeypatch.setattr("encoders.workers.Workers.submit", start)
    with pytest.raises(ExtractionError, match=r"'attentive' \(text\) cannot be loaded: OSError: a download of 400 MB"):
        extract(table(["a"]), features(tmp_path, encoders=BOTH), show_progress=False)


@pytest.mark.slow
def test_only_encoders_with_work_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = table(["a"])
    extract(clips, features(tmp_path, encoders=DEVICE), show_progress=False)
    monkeypatch.setattr(Attentive, "load", None)
    summary = extract(clips, features(tmp_path, encoders=BOTH), show_progress=False)
    assert (summary.counts["fake", "text"].reused, summary.counts["fake", "behavior"].done) == (1, 1)


def test_missing_library_of_a_preparation_is_no_clips_failure(tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match=r"'attentive' \(text\) needs a library: No module named 'soundfile'"):
        extract(table(["library"]), features(tmp_path, encoders=DEVICE), show_progress=False)


def test_an_encoder_that_cannot_be_made_in_a_worker(tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match=r"Unmakeable' \(text\) cannot be made: UnpicklableError: 1 and 2"):
        extract(
            table(["a"]),
            features(tmp_path, encoders={"text": "tests.support.fake_encoders:Unmakeable"}),
            show_progress=False,
        )


def test_the_thread_takes_the_oldest_and_those_of_like_length(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[int]] = []
    embed = Attentive.embed

    def record(self: Attentive, inputs: list[Prepared]) -> object:
        batches.append([clip.length for clip in inputs])
        return embed(self, inputs)

    monkeypatch.setattr(Attentive, "embed", record)
    embedded(["x" * length for length in (5, 9, 1, 6, 9, 2, 9)], batch_size=3)
    assert batches == [[2, 5, 6], [9, 9, 9], [1]]  # nearest to 5 are 6 and 2; then the oldest is 9


def test_what_waits_is_bounded_in_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preparing takes no time, embedding 10 ms a clip: chunks are held back, and at most 8 of 60 clips wait."""
    waiting: list[int] = []
    add = Embedder.add

    def record(self: Embedder, *arguments: object) -> None:
        add(self, *arguments)  # type: ignore[arg-type]
        assert self.most_clips == 8  # 4 batches of 1, 2 chunks of 2 with one worker
        waiting.append(self.num_clips)

    monkeypatch.setattr(Embedder, "add", record)
    config = features(tmp_path, encoders=DEVICE, batch_size=1, chunk_size=2)
    summary = extract(table(["sleepy 0.01"] * 60), config, show_progress=False)
    assert summary.counts["fake", "text"].done == 60
    assert 4 <= max(waiting) <= 8


def test_a_chunk_is_held_back_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    config = features("unused", encoders=DEVICE, batch_size=2, chunk_size=4)  # at most 4 * 2 + 2 * 4 = 16 clips
    job = job_of(table(["a"] * 4), DEVICE, config)
    with Embedder({"text": Attentive("text")}, config) as embedder:
        assert [embedder.has_room([job] * number) for number in range(5)] == [True, True, True, True, False]
        prepared = {row: Prepared({"ids": np.zeros(1000, dtype=np.uint8)}, 1000) for row in range(4)}
        monkeypatch.setattr(embedder, "_start", lambda: None)
        embedder.add(job, "text", Outcome(prepared=prepared))
        assert (embedder.num_clips, embedder.num_bytes) == (4, 4000)
        assert [embedder.has_room([job] * number) for number in range(4)] == [True, True, True, False]
        # 4 kB here, 4 kB with the workers, and 4 kB more, for a clip has been of 1 kB so far
        for most, fits in [(12_000, True), (11_999, False)]:
            monkeypatch.setattr(embedding, "MOST_BYTES", most)
            assert embedder.has_room([job]) is fits
        embedder.num_clips = 0
        monkeypatch.setattr(embedding, "MOST_BYTES", 100)
        assert embedder.has_room([])  # one chunk always does
        assert not embedder.has_room([job])


def test_light_encoders_know_no_bound() -> None:
    config = features("unused")
    with Embedder({}, config) as embedder:
        assert embedder.has_room(
            [job_of(table(["a"] * 3), {"text": "tests.support.fake_encoders:Obedient"}, config)] * 9
        )
        assert embedder.waited is None


def test_a_light_and_a_device_encoder_share_the_decoded_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_media(tmp_path / "clip.mkv", [grey(number) for number in range(50)], fps=25)
    read, calls = media.read_frames, []

    def count(*arguments: object) -> object:
        calls.append(arguments)
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(media, "read_frames", count)
    encoders = {"video": "tests.support.fake_encoders:Pixels", "behavior": "tests.support.fake_encoders:Brightness"}
    clips = pd.DataFrame([{"corpus": "fake", "clip_id": "clip0", "media": str(path)}])
    result = encode_job(job_of(clips, encoders, features(tmp_path, encoders=encoders)))
    assert len(calls) == 1
    assert result.outcomes["video"].prepared[0].arrays["pixels"].shape == (4, 32, 32, 3)
    assert len(result.outcomes["behavior"].made) == 1
    assert result.media_seconds == pytest.approx(2.0, abs=0.05)


def test_files_passed_over_are_noted_for_the_device_encoder(tmp_path: Path) -> None:
    path = str(write_media(tmp_path / "clip.mkv", [grey(number) for number in range(10)]))
    clips = pd.DataFrame([{"corpus": "fake", "clip_id": "clip0", "media": "none.mkv", "fallback_media": path}])
    encoders = {"video": "tests.support.fake_encoders:Pixels"}
    result = encode_job(job_of(clips, encoders, features(tmp_path, encoders=encoders)))
    assert result.outcomes["video"].prepared[0].note == f"none.mkv: file does not exist; taken from {path}"


def test_waiting_ends_when_anything_is_done() -> None:
    config = features("unused")
    workers, done = Workers(LocalPool(1), encode_job), Future[None]()
    workers.jobs[Future()] = job_of(table(["a"]), {"text": "tests.support.fake_encoders:Obedient"}, config)
    done.set_result(None)
    began = time.monotonic()
    assert list(workers.completed(5.0, others=[done])) == []
    assert time.monotonic() - began < 2.0
    assert list(Workers(LocalPool(1), encode_job).completed(0.2, others=[Future()])) == []
    assert time.monotonic() - began >= 0.2


def test_a_worker_holds_one_decoded_clip_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write_media(tmp_path / f"{name}.mkv", [grey(number) for number in range(10)]) for name in "abc"]
    clips = pd.DataFrame([{"corpus": "fake", "clip_id": path.stem, "media": str(path)} for path in paths])
    made: list[ClipMedia] = []
    from_row, embed = ClipMedia.from_row, fake_encoders.Brightness.encode
    monkeypatch.setattr(ClipMedia, "from_row", lambda row: made.append(from_row(row)) or made[-1])
    held: list[int] = []

    def look(self: fake_encoders.Brightness, clips: list[ClipMedia]) -> object:
        results = embed(self, clips)
        held.append(sum(bool(clip._kept) for clip in made))
        return results

    monkeypatch.setattr(fake_encoders.Brightness, "encode", look)
    encoders = {"video": "tests.support.fake_encoders:Brightness"}
    encode_job(job_of(clips, encoders, features(tmp_path, encoders=encoders)))
    assert held == [1, 1, 1]


def test_light_encoders_of_text_take_the_chunk_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, sizes = fake_encoders.Obedient.encode, []

    def record(self: fake_encoders.Obedient, clips: list[ClipMedia]) -> object:
        sizes.append((self.modality, len(clips)))
        return encode(self, clips)

    monkeypatch.setattr(fake_encoders.Obedient, "encode", record)
    encoders = {"text": "tests.support.fake_encoders:Obedient", "behavior": "tests.support.fake_encoders:Obedient"}
    encode_job(job_of(table(WORDS[:3]), encoders, features(tmp_path, encoders=encoders)))
    assert sizes == [("text", 3), ("behavior", 1), ("behavior", 1), ("behavior", 1)]


def test_seconds_of_media(tmp_path: Path) -> None:
    """By the span; by the file where there is none; of a text alone, and where nothing can be opened, none."""
    path = str(write_media(tmp_path / "clip.mkv", [grey(number) for number in range(50)], fps=25))
    row = {"corpus": "fake", "clip_id": "clip0", "text": "a"}

    def seconds(modality: str, **columns: object) -> float:
        encoders = {modality: "tests.support.fake_encoders:Obedient"}
        config = features(tmp_path, encoders=encoders)
        return encode_job(job_of(pd.DataFrame([{**row, **columns}]), encoders, config)).media_seconds

    assert seconds("video", media=path, start=3.0, end=4.5) == 1.5
    assert seconds("video", media=path, end=4.5) == 4.5
    assert seconds("video", media=path, start=0.5) == pytest.approx(1.5, abs=0.05)
    assert seconds("text", media=path, start=3.0, end=4.5) == 0.0
    assert seconds("video") == 0.0
    assert seconds("video", media=str(tmp_path / "none.mkv")) == 0.0
    assert seconds("video", media=str(tmp_path / "none.mkv"), fallback_media=path, fallback_end=1.0) == 1.0
    assert seconds("audio", audio_media=path, audio_start=1.0, audio_end=2.0) == 1.0


def test_summary_tells_where_the_time_went(tmp_path: Path) -> None:
    clips = table(["sleepy 0.02"] * 6).assign(media="none.mkv", start=0.0, end=2.0)
    summary = extract(clips, features(tmp_path, encoders=BOTH), show_progress=False)
    assert summary.media_seconds == 12.0
    assert summary.real_time_factor == 12.0 / summary.seconds
    assert 0.12 <= summary.embed_seconds < summary.seconds
    assert 0 < summary.prepare_seconds < summary.seconds
    assert 0 < summary.write_seconds < summary.seconds
    assert summary.waited is not None
    assert 0 < summary.waited < 1
    again = extract(clips, features(tmp_path, encoders=BOTH), show_progress=False)
    assert (again.num_clips, again.media_seconds, again.waited) == (0, 0.0, None)


def test_summary_is_shown() -> None:
    def shown(**changes: float) -> str:
        out = io.StringIO()
        Console(file=out, width=200).print(ExtractionSummary(seconds=10.0, num_clips=40, **changes))  # type: ignore[arg-type]
        return " ".join(out.getvalue().split())

    text = shown(media_seconds=400.0, prepare_seconds=15.0, embed_seconds=2.5, write_seconds=0.4, waited=0.75)
    assert "40 clips in 10.0 s, 4.0/s, 40.0 times real time" in text
    assert "decode and prepare 15.0 s (sum over the workers)" in text
    assert "embed 2.5 s (the device waited 75% of the time), write 0.4 s" in text
    assert "real time" not in shown()
    assert "embed" not in shown()


@pytest.mark.slow
def test_preparing_and_embedding_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty chunks come while the device is at work: most batches are embedded before the last chunk is there."""
    events: list[str] = []
    add, embed = Embedder.add, fake_encoders.Heavy.embed

    def record_add(self: Embedder, *arguments: object) -> None:
        events.append("add")
        add(self, *arguments)  # type: ignore[arg-type]

    def record_embed(self: fake_encoders.Heavy, inputs: list[Prepared]) -> object:
        events.append("embed")
        return embed(self, inputs)

    monkeypatch.setattr(Embedder, "add", record_add)
    monkeypatch.setattr(fake_encoders.Heavy, "embed", record_embed)
    config = features(tmp_path, encoders={"text": "tests.support.fake_encoders:Heavy"}, batch_size=3)
    extract(table(["a"] * 60), config, show_progress=False)
    assert events.count("add") == 20
    last = len(events) - events[::-1].index("add")
    assert events[:last].count("embed") >= 10


def test_stop_hands_out_what_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    config = features("unused", encoders=DEVICE, batch_size=2)
    texts = ["sleepy 0.2", *["sleepy 0.2x"] * 5]
    job = job_of(table(texts), DEVICE, config)
    prepared = {row: Prepared({"ids": np.frombuffer(b"sleepy 0.2", dtype=np.uint8)}, 10) for row in range(6)}
    outcome = Outcome(prepared=prepared)
    with Embedder({"text": Attentive("text")}, config) as embedder:
        embedder.add(job, "text", outcome)
        time.sleep(0.1)
        assert list(embedder.stop()) == [(job, "text", outcome)]
    assert len(outcome.made) == 2
    assert Attentive.passes == [2]


@pytest.mark.slow
def test_an_interrupt_stores_what_has_been_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(embedder: Embedder) -> Iterator[object]:
        if not embedder.jobs:  # the worker processes are still starting
            return iter(())
        while not Attentive.passes:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(Embedder, "completed", interrupt)
    config = features(tmp_path, encoders=DEVICE, batch_size=2, chunk_size=6)
    with pytest.raises(KeyboardInterrupt):
        extract(table(["sleepy 1.0"] * 6), config, show_progress=False)
    assert len(rows_in(tmp_path)) == 2 * len(Attentive.passes)
    assert len(Attentive.passes) < 3  # the batch at work is waited for, the next not begun
    assert not list((tmp_path / ".claims").glob("*.json"))


def start(store: Path, seconds: list[float]) -> subprocess.Popen[str]:
    times = ",".join(map(str, seconds))
    command = [sys.executable, "-m", fake_encoders.__name__, str(store), times, "0", "never", "Attentive"]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def check_whole(store: Path, number: int, text: str) -> None:
    assert rows_in(store) == {(name, f"clip{n}"): 1 for name in ("text", "behavior") for n in range(number)}
    assert [path.name for path in (store / ".claims").iterdir() if path.suffix] == ["exclusive.lock"]
    config = features(store, encoders=DEVICE)
    present, vectors = read_vectors(table([text] * number), config)["text"]
    assert present.all()
    np.testing.assert_allclose(vectors, np.stack(alone([text] * number)), atol=1e-5)


@pytest.mark.slow
def test_processes_share_the_work(tmp_path: Path) -> None:
    peers = [start(tmp_path, [0.05] * 30) for _ in range(2)]
    outputs = [peer.communicate(timeout=60) for peer in peers]
    assert [peer.returncode for peer in peers] == [0, 0], outputs
    shares = [int(out.strip().splitlines()[-1]) for out, _ in outputs]
    assert sum(shares) == 60
    assert min(shares) > 0
    check_whole(tmp_path, 30, "sleep 0.05")


@pytest.mark.slow
def test_interrupt_keeps_what_is_embedded(tmp_path: Path) -> None:
    peer = start(tmp_path, [0.01] * 6 + [60.0] * 6)
    while len(rows_in(tmp_path)) < 12:
        time.sleep(0.05)
    peer.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, error = peer.communicate(timeout=60)
    assert time.monotonic() - sent < 10.0
    assert error.rstrip().endswith("KeyboardInterrupt")
    assert not list((tmp_path / ".claims").glob("*.json"))
    assert rows_in(tmp_path) == {(name, f"clip{n}"): 1 for name in ("text", "behavior") for n in range(6)}


def test_threads_of_torch_are_as_before_whoever_leaves_last() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    inside, first_left, done = threading.Event(), threading.Event(), threading.Event()

    def second() -> None:
        with one_thread():
            inside.set()
            first_left.wait()
        done.set()

    thread = threading.Thread(target=second)
    with one_thread():
        thread.start()
        inside.wait()
    first_left.set()
    thread.join()
    seen: list[int] = []
    asks = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    asks.start()
    asks.join()
    torch.set_num_threads(before)
    assert seen == [3]


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """The processes that were forked from the one that has imported for them."""
    return [each for child in process.children() for each in child.children() if "forkserver" in str(each.cmdline())]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    """It is killed again and again, but not while it does what was at work at the last death clip by clip."""
    dice, process = random.Random(3), start(tmp_path, [0.03] * 60)
    num_killed, stored = 0, 0
    while num_killed < 2:
        assert process.poll() is None
        if len(rows_in(tmp_path)) > stored + 12 and (workers := workers_of(psutil.Process(process.pid))):
            time.sleep(dice.uniform(0.0, 0.2))
            workers[0].kill()
            num_killed, stored = num_killed + 1, len(rows_in(tmp_path))
        time.sleep(0.02)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    check_whole(tmp_path, 60, "sleep 0.03")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_killed_at_random_moments_nothing_is_lost_or_stored_twice(tmp_path: Path, seed: int) -> None:
    """Two processes work on one store; now one of them is killed, now a worker of it, and a little later the other."""
    dice = random.Random(seed)
    for kill_worker in (False, True):
        peers = [start(tmp_path, [0.03] * 80) for _ in range(2)]
        enough = len(rows_in(tmp_path)) + dice.randint(1, 15)
        while len(rows_in(tmp_path)) < enough:
            time.sleep(0.02)
        time.sleep(dice.uniform(0.0, 0.3))
        victim = psutil.Process(peers[0].pid)
        (workers_of(victim)[0] if kill_worker else victim).kill()
        time.sleep(dice.uniform(0.0, 0.5))
        peers[1].kill()
        errors = [peer.communicate(timeout=60)[1] for peer in peers]
        assert peers[1].returncode == -signal.SIGKILL
        if kill_worker:  # others take over what it had
            assert peers[0].returncode == 0, errors[0]
        else:
            assert peers[0].returncode == -signal.SIGKILL
            assert 0 < len(rows_in(tmp_path)) < 160
        assert set(rows_in(tmp_path).values()) == {1}
    survivor = start(tmp_path, [0.03] * 80)
    _, error = survivor.communicate(timeout=60)
    assert survivor.returncode == 0, error
    check_whole(tmp_path, 80, "sleep 0.03")


def test_a_clip_that_kills_its_worker_has_failed(tmp_path: Path) -> None:
    clips = table(["a", "b", "c", "d", "die", "e", "f"])
    summary = extract(clips, features(tmp_path, encoders=DEVICE), show_progress=False)
    assert summary.counts["fake", "text"].failed == 1
    assert rows_in(tmp_path) == {("text", f"clip{n}"): 1 for n in range(7) if n != 4}
    clips.loc[4, "text"] = "lives"
    assert extract(clips, features(tmp_path, encoders=DEVICE), show_progress=False).counts["fake", "text"].failed == 0
    assert rows_in(tmp_path) == {("text", f"clip{n}"): 1 for n in range(7)}


@pytest.mark.parametrize(
    ("device", "precision", "devices", "rank", "chosen"),
    [
        ("auto", "auto", 0, "0", ("cpu", "float32")),
        ("auto", "auto", 2, "0", ("cuda:0", "float16")),
        ("auto", "bfloat16", 2, "1", ("cuda:1", "bfloat16")),
        ("cuda", "float32", 2, "3", ("cuda:1", "float32")),  # more processes than devices
        ("cpu", "auto", 2, "1", ("cpu", "float32")),
        ("cpu", "float16", 0, "0", ("cpu", "float16")),
    ],
)
def test_device_and_precision(
    device: str, precision: str, devices: int, rank: str, chosen: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert choose_device(features("unused", device=device, precision=precision)) == chosen


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r'features\.device = "cuda": torch finds no CUDA device'):
        choose_device(features("unused", device="cuda"))


def test_the_encoder_is_told_device_and_precision_before_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "choose_device", lambda config: ("meta", "bfloat16"))
    encoder = Attentive("text")
    with Embedder({"text": encoder}, features("unused")):
        weights = encoder.model.letters.weight
        assert (weights.device.type, weights.dtype) == ("meta", torch.bfloat16)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weights", {"openai/clip-vit-base-patch23": "here"}, "did you mean 'openai/clip-vit-base-patch32'"),
        ("trust_remote_code", ["minilm"], "no encoder of the catalogue has weights named 'minilm'"),
        ("device", "gpu", "features.device"),
        ("batch_size", 0, "features.batch_size"),
    ],
)
def test_wrong_settings_are_named(name: str, value: object, message: str) -> None:
    from training.config import RunConfig

    with pytest.raises(ConfigError, match=message):
        validate(RunConfig, {"features": {name: value}}, "run.toml")


def test_settings_reach_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    config = FeaturesConfig(weights={"openai/clip-vit-base-patch32": "nowhere"})
    with pytest.raises(ConfigError, match="nowhere"):
        make_encoder("openai/clip-vit-base-patch32", "video", config)


@pytest.mark.parametrize(
    ("flag", "setting", "retried"), [(False, "false", False), (True, "false", True), (False, "true", True)]
)
def test_failed_clips_are_retried_by_flag_or_setting(
    flag: bool, setting: str, retried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.commands.console import app
    from training.data import load
    from training.runs import accelerator

    asked: list[bool] = []
    monkeypatch.setattr(accelerator, "create_accelerator", lambda *given: SimpleNamespace(is_main_process=False))
    monkeypatch.setattr(load, "load_clips", lambda *_: SimpleNamespace(clips=None))
    monkeypatch.setattr(load, "extract_features", lambda _, features, *rest: asked.append(features.retry_failed))
    options = ["--set", f"features.retry_failed={setting}", *(["--retry-failed"] if flag else [])]
    assert CliRunner().invoke(app, ["extract", *options]).exit_code == 0
    assert asked == [retried]


def test_the_result_of_a_job_names_the_time_it_took(tmp_path: Path) -> None:
    result = encode_job(job_of(table(["sleep 0.1"]), DEVICE, features(tmp_path, encoders=DEVICE)))
    assert isinstance(result, Result)
    assert 0.1 <= result.seconds < 1.0
