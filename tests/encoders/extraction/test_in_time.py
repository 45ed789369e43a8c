"""Values in time from a file to the store and back."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from encoders.config import FeaturesConfig
from encoders.errors import StoreError
from encoders.extraction import extract as extract_module
from encoders.extraction.extract import extract
from encoders.extraction.read import encoder_specs, make_encoders, read_timed, read_vectors, timed_specs
from encoders.extraction.workers import WarmEncoders
from encoders.face.measures import CUE_NAMES
from encoders.media import every_frame
from encoders.models.minilm import shared_embedder
from encoders.store.progress import ExtractionSummary
from encoders.store.timed_store import TimedStore
from encoders.timed import MEASURED, NONE, REPEATED, Timed, TimedSequences
from mmpsr.config import ConfigError
from tests.support.face_scenes import WALL, scene
from tests.support.media_files import grey, tone, write_media

FPS, LENGTH, BURST = 24, 40, 23
"""Of the clip; the burst of sound begins at this frame, as the face moves."""
NO_FACE, LOST = range(4), range(30, 35)
WORDS = [["Well", 0.3, 0.5], ["maybe", 0.5, 0.75], ["not", 1.0, 1.5]]


def pictures() -> list[NDArray[np.uint8]]:
    near, far = scene((200, 60, 240)), scene((200, 20, 240))
    return [
        WALL if number in NO_FACE or number in LOST else far if number >= BURST else near for number in range(LENGTH)
    ]


def table(path: Path, **given: Any) -> pd.DataFrame:
    row = {"corpus": "c", "clip_id": "a", "media": str(path), "text": "Well, maybe not.", "words": json.dumps(WORDS)}
    columns = dict.fromkeys(("start", "end", "description"))
    return pd.DataFrame([{**columns, **row, **given}])


def config(store: Path, **given: Any) -> FeaturesConfig:
    encoders = {"video": "face-mesh", "audio": "egemaps", "text": "minilm"}
    return FeaturesConfig(store=str(store), **{"encoders": encoders, "timed": ("video", "audio", "text"), **given})


def made(clips: pd.DataFrame, features: FeaturesConfig) -> tuple[dict[str, TimedSequences], ExtractionSummary]:
    with WarmEncoders(features) as warm:
        summary = extract(clips, features, show_progress=False, warm=warm)
    return read_timed(clips, features), summary


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that comes, moves, goes and comes again, and a hum that gets loud in the frame in which it moves."""
    rng = np.random.default_rng(0)
    samples = (0.003 * rng.normal(size=round(LENGTH / FPS * 16_000))).astype(np.float32)
    burst = tone(220, 0.5)
    first = round(BURST / FPS * 16_000)
    samples[first : first + len(burst)] += burst[: len(samples) - first]
    return write_media(tmp_path_factory.mktemp("media") / "clip.mkv", pictures(), samples, fps=FPS)


Extracted = tuple[dict[str, TimedSequences], ExtractionSummary, FeaturesConfig, pd.DataFrame, int]


@pytest.fixture(scope="module")
def extracted(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Extracted:
    """The recording's values in time; how often files were decoded is counted."""
    features, clips = config(tmp_path_factory.mktemp("store")), table(recording)
    decoded = 0
    original = every_frame.show_every_frame

    def count(*given: Any) -> Any:
        nonlocal decoded
        decoded += 1
        return original(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("encoders.media.clip.show_every_frame", count)
        patch.setattr("encoders.media.clip.read_frames", None)  # frames of vectors are kept from the one decoding
        read, summary = made(clips, features)
    return read, summary, features, clips, decoded


def test_one_decoding_gives_vectors_and_values_in_time(extracted: Extracted) -> None:
    _, summary, features, clips, decoded = extracted
    assert decoded == 1
    assert summary.ledger.empty
    assert {name for _, name in summary.counts} == {
        "video", "audio", "text", "video in time", "audio in time", "text in time",
    }  # fmt: skip
    assert all(present.all() for present, _ in read_vectors(clips, features).values())


def test_all_modalities_have_one_grid(extracted: Extracted) -> None:
    read = extracted[0]
    assert list(read) == ["video", "audio", "text"]
    assert [timed.width for timed in read.values()] == [58, 25, 384]
    for timed in read.values():
        assert (timed.lengths.tolist(), timed.rates, timed.starts.tolist()) == ([LENGTH], (Fraction(24),), [0.0])
        assert timed.frames(0).shape == (LENGTH, timed.width)


def test_a_lost_face_is_repeated_and_before_the_first_there_is_none(extracted: Extracted) -> None:
    video = extracted[0]["video"]
    expected = np.full(LENGTH, MEASURED)
    expected[list(NO_FACE)], expected[list(LOST)] = NONE, REPEATED
    assert video.state(0).tolist() == expected.tolist()
    values = video.frames(0)
    assert not values[list(NO_FACE)].any()
    assert (values[list(LOST)] == values[LOST.start - 1]).all()
    assert (values[LOST.stop] != values[LOST.start - 1]).any()
    notes = TimedStore(extracted[2].store).notes("c", timed_specs(extracted[2], make_encoders(extracted[2]))["video"])
    assert [*notes.values()] == ["a face in 31 of 40 frames, 5 repeated, 4 without any"]


def test_burst_and_movement_are_at_one_frame(extracted: Extracted) -> None:
    read = extracted[0]
    speed = read["video"].frames(0)[:, CUE_NAMES.index("speed")].astype(float)
    assert int(speed[: LOST.start].argmax()) == BURST
    loudness = read["audio"].frames(0)[:, 0].astype(float)
    rises = np.diff(loudness)
    assert abs(int(rises.argmax()) + 1 - BURST) <= 1  # descriptors look 20 to 60 ms ahead and are smoothed over three
    assert read["audio"].state(0)[:-3].tolist() == [MEASURED] * (LENGTH - 3)


def test_words_stand_where_they_are_spoken_and_pauses_are_zero(extracted: Extracted) -> None:
    text = extracted[0]["text"]
    # at 24 per second: 0.3 to 0.5 s are frames 8 to 11 (7.2 to 12), 0.5 to 0.75 are 12 to 17, 1 to 1.5 are 24 to 35
    spans = {(8, 12): "Well", (12, 18): "maybe", (24, 36): "not"}
    state = np.full(LENGTH, NONE)
    values = text.frames(0)
    tokens = shared_embedder().embed(["Well, maybe not."])[0]
    for (begin, end), token in zip(spans, tokens[[0, 2, 3]], strict=True):  # the second is the comma
        state[begin:end] = MEASURED
        np.testing.assert_array_equal(values[begin:end], np.tile(token.astype(np.float16), (end - begin, 1)))
    assert text.state(0).tolist() == state.tolist()
    assert not values[state == NONE].any()


def test_nothing_is_made_twice(extracted: Extracted) -> None:
    _, _, features, clips, _ = extracted
    _, summary = made(clips, features)
    assert all((count.done, count.reused) == (0, 1) for count in summary.counts.values())
    later = clips.assign(words=json.dumps([["Well", 0.0, 0.1]]))
    assert [timed.present.tolist() for timed in read_timed(later, features).values()] == [[True], [True], [False]]


def test_vectors_are_what_they_are_without(extracted: Extracted, recording: Path, tmp_path: Path) -> None:
    _, _, features, clips, _ = extracted
    alone = config(tmp_path, timed=())
    made(clips, alone)
    assert encoder_specs(alone) == encoder_specs(features)
    for name, (_, vectors) in read_vectors(clips, alone).items():
        np.testing.assert_array_equal(vectors, read_vectors(clips, features)[name][1])


def test_tokens_are_spread_if_asked_or_if_times_are_missing(recording: Path, tmp_path: Path) -> None:
    only = {"encoders": {"text": "minilm"}, "timed": ("text",)}
    asked, _ = made(table(recording), config(tmp_path, **only, timed_text="spread"))
    tokens = shared_embedder().embed(["Well, maybe not."])[0].astype(np.float16)
    assert len(tokens) == 5  # Well , maybe not . -> 40 frames are five blocks of 8
    np.testing.assert_array_equal(asked["text"].frames(0), np.repeat(tokens, 8, axis=0))
    features, clips = config(tmp_path, **only), table(recording, words=None)
    missing, _ = made(clips, features)
    np.testing.assert_array_equal(missing["text"].frames(0), asked["text"].frames(0))
    notes = TimedStore(features.store).notes("c", timed_specs(features, make_encoders(features))["text"])
    assert [*notes.values()] == ["no times of words: its tokens are spread evenly over the clip"]


def test_silence_and_no_sound_are_nothing_but_damage_is_a_failure(tmp_path: Path) -> None:
    frames = [grey(number, 64) for number in range(10)]
    mute = write_media(tmp_path / "mute.mkv", frames)
    silent = write_media(tmp_path / "silent.mkv", frames, np.zeros(6400, np.float32))
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(b"no media at all")
    clips = pd.concat(
        [table(path, clip_id=path.stem, text=None, words=None) for path in (mute, silent, damaged)], ignore_index=True
    )
    clips.loc[len(clips)] = {**clips.iloc[0], "clip_id": "none", "media": None}
    features = config(tmp_path / "store", encoders={"audio": "egemaps", "text": "minilm"}, timed=("audio", "text"))
    read, summary = made(clips, features)
    assert read["audio"].present.tolist() == [True, True, False, False]
    for clip in range(2):
        assert read["audio"].state(clip).tolist() == [NONE] * 10
        assert not read["audio"].frames(clip).any()
    ledger = summary.ledger.set_index(["modality", "clip_id"])["status"]
    assert ledger["audio in time"].to_dict() == {"damaged": "failed", "none": "absent"}
    assert ledger["audio"].to_dict() == {"mute": "failed", "silent": "failed", "damaged": "failed", "none": "absent"}
    assert set(ledger["text in time"]) == {"absent", "failed"}  # no transcript; and no frames where it is damaged


def test_a_killed_extraction_goes_on(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = config(tmp_path, encoders={"text": "minilm"}, timed=("text",), chunk_size=1)
    clips = pd.concat([table(recording, clip_id=str(index)) for index in range(3)], ignore_index=True)
    finish = extract_module._Work.finish
    finished = []

    def killed(self: Any, job: Any, name: str, *given: Any) -> None:
        finish(self, job, name, *given)
        finished.append(name)
        if finished.count("text in time") == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(extract_module._Work, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            made(clips, features)
    there = sum(read_timed(clips, features)["text"].present)
    assert 0 < there < 3
    read, summary = made(clips, features)
    assert read["text"].present.all()
    assert summary.counts["c", "text in time"].reused == there


def test_an_encoder_that_cannot_is_refused_before_anything_begins(recording: Path, tmp_path: Path) -> None:
    features = config(tmp_path, encoders={"behavior": "cue-narrative"}, timed=("behavior",))
    with pytest.raises(ConfigError, match=r"features\.timed: 'cue-narrative' \(behavior\) cannot say what it gives"):
        extract(table(recording), features, show_progress=False)
    described = config(tmp_path, encoders={"behavior": "minilm"}, timed=("behavior",))
    with pytest.raises(ConfigError, match="'minilm' \\(behavior\\) cannot say"):
        make_encoders(described)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="'txet' has no encoder; did you mean 'text'"):
        config(tmp_path, timed=("txet",))


def test_frames_that_differ_between_modalities_are_an_error(extracted: Extracted, tmp_path: Path) -> None:
    _, _, features, clips, _ = extracted
    copy = features.model_copy(update={"store": str(tmp_path)})
    timed, encoders = TimedStore(tmp_path), make_encoders(copy)
    for length, (name, spec) in zip((40, 39, 40), timed_specs(copy, encoders).items(), strict=True):
        source = extract_module.timed_source(encoders[name], {**clips.iloc[0]})
        whole = extracted[0][name]
        part = TimedStore(features.store).open_timed("c", spec, ["a"], [source])
        assert part.present.all()
        value = Timed(whole.frames(0)[:length], Fraction(24), 0.0, whole.state(0)[:length])
        timed.write_timed("c", spec, ["a"], [source], [value])
    with pytest.raises(StoreError, match=r"clip 'a' of corpus 'c' has different frames in time: video 40 .* audio 39"):
        read_timed(clips, copy)
