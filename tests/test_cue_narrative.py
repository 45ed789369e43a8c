from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from media_files import tone, write_media
from numpy.typing import NDArray
from skimage.data import astronaut

from encoders.cue_narrative import CueNarrative
from encoders.cues import CUE_NAMES, NEUTRAL
from encoders.encoder import Absent, EncodingError
from encoders.face_mesh import FaceMesh
from encoders.media import ClipMedia
from encoders.minilm import shared_embedder
from encoders.narration import Voice, measure_voice, narrate

SECONDS = np.arange(10) / 2
NEUTRAL_TEXT = "The face stays neutral. The gaze stays on the camera. Head and posture stay still."


def told(voice: Voice | None = None, **cues: float | list[float] | NDArray[np.float64]) -> str:
    """The narrative of ten frames, half a second apart, of a neutral face with some cues changed."""
    table = np.zeros((10, len(CUE_NAMES)))
    for name, value in {**NEUTRAL, "found": 1.0, **cues}.items():
        table[:, CUE_NAMES.index(name)] = value
    return narrate(table, SECONDS, voice)


def frames(*indices: int, value: float, rest: float = 0.0) -> list[float]:
    return [value if index in indices else rest for index in range(10)]


def test_a_neutral_still_face() -> None:
    assert told() == NEUTRAL_TEXT


@pytest.mark.parametrize(
    ("height", "words"), [(0.08, "a slight smile"), (0.15, "a clear smile"), (0.25, "a strong smile")]
)
def test_how_much_is_graded(height: float, words: str) -> None:
    assert f"shows {words} throughout" in told(mouth_corner_height=height)


@pytest.mark.parametrize(("count", "words"), [(1, "briefly"), (3, "at times"), (6, "often"), (10, "throughout")])
def test_how_long_is_graded(count: int, words: str) -> None:
    assert f"a clear smile {words}" in told(mouth_corner_height=frames(*range(count), value=0.15, rest=0.01))


@pytest.mark.parametrize(
    ("cues", "words"),
    [
        ({"mouth_corner_height": -0.04}, "slight mouth corners drawn down throughout"),
        (
            {name: NEUTRAL[name] + 0.08 for name in NEUTRAL if name.startswith("brow_") and "distance" not in name},
            "a slight raising of the brows throughout",
        ),
        ({"brow_distance": 0.28}, "a clear frown throughout"),
        ({"brow_distance": frames(4, value=0.36, rest=0.39)}, "a slight frown briefly"),
        ({"lip_thickness": 0.2}, "a slight pressing of the lips throughout"),
        ({"mouth_open": 0.3}, "a clear opening of the mouth throughout"),
        ({"eye_open_left": 0.4, "eye_open_right": 0.4}, "a slight widening of the eyes throughout"),
        ({"eye_open_left": 0.15, "eye_open_right": 0.15}, "a slight narrowing of the eyes throughout"),
        ({"gaze_x": 0.6}, "looks far away throughout"),
        ({"gaze_x": frames(2, 3, value=0.3)}, "looks away at times"),
        ({"gaze_x": frames(2, value=-0.2)}, "looks slightly away briefly"),
        ({"gaze_y": frames(2, 3, 4, value=0.4)}, "looks down at times"),
        ({"yaw": frames(5, value=np.radians(40))}, "looks far away briefly"),
        ({"blink": frames(3, value=1.0)}, "blinks once"),
        ({"blink": frames(3, 7, value=1.0)}, "blinks twice"),
        ({"blink": frames(0, 2, 4, 6, value=1.0)}, "blinks very often"),
        ({"blink": 1.0}, "keeps the eyes closed"),
        ({"yaw": np.radians([0, 6, 0, -6, 0, 6, 0, -6, 0, 6])}, "shakes the head clearly"),
        ({"yaw": np.radians([0, 3, 0, -3, 0, 3, 0, -3, 0, 3])}, "shakes the head slightly"),
        ({"shift_x": [0, 0.2, 0, -0.2, 0, 0.2, 0, -0.2, 0, 0.2]}, "moves the head from side to side"),
        ({"yaw": np.radians([0, 2, 4, 6, 8, 10, 12, 14, 16, 18])}, "turns the head aside clearly"),
        ({"pitch": np.radians([0, 6, 0, 6, 0, 6, 0, 6, 0, 6])}, "nods slightly"),
        ({"shift_y": [0, 0.2, 0, -0.2, 0, 0.2, 0, -0.2, 0, 0.2]}, "moves the head up and down"),
        ({"roll": np.radians(12)}, "tilts the head throughout"),
        ({"speed": frames(4, value=1.5)}, "shifts posture once"),
        ({"speed": 0.5}, "moves a little"),
        ({"speed": 0.9}, "moves restlessly"),
        ({"approach": frames(3, 4, value=0.2)}, "leans forward"),
        ({"approach": frames(3, 4, value=-0.2)}, "leans back"),
    ],
)
def test_every_cue_has_its_words(cues: dict[str, float], words: str) -> None:
    assert words in told(**cues)
    assert words not in NEUTRAL_TEXT


def test_landmark_noise_is_not_told() -> None:
    rng = np.random.default_rng(0)
    noise = {
        "mouth_corner_height": 0.01 + rng.normal(0, 0.01, 10), "gaze_x": rng.normal(0, 0.03, 10),
        "yaw": rng.normal(0, np.radians(0.8), 10), "brow_distance": 0.39 + rng.normal(0, 0.006, 10),
        "shift_x": rng.normal(0, 0.03, 10),
    }  # fmt: skip
    assert told(**noise) == NEUTRAL_TEXT


def test_a_resting_face_that_differs_from_the_canonical_one_shows_its_own_changes() -> None:
    low = {name: 0.15 for name in NEUTRAL if name.startswith("brow_outer")}
    inner = frames(6, 7, value=0.40, rest=0.30)
    assert "raising of the brows at times" in told(brow_inner_left=inner, brow_inner_right=inner, **low)


def test_thin_lips_of_a_broad_smile_are_not_pressed() -> None:
    assert "pressing" not in told(lip_thickness=0.2, mouth_corner_height=0.2)
    assert "pressing" not in told(lip_thickness=0.2, mouth_open=0.2)


def test_mixed_signs_need_the_cues_in_the_same_frames() -> None:
    smile = frames(0, 1, 2, value=0.2, rest=0.01)
    assert "Mixed signs: a smile while the gaze turns away." in told(
        mouth_corner_height=smile, gaze_x=frames(0, 1, value=0.4)
    )
    assert "Mixed" not in told(mouth_corner_height=smile, gaze_x=frames(8, 9, value=0.4))
    shake = np.radians([0, 6, 0, -6, 0, 6, 0, -6, 0, 6])
    assert "a smile with a shake of the head" in told(mouth_corner_height=smile, yaw=shake)
    assert "nodding and shaking" in told(yaw=shake, pitch=shake)


@pytest.mark.parametrize(
    ("voice", "words"),
    [
        (Voice(0, 0.0, 0.0), "The voice flows without pauses."),
        (Voice(1, 0.3, 0.1), "The voice pauses once, the longest pause is short."),
        (Voice(2, 0.8, 0.2), "The voice pauses twice, the longest pause is long."),
        (Voice(5, 2.0, 0.4), "pauses several times, the longest pause is very long, silent for much of the time."),
    ],
)
def test_the_voice_is_told_when_there_is_one(voice: Voice, words: str) -> None:
    assert told(voice).endswith(words)
    assert "voice" not in told(None)


def test_pauses_by_hand_and_at_any_loudness() -> None:
    # 1 s voice, 0.4 s quiet, 1 s voice, 0.1 s quiet (too short), 0.5 s voice: 0.4 of 3.0 s
    parts = [tone(200, 1.0), np.zeros(6400), tone(200, 1.0), np.zeros(1600), tone(200, 0.5), np.zeros(8000)]
    samples = np.concatenate(parts).astype(np.float32)
    assert measure_voice(samples, 16_000) == Voice(1, 0.4, 0.133)
    assert measure_voice(samples * np.float32(0.01), 16_000) == Voice(1, 0.4, 0.133)
    assert measure_voice(samples[:100], 16_000) == Voice(0, 0.0, 0.0)


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    picture = cv2.resize(astronaut(), (256, 256))
    samples = np.concatenate([tone(200, 0.8), np.zeros(6400, np.float32), tone(200, 0.8)])
    folder = tmp_path_factory.mktemp("narrative")
    return write_media(folder / "a.mp4", [picture] * 24, samples, fps=12, audio_codec="aac")


def test_a_real_clip_is_told_embedded_and_noted(clip_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = CueNarrative("behavior")
    clip = ClipMedia(media=clip_file)
    FaceMesh("video").encode([clip])
    monkeypatch.setattr("encoders.faces.largest_face", lambda _: pytest.fail("landmarks are computed twice"))
    rows, absent, gone = encoder.encode([clip, ClipMedia(text="hi"), ClipMedia(media=Path("gone.mp4"))])
    note = clip.notes["cue-narrative"]
    assert "a clear smile throughout" in note or "a strong smile throughout" in note
    assert "Head and posture stay still." in note
    assert note.endswith("The voice pauses once, the longest pause is short.")
    np.testing.assert_allclose(np.asarray(rows), shared_embedder().embed([note])[0], atol=1e-5)
    assert np.asarray(rows).shape[1] == encoder.width == 384
    assert isinstance(absent, Absent)
    assert isinstance(gone, EncodingError)


def test_a_clip_without_sound_is_told_by_its_face(tmp_path: Path) -> None:
    picture = cv2.resize(astronaut(), (256, 256))
    clip = ClipMedia(media=write_media(tmp_path / "a.mp4", [picture] * 3, fps=3))
    (rows,) = CueNarrative("behavior").encode([clip])
    assert isinstance(rows, np.ndarray)
    assert "voice" not in clip.notes["cue-narrative"]
    assert "smile" in clip.notes["cue-narrative"]


def test_no_face_fails_and_leaves_no_note(tmp_path: Path) -> None:
    clip = ClipMedia(media=write_media(tmp_path / "a.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 3))
    (failure,) = CueNarrative("behavior").encode([clip])
    assert "no face found in 3 frames" in str(failure)
    assert clip.notes == {}


def test_intensity_survives_the_embedding() -> None:
    texts = [told(mouth_corner_height=height) for height in (0.08, 0.15, 0.25)]
    slight, clear, strong = (rows.mean(axis=0) for rows in shared_embedder().embed(texts))
    assert np.linalg.norm(slight - clear) > 0.05
    assert np.linalg.norm(clear - strong) > 0.05


def test_fingerprint_covers_face_and_text_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = CueNarrative("behavior").fingerprint()
    assert before != CueNarrative("behavior", num_frames=30).fingerprint()
    monkeypatch.setattr("encoders.minilm.MAX_TOKENS", 128)
    assert CueNarrative("behavior").fingerprint() != before
