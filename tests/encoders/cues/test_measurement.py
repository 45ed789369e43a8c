"""Measures over time agree with the vectors and the described behaviour of the same clip, and say what is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corpora.demo.face import CUES, Look, render
from encoders.base import pool
from encoders.cues.columns import COLUMNS, EVENT, columns_of
from encoders.cues.encoder import narrative_of
from encoders.cues.measurement import Measured, by_second, measure_clip
from encoders.cues.narration import WORDING
from encoders.cues.voice import measure_voice
from encoders.errors import EncodingError
from encoders.face.mesh import FaceMesh
from encoders.media.clip import ClipMedia
from encoders.timed import MEASURED
from tests.support.face_scenes import WALL
from tests.support.media_files import tone, write_media

RATE = 16_000
OF_MESH = [name for name in columns_of("face") if not name.startswith(("corner_", "closeness", "gaze_aside", "gaze_d"))]
"""Columns that are cues of `face-mesh`: all of them but `found`."""


def heard(seconds: float, begin: float, end: float) -> np.ndarray:
    """A tone of 200 Hz with a gap."""
    samples = tone(200.0, seconds)
    samples[round(begin * RATE) : round(end * RATE)] = 0.0
    return samples


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a face that moves and raises its brows, with a pause of the voice."""
    number = np.arange(24)
    cues = np.zeros((24, len(CUES)), np.float32)
    cues[12:18, CUES.index("brow_raise")] = 1.0
    poses = np.stack([4 * np.sin(number / 4), 3 * np.cos(number / 5), number / 12], axis=1).astype(np.float32)
    frames = list(render(cues, poses, Look(), np.random.default_rng(0)))
    return write_media(tmp_path_factory.mktemp("moving") / "a.mkv", frames, heard(2.0, 0.8, 1.2), fps=12)


def test_frames_that_encoders_look_at_give_their_vector_and_their_events(moving: Path) -> None:
    clip = ClipMedia(media=moving)
    measured = measure_clip(clip, as_encoded=True)
    assert len(measured.seconds) == 12
    assert measured.values["found"].tolist() == [1.0] * 12
    (rows,) = FaceMesh().encode([clip])
    vector, width = pool(rows), FaceMesh().width
    columns = np.stack([measured.values[name] for name in OF_MESH], axis=1)
    assert len(OF_MESH) == 21
    np.testing.assert_allclose(columns.mean(axis=0), vector[:21], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(columns.std(axis=0), vector[width : width + 21], rtol=1e-4, atol=1e-6)
    told = narrative_of(clip).events
    assert {event.cue for event in told} > {"brows_raised", "pause"}
    assert sorted(measured.events, key=repr) == sorted(told, key=repr)
    raised = [event for event in told if event.cue == "brows_raised"]
    inside = [any(event.start <= second <= event.end for event in raised) for second in measured.seconds]
    assert measured.values["event.brows_raised"].tolist() == [float(each) for each in inside]
    assert 0 < sum(inside) < 12
    assert np.isnan(measured.values["event.shoulders_raised"]).all()  # which the pictures do not show
    assert measured.values["event.hand_at_face"].tolist() == [0.0] * 12


@pytest.mark.slow
def test_every_frame_is_what_face_mesh_gives_in_time(moving: Path) -> None:
    clip, encoder = ClipMedia(media=moving), FaceMesh()
    counted: list[int] = []
    measured = measure_clip(clip, on_frame=lambda: counted.append(1))
    assert len(counted) == len(measured.seconds) == 24
    watchers = [encoder.watcher(clip)]
    grid = clip.show_frames(None, lambda: [watchers[0].see], ())
    timed = encoder.encode_timed(clip, grid, watchers[0])
    assert (timed.state == MEASURED).all()
    columns = np.stack([measured.values[name] for name in OF_MESH], axis=1)
    np.testing.assert_array_equal(columns.astype(np.float32).astype(np.float16), timed.values[:, :21])
    np.testing.assert_allclose(measured.seconds, np.arange(24) / 12)
    assert np.isfinite(measured.values["hand_at_face"]).sum() >= 2


def test_the_voice_is_that_of_the_description() -> None:
    samples = heard(2.0, 0.8, 1.2)
    values = measure_clip(sound_alone(samples), rate=10.0).values
    # amplitude 1/2: the mean square is 1/8, and 10 log10(1/8) = -9.03 dB; windows of 10 ms hold two whole periods
    np.testing.assert_allclose(values["loudness"][:8], -9.031, atol=0.01)
    np.testing.assert_allclose(values["pitch"][[2, 5, 15]], 200.0, rtol=0.005)
    assert np.isnan(values["pitch"][9:11]).all()
    assert values["event.pause"].tolist() == [0.0] * 8 + [1.0] * 4 + [0.0] * 8  # 0.8 to 1.2 s
    assert values["voice"].tolist() == [1.0] * 8 + [0.0] * 4 + [1.0] * 8
    assert measure_voice(samples, RATE).loud.mean() == pytest.approx(values["voice"].mean())


def sound_alone(samples: np.ndarray) -> ClipMedia:
    class Heard(ClipMedia):
        def waveform(self, rate: int) -> np.ndarray:
            assert rate == RATE
            return samples

    return Heard(media=None)


def test_sound_alone_has_no_faces_and_says_so() -> None:
    measured = measure_clip(sound_alone(tone(200.0, 1.0)))
    assert len(measured.seconds) == 25
    for name in ("found", "head_yaw", "hand_at_face", "event.smile", "event.nod", "event.filler"):
        assert np.isnan(measured.values[name]).all(), name
    assert (measured.values["heard"] == 1.0).all()
    assert measured.notes == ("no pictures: no media file",)


@pytest.mark.parametrize("as_encoded", [False, True])
def test_a_clip_without_a_face_has_empty_cells_and_found_is_0(tmp_path: Path, as_encoded: bool) -> None:
    path = write_media(tmp_path / "wall.mkv", [WALL[:180, :320]] * 4, fps=4)
    measured = measure_clip(ClipMedia(media=path), as_encoded=as_encoded)
    assert measured.values["found"].tolist() == [0.0] * 4
    assert measured.values["heard"].tolist() == [0.0] * 4
    empty = [*columns_of("face"), *columns_of("body"), *columns_of("voice"), *columns_of("events")]
    assert all(np.isnan(measured.values[name]).all() for name in empty)
    assert any("no face in any of 4 frames" in note for note in measured.notes)
    assert any("no sound: " in note and "no audio stream" in note for note in measured.notes)


def test_a_clip_with_nothing_names_both_reasons(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video " * 99, encoding="utf-8")
    with pytest.raises(EncodingError, match=r"text\.mp4: cannot be opened as media"):
        measure_clip(ClipMedia(media=tmp_path / "text.mp4"))


def test_seconds_are_means_of_their_frames_and_hold_all_of_the_sound() -> None:
    seconds = np.array([0.0, 0.5, 1.0, 1.5, 3.0])  # of a recording in which nothing is shown from 2 to 3 s
    values = {
        "frame": np.arange(5.0), "num_frames": np.ones(5), "found": np.array([1.0, 1.0, 1.0, 0.0, 1.0]),
        "mouth_open": np.array([0.1, 0.3, 0.2, np.nan, np.nan]), "event.smile": np.array([0.0, 1.0, 1.0, 1.0, 0.0]),
    }  # fmt: skip
    samples = np.concatenate([tone(200.0, 1.0), tone(200.0, 3.0, amplitude=0.25)])
    measured = Measured(seconds, np.full(5, 0.5), values, measure_voice(samples, RATE), (), ())
    begins, means = by_second(measured)
    assert begins.tolist() == means["frame"].tolist() == [0.0, 1.0, 3.0]
    assert means["num_frames"].tolist() == [2.0, 2.0, 1.0]
    assert means["found"].tolist() == [1.0, 0.5, 1.0]
    np.testing.assert_allclose(means["mouth_open"], [0.2, 0.2, np.nan])  # (0.1 + 0.3) / 2, and 0.2 of one frame
    assert means["event.smile"].tolist() == [0.5, 1.0, 0.0]
    np.testing.assert_allclose(means["loudness"], [-9.031, -15.051, -15.051], atol=0.02)  # 10 log10 of 1/8 and 1/32


def test_columns_are_all_there_and_each_has_a_unit() -> None:
    measured = measure_clip(sound_alone(tone(200.0, 0.2)))
    assert {*measured.values, "recording", "time", "failure"} == set(COLUMNS)
    assert all(column.unit and column.meaning for column in COLUMNS.values())
    assert [name for name in COLUMNS if name.startswith(EVENT)] == [f"{EVENT}{cue}" for cue in WORDING]
    assert not any("{" in column.meaning for column in COLUMNS.values())
