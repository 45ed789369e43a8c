from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from skimage.data import astronaut

from corpora.demo.face import CUES, FPS, Look, render
from encoders.cues.encoder import CueNarrative, measure_events, narrative_of
from encoders.cues.narration import Narrative, narrate
from encoders.errors import EncodingError, MissingModality
from encoders.face.mesh import FaceMesh
from encoders.media.clip import ClipMedia
from encoders.models.minilm import MAX_TOKENS, shared_embedder
from tests.support.face_scenes import WALL, scene
from tests.support.media_files import tone, write_media
from tests.support.schematic_faces import draw_hand


def filmed(*frames: NDArray[np.uint8], fps: float, **given: object) -> ClipMedia:
    clip = ClipMedia(**given)  # type: ignore[arg-type]
    seconds = np.arange(len(frames)) / fps
    for num_frames in (12, 30):
        clip.cached(("frames", num_frames), lambda: (np.stack(frames), seconds))
    return clip


def spans(narrative: Narrative, cue: str) -> list[tuple[float, float]]:
    return [(event.start, event.end) for event in narrative.events if event.cue == cue]


def acted(seconds: float, **curves: Mapping[range, float]) -> ClipMedia:
    """The portrait, neutral but for cues of the demo's faces in some frames, at 12 frames a second."""
    num_frames = round(seconds * FPS)
    cues = np.zeros((num_frames, len(CUES)), np.float32)
    cues[:, CUES.index("smile")] = -0.6  # the portrait smiles
    for name, amplitudes in curves.items():
        for frames, amplitude in amplitudes.items():
            cues[frames, CUES.index(name)] += amplitude
    drawn: Iterator[NDArray[np.uint8]] = render(
        cues, np.zeros((num_frames, 3), np.float32), Look(), np.random.default_rng(0)
    )  # fmt: skip
    return filmed(*drawn, fps=FPS)


@pytest.mark.parametrize(
    ("cue", "rest", "amplitude", "told"),
    [("brow_raise", 0.0, 1.0, "brows_raised"), ("brow_lower", 0.0, 1.0, "brows_lowered"), ("smile", -0.4, 1.9, "smile"),
     ("gaze_x", 0.0, 1.2, "gaze_away")],
)  # fmt: skip
def test_a_planted_cue_is_told_at_its_seconds(cue: str, rest: float, amplitude: float, told: str) -> None:
    planted = range(12, 19)  # 1.0 to 1.5 s of 2.5
    narrative = narrative_of(acted(2.5, **{cue: {range(30): rest, planted: amplitude}}), 30)
    start, end = max(spans(narrative, told), key=lambda span: span[1] - span[0])
    assert start == pytest.approx(12 / FPS, abs=1.01 / FPS)
    assert end == pytest.approx(18 / FPS, abs=1.01 / FPS)
    assert spans(narrative_of(acted(2.5, **{cue: {range(30): rest}}), 30), told) == []


def test_blinks_are_told_where_frames_are_dense_enough() -> None:
    clip = acted(2.5, eye_close={range(8, 10): 1.0, range(20, 22): 1.0})
    dense = narrative_of(clip, 30)
    assert [round(start * FPS) for start, _ in spans(dense, "blink")] == [8, 20]
    assert "the person blinks twice" in dense.text
    frames = clip.frames(30)[0]
    sparse = narrative_of(filmed(*frames[::4], fps=FPS / 4), 12)  # frames 8 and 20 are among them
    assert spans(sparse, "blink") == []
    assert [round(start * FPS) for start, _ in spans(sparse, "eyes_closed")] == [8, 20]
    assert sparse.limits == "Frames 0.33 s apart are too few to tell blinks or nods and shakes."
    assert dense.limits == ""


def test_a_tilted_portrait_is_told_from_its_real_landmarks() -> None:
    frames = [scene((200, 60, 240), angle=15.0 if 4 <= index < 8 else 0.0) for index in range(12)]
    narrative = narrative_of(filmed(*frames, fps=4.0), 12)
    assert spans(narrative, "head_tilted") == [(1.0, 1.75)]
    assert "At 1.0-1.8 s the head tilts" in narrative.text


def test_a_drawn_hand_is_told() -> None:
    wall = scene((200, 60, 240))
    frames = [draw_hand(wall, 290, 190, 110) if 2 <= index < 5 else wall for index in range(8)]
    narrative = narrative_of(filmed(*frames, fps=1.0), 12)
    assert "At 2.0-4.0 s a hand is at the face, at times." in narrative.text


def test_a_face_out_of_sight_is_told() -> None:
    face = scene((200, 60, 240))
    narrative = narrative_of(filmed(face, face, WALL, face, fps=2.0), 12)
    assert "At 1.0 s the face is out of sight, at times." in narrative.text


def test_a_still_portrait_only_smiles() -> None:
    narrative = narrative_of(filmed(*[scene((200, 60, 240))] * 6, fps=2.0), 12)
    assert {event.cue for event in narrative.events} <= {"smile", "mouth_open", "lips_parted"}
    assert "Head and posture stay still." in narrative.text


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    picture = cv2.resize(astronaut(), (256, 256))
    samples = np.concatenate([tone(200, 0.8), np.zeros(6400, np.float32), tone(200, 0.8)])
    folder = tmp_path_factory.mktemp("narrative")
    return write_media(folder / "a.mp4", [picture] * 24, samples, fps=12, audio_codec="aac")


def test_a_real_clip_is_told_embedded_and_noted(clip_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = CueNarrative("behavior")
    clip = ClipMedia(media=clip_file, text="Um, maybe.")
    FaceMesh("video").encode([clip])
    monkeypatch.setattr("encoders.face.landmarks.largest_face", lambda _: pytest.fail("landmarks are computed twice"))
    rows, absent, gone = encoder.encode([clip, ClipMedia(text="hi"), ClipMedia(media=Path("gone.mp4"))])
    note = clip.notes["cue-narrative"]
    assert re.search(r"At 0\.[01]-1\.9 s the person smiles (clearly|strongly), throughout\.", note)
    assert "Head and posture stay still." in note
    assert "At 0.8-1.2 s the voice pauses once, the longest pause is short." in note
    assert "the voice holds a steady vowel twice, as in a filler." in note
    assert "fillers are said once." in note
    narrative = narrative_of(clip, encoder.num_frames)
    assert narrative.text == note
    np.testing.assert_allclose(np.asarray(rows), shared_embedder().embed([narrative.untimed])[0], atol=1e-5)
    assert np.asarray(rows).shape[1] == encoder.width == 384
    assert isinstance(absent, MissingModality)
    assert isinstance(gone, EncodingError)


def test_every_second_of_a_real_clips_sentences_is_measured(clip_file: Path) -> None:
    for sentence in narrative_of(ClipMedia(media=clip_file)).sentences:
        named = {float(number) for number in re.findall(r"\d+\.\d", sentence.text)}
        assert named <= {float(f"{second:.1f}") for each in sentence.events for second in (each.start, each.end)}
        assert bool(named) == bool(sentence.events)


def test_seconds_count_from_where_the_clip_starts_in_its_file(clip_file: Path) -> None:
    later = narrative_of(ClipMedia(media=clip_file, start=0.5))
    assert all(0.0 <= event.start <= event.end <= 1.51 for event in later.events)
    (pause,) = spans(later, "pause")
    assert pause[0] == pytest.approx(0.3, abs=0.05)
    (smile,) = spans(later, "smile")
    assert smile[0] < 0.15
    fallback = ClipMedia(media=Path("gone.mp4"), fallback_media=clip_file, fallback_start=0.5)
    assert narrative_of(fallback).text == later.text


def test_fillers_are_told_at_the_seconds_of_their_words(clip_file: Path) -> None:
    row = {"media": str(clip_file), "text": "So um maybe", "description": None, "start": None, "end": None}
    words = json.dumps([["So", 0.0, 0.5], ["um", 1.0, 1.5], ["maybe", 1.5, 2.0]])
    events, *_ = measure_events(ClipMedia.from_row({**row, "words": words}))
    assert [(event.start, event.end) for event in events if event.cue == "filler"] == [(1.0, 1.5)]
    events, seconds, *_ = measure_events(ClipMedia.from_row(row))
    assert [(event.start, event.end) for event in events if event.cue == "filler"] == [(0.0, seconds)]
    encoder = CueNarrative()
    assert encoder.source({**row, "words": words}) != encoder.source(row) == encoder.source({**row, "words": pd.NA})


def test_a_clip_does_not_depend_on_its_neighbours(clip_file: Path) -> None:
    other = filmed(*[scene((200, 60, 240), angle=20.0)] * 4, fps=2.0)
    alone, first = ClipMedia(media=clip_file), ClipMedia(media=clip_file)
    encoder = CueNarrative("behavior")
    (vector,) = encoder.encode([alone])
    vectors = encoder.encode([other, first])
    assert alone.notes == first.notes
    np.testing.assert_allclose(np.asarray(vectors[1]), np.asarray(vector), atol=1e-5)


def test_a_clip_without_sound_is_told_by_what_is_seen(tmp_path: Path) -> None:
    picture = cv2.resize(astronaut(), (256, 256))
    clip = ClipMedia(media=write_media(tmp_path / "a.mp4", [picture] * 3, fps=3))
    (rows,) = CueNarrative("behavior").encode([clip])
    assert isinstance(rows, np.ndarray)
    assert "voice" not in clip.notes["cue-narrative"]
    assert "smile" in clip.notes["cue-narrative"]


def test_one_frame_tells_no_movement() -> None:
    narrative = narrative_of(filmed(scene((200, 60, 240)), fps=1.0))
    assert "smiles" in narrative.text
    assert narrative.text.endswith("A single frame shows the face: no movement can be told.")


def test_no_face_fails_and_leaves_no_note(tmp_path: Path) -> None:
    clip = ClipMedia(media=write_media(tmp_path / "a.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 3))
    (failure,) = CueNarrative("behavior").encode([clip])
    assert "no face found in 3 frames" in str(failure)
    assert clip.notes == {}


def test_intensity_survives_the_embedding() -> None:
    (smile,) = [
        each for each in measure_events(filmed(*[scene((200, 60, 240))] * 4, fps=2.0))[0] if each.cue == "smile"
    ]
    degrees = [type(smile)("smile", smile.start, smile.end, smile.value, "IOD", degree, 0.5) for degree in (1, 2, 3)]
    texts = [narrate([event], 2.0, heard=False).untimed for event in degrees]
    slight, clear, strong = (rows.mean(axis=0) for rows in shared_embedder().embed(texts))
    assert np.linalg.norm(slight - clear) > 0.05
    assert np.linalg.norm(clear - strong) > 0.05


def test_fingerprint_covers_face_body_and_text_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = CueNarrative("behavior").fingerprint()
    assert before != CueNarrative("behavior", num_frames=13).fingerprint()
    with monkeypatch.context() as changed:
        changed.setattr("encoders.cues.body._AROUND", 5.0)
        assert CueNarrative("behavior").fingerprint() != before
    monkeypatch.setattr("encoders.models.minilm.MAX_TOKENS", MAX_TOKENS // 2)
    assert CueNarrative("behavior").fingerprint() != before
