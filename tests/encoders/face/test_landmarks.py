from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from encoders.config import FacesConfig
from encoders.errors import EncodingError
from encoders.face import landmarks as landmarks_module
from encoders.face.crops import face_crops
from encoders.face.landmarks import (
    MOST_FRAMES,
    SMALLEST_EYES,
    eye_centres,
    face_frames,
    face_track,
    faces_of,
    largest_face,
)
from encoders.face.measures import measure_cues
from encoders.face.mesh import FaceMesh
from encoders.media.clip import ClipMedia
from encoders.visibility import FaceFigures
from tests.support.face_scenes import WALL, clip_of, scene
from tests.support.media_files import grey, write_media

ONE = scene((200, 60, 240))
TWO = scene((20, 60, 240), (360, 100, 200))


def turned(frame: NDArray[np.uint8], quarters: int = 2) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.rot90(frame, quarters))


def test_a_clip_upside_down_is_turned_and_says_so() -> None:
    upright, inverted = clip_of(*[ONE] * 3, num_frames=3), clip_of(*[turned(ONE)] * 3, num_frames=3)
    expected, track = face_track(upright, 3), face_track(inverted, 3)
    np.testing.assert_array_equal(track.landmarks, expected.landmarks)
    assert inverted.take_note("face-mesh") == "upside down: its frames are turned"
    assert upright.take_note("face-mesh") is None
    np.testing.assert_array_equal(measure_cues(track), measure_cues(expected))
    inverted.notes.clear()
    crops = [face_crops(clip, FacesConfig(), 64, 3) for clip in (upright, inverted)]
    assert crops[0] is not None
    assert crops[1] is not None
    np.testing.assert_array_equal(crops[0].pixels, crops[1].pixels)


@pytest.mark.parametrize("quarters", [0, 1, 3])
def test_no_other_clip_is_turned(quarters: int) -> None:
    frame = turned(ONE, quarters)
    clip = clip_of(frame, WALL if quarters == 0 else frame, frame, num_frames=3)
    frames, _ = face_frames(clip, 3)
    np.testing.assert_array_equal(frames[0], frame)
    assert clip.take_note("face-mesh") is None


@pytest.mark.parametrize("quarters", [1, 3])
def test_a_face_on_its_side_is_told(quarters: int) -> None:
    clip = clip_of(*[turned(ONE, quarters)] * 3, num_frames=3)
    face_track(clip, 3)
    note = clip.take_note("face-mesh")
    assert note is not None
    assert re.match(
        r"the face lies on its side \(\d\d degrees\), where landmarks .* are unsure; turn the recording", note
    )


def test_where_no_face_is_found_nothing_is_turned() -> None:
    frames, _ = face_frames(clip_of(WALL, WALL, num_frames=2), 2)
    np.testing.assert_array_equal(frames[0], WALL)


def test_few_frames_with_a_face_are_no_video() -> None:
    clip = clip_of(*[WALL] * 5, ONE, *[WALL] * 6, num_frames=12)
    with pytest.raises(EncodingError, match=r"a face in 1 of 12 frames, expected at least 25%"):
        face_track(clip, 12)
    (reason,) = FaceMesh("video", num_frames=12).encode([clip])
    assert isinstance(reason, EncodingError)


def test_some_frames_with_a_face_are_told() -> None:
    clip = clip_of(WALL, ONE, WALL, ONE, num_frames=4)
    assert face_track(clip, 4).found.tolist() == [True, False, True]
    assert clip.take_note("face-mesh") == "a face in 2 of 4 frames"
    clip = clip_of(ONE, ONE, num_frames=2)
    face_track(clip, 2)
    assert clip.take_note("face-mesh") is None


def test_several_faces_are_told() -> None:
    clip = clip_of(ONE, TWO, TWO, num_frames=3)
    track = face_track(clip, 3)
    assert (track.landmarks[1:, :, 0].max(axis=1) < 320).all()  # the larger one, on the left
    assert clip.take_note("face-mesh") == "several faces in 2 of 3 frames, the largest is taken"


def test_a_face_of_a_few_pixels_is_none() -> None:
    distances = []
    for side in (120, 64, 48, 40, 32):
        frame = np.ascontiguousarray(scene((0, 0, side))[:side, :side])
        for face in faces_of(frame):
            right, left = eye_centres(face[None])
            distances.append(float(np.linalg.norm(left - right)))
        assert (largest_face(frame) is None) == (not faces_of(frame))
    assert len(distances) >= 2
    assert min(distances) >= SMALLEST_EYES
    assert largest_face(np.ascontiguousarray(scene((0, 0, 32))[:32, :32])) is None


def test_longer_clips_are_given_more_frames(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", [grey(number) for number in range(200)], fps=5)  # 40 s
    assert ClipMedia(media=path).video_seconds() == pytest.approx(40.0, abs=0.3)
    assert ClipMedia(media=path, start=10.0, end=20.0).video_seconds() == 10.0
    assert ClipMedia(media=tmp_path / "none.mp4").video_seconds() == 0.0
    monkeypatch.setattr(landmarks_module, "_upside_down", lambda frames: False)
    asked = []
    monkeypatch.setattr(ClipMedia, "frames", lambda self, number: asked.append(number) or (np.zeros(1), np.zeros(1)))
    for seconds in (3.0, 15.0, 20.0, 30.0, 20 * 60.0):
        clip = ClipMedia()
        clip.cached("video seconds", lambda seconds=seconds: seconds)
        face_frames(clip, 12)
    assert asked == [12, 12, 16, 24, MOST_FRAMES]
    asked.clear()
    face_frames(clip, 16, follows_length=False)
    assert asked == [16]


def test_what_the_pictures_show_of_faces_is_measured() -> None:
    clip = clip_of(WALL, TWO, ONE, turned(WALL), num_frames=4)
    track = face_track(clip, 4)
    distances = [float(np.linalg.norm(np.subtract(*eye_centres(face[None])))) for face in track.landmarks[:2]]
    figures = FaceFigures.of(clip.take_figures() or {})
    assert figures is not None
    assert (figures.num_frames, figures.num_with_face, figures.most_faces, figures.is_turned) == (4, 2, 2, False)
    assert figures.smallest_eyes == pytest.approx(min(distances), abs=0.05)  # of the larger face of each frame
    sides = np.ptp(track.landmarks[:2, :, :2], axis=1)
    assert figures.smallest_side == pytest.approx(sides.min(), abs=0.05)
    assert clip.take_figures() is None
    face_track(clip, 4)  # kept, and told again to whoever reads it next
    assert clip.take_figures() == figures.to_dict()


def test_figures_are_there_where_too_few_frames_show_a_face() -> None:
    clip = clip_of(*[WALL] * 5, ONE, *[WALL] * 6, num_frames=12)
    for _ in range(2):
        with pytest.raises(EncodingError, match="expected at least 25%"):
            face_track(clip, 12)
        figures = clip.take_figures()
        assert figures is not None
        assert (figures["num_frames"], figures["num_with_face"], figures["most_faces"]) == (12, 1, 1)
    empty = clip_of(WALL, WALL, num_frames=2)
    with pytest.raises(EncodingError, match="no face found in 2 frames"):
        face_track(empty, 2)
    assert empty.take_figures() == FaceFigures(2, 0, 0, None, None, False).to_dict()


def test_crops_measure_the_faces_that_they_take() -> None:
    clip = clip_of(WALL, TWO, turned(ONE), num_frames=3)
    crops = face_crops(clip, FacesConfig(), 64, 3)
    figures = clip.take_figures()
    assert crops is not None
    assert figures is not None
    assert (figures["num_frames"], figures["num_with_face"], figures["most_faces"]) == (3, len(set(crops.frames)), 2)
    assert figures["smallest_eyes"] is None
    assert 30 < figures["smallest_side"] < 200
    inverted = clip_of(*[turned(ONE)] * 3, num_frames=3)
    face_crops(inverted, FacesConfig(), 64, 3)
    assert (inverted.take_figures() or {})["is_turned"] is True
