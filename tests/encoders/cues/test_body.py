from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.data import astronaut

from encoders.cues.body import BodyTrack, body_events, body_settings, body_track, share_at_face
from encoders.face.landmarks import FaceTrack
from encoders.media.clip import ClipMedia
from tests.support.face_scenes import clip_of, scene
from tests.support.schematic_faces import draw_hand, face, track, turned


def filmed(*frames: NDArray[np.uint8], fps: float) -> ClipMedia:
    clip = ClipMedia()
    clip.cached(("frames", 30), lambda: (np.stack(frames), np.arange(len(frames)) / fps))
    return clip


def oval(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A face whose landmarks that are not placed lie on an ellipse 160 wide and 260 high around (0, 40)."""
    angles = np.linspace(0, 2 * np.pi, 478)
    blank = (points == 0).all(axis=1)
    points[blank, 0], points[blank, 1] = 80 * np.cos(angles[blank]), 40 + 130 * np.sin(angles[blank])
    return points


def hand(*points: tuple[float, float]) -> NDArray[np.float64]:
    """Landmarks of which the given ones are placed, the others far away."""
    return np.array([*points, *[(900.0, 900.0)] * (21 - len(points))])


def test_share_of_a_hand_at_the_face_by_hand() -> None:
    points = oval(face())
    # inside; 10 pixels outside the right edge, within 0.15 of 100; 20 pixels outside; far away
    assert share_at_face(hand((0, 60), (90, 40), (100, 40)), points, 100.0) == pytest.approx(2 / 21)
    moved = points * 2 + np.array([50.0, 50.0, 0.0])
    placed = np.array([(0, 60), (90, 40), (100, 40)]) * 2 + 50.0
    assert share_at_face(hand(*map(tuple, placed)), moved, 200.0) == pytest.approx(2 / 21)


def body(at_face: list[float], shoulders: NDArray[np.float64] | None = None) -> BodyTrack:
    frames, unseen = np.arange(len(at_face)), np.full((len(at_face), 2, 2), np.nan)
    return BodyTrack(frames, np.array(at_face), frames, unseen if shoulders is None else shoulders)


def test_hands_at_the_face_and_when() -> None:
    shown = track([face()] * 6, fps=1.0)
    (event,) = body_events(shown, body([0.0, 0.0, 0.5, 1.0, 2 / 21, 0.0]))
    assert (event.cue, event.start, event.end, event.value) == ("hand_at_face", 2.0, 3.0, 1.0)
    assert event.resolution == 1.0
    assert body_events(shown, body([0.0, 2 / 21, 0.0, 0.0, 0.0, 0.0])) == []


def shoulders(*heights: float, tilts: tuple[float, ...] = ()) -> NDArray[np.float64]:
    """Shoulders 400 pixels apart, so far below the eyes, the left one lower by so many degrees."""
    drops = [400 * np.tan(np.radians(tilt)) for tilt in tilts or [0.0] * len(heights)]
    return np.array([[(-200, y - drop / 2), (200, y + drop / 2)] for y, drop in zip(heights, drops, strict=True)])


def test_raised_and_uneven_shoulders_by_hand() -> None:
    shown = track([face()] * 6, fps=1.0)
    raised = body_events(shown, body([0.0] * 6, shoulders(400, 400, 340, 330, 400, 400)))
    # 60 and 70 of 100 pixels nearer to the eyes than the median; one degree is 0.5
    assert [(e.cue, e.start, e.end, round(e.value, 6)) for e in raised] == [("shoulders_raised", 2.0, 3.0, 0.7)]
    uneven = body_events(shown, body([0.0] * 6, shoulders(*[400] * 6, tilts=(3, 3, 3, 3, 15, 3))))
    assert [(e.cue, e.start, e.end, round(e.value, 6)) for e in uneven] == [("shoulders_uneven", 4.0, 4.0, 12.0)]


def test_a_camera_that_moves_or_zooms_raises_no_shoulders() -> None:
    plain = shoulders(400, 400, 340, 400, 400, 400)
    for scale, shift in ((1.0, 70.0), (2.5, 0.0)):
        shown = FaceTrack(
            track([face()] * 6, 1.0).landmarks * scale + shift, np.ones(6, dtype=bool), np.arange(6.0), (9, 9)
        )
        (event,) = body_events(shown, body([0.0] * 6, plain * scale + shift))
        assert event.value == pytest.approx(0.6)


def test_too_few_frames_with_shoulders_and_a_nodding_head_tell_nothing() -> None:
    few = shoulders(400, 400, 300, 400, 400, 400)
    few[3:] = np.nan
    assert body_events(track([face()] * 6, 1.0), body([0.0] * 6, few)) == []
    bent = [face() if index != 2 else turned(face(), "pitch", 30.0) for index in range(6)]
    assert body_events(track(bent, 1.0), body([0.0] * 6, shoulders(400, 400, 300, 400, 400, 400))) == []


def test_shoulders_are_not_compared_with_eyes_that_are_out_of_sight() -> None:
    raised = body([0.0] * 6, shoulders(400, 400, 300, 400, 400, 400))
    assert body_events(track([face()] * 6, 1.0, missing=(2,)), raised) == []


def test_a_drawn_hand_is_found_at_the_face_and_beside_it() -> None:
    wall = scene((200, 60, 240))
    at_face, beside = draw_hand(wall, 290, 190, 110), draw_hand(wall, 450, 200, 110)
    frames = [wall, wall, at_face, at_face, beside, wall]
    clip = filmed(*frames, fps=1.0)
    found = body_track(clip, 30)
    assert found.hand_frames.tolist() == [0, 1, 2, 3, 4, 5]
    assert (found.at_face >= 3 / 21).tolist() == [False, False, True, True, False, False]
    assert body_track(clip, 30) is found
    # frames are looked at alone: in another order the same is found
    mixed = body_track(filmed(*[frames[index] for index in (4, 2, 0, 5, 1, 3)], fps=1.0), 30)
    np.testing.assert_array_equal(mixed.at_face, found.at_face[[4, 2, 0, 5, 1, 3]])


def test_shoulders_of_the_portrait_follow_the_picture() -> None:
    picture = astronaut()
    found = body_track(clip_of(picture, np.roll(picture, 30, axis=0)), 30)
    right, left = found.shoulders[0]
    assert right[0] < 225 < left[0]  # pixels: the subject's right is on the left of the picture
    assert np.abs(found.shoulders[0, :, 1] - 240).max() < 40
    assert ((found.shoulders[1] - found.shoulders[0])[:, 1] > 10).all()  # they went down by 30


def test_shoulders_are_not_looked_for_where_the_frame_ends_at_the_chin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encoders.cues.body._pose_model", lambda: pytest.fail("the pose model ran"))
    assert np.isnan(body_track(clip_of(scene((160, 60, 300))), 30).shoulders).all()


def test_dense_frames_are_looked_at_every_three_quarters_of_a_second() -> None:
    wall = scene((200, 60, 240))
    # 0.25 s apart: every third, from the second on
    assert body_track(filmed(*[wall] * 8, fps=4.0), 30).hand_frames.tolist() == [1, 4, 7]
    assert body_track(filmed(wall, fps=4.0), 30).hand_frames.tolist() == [0]


def test_frames_are_looked_at_first_far_apart_and_then_beside_what_they_show(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [0.0] * 13
    monkeypatch.setattr("encoders.cues.body._hands", lambda picture, *_: [shown[picture[0, 0, 0]]])
    monkeypatch.setattr("encoders.cues.body.share_at_face", lambda hand, *_: hand)
    monkeypatch.setattr("encoders.cues.body._find_shoulders", lambda picture: places[picture[0, 0, 0]])
    places = shoulders(*[400] * 13) + np.array([300, 200])
    clip = filmed(*[np.full((700, 600, 3), number, np.uint8) for number in range(13)], fps=1.0)
    clip.cached(
        ("faces", 30),
        lambda: FaceTrack(track([face()] * 13, 1.0).landmarks + 200, np.ones(13, bool), np.arange(13.0), (600, 700)),
    )
    found = body_track(clip, 30)
    assert found.hand_frames.tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert found.shoulder_frames.tolist() == [0, 3, 6, 9, 12]
    del clip._kept[("body", 30)]
    shown[6], places[9, :, 1] = 0.05, places[9, :, 1] - 60  # 60 of 100 pixels: more than the one degree of 50
    found = body_track(clip, 30)
    assert found.hand_frames.tolist() == [0, 2, 4, 5, 6, 7, 8, 10, 12]
    assert found.at_face.tolist() == [0.0] * 4 + [0.05] + [0.0] * 4
    assert found.shoulder_frames.tolist() == [0, 3, 6, 7, 8, 9, 10, 11, 12]


def test_settings_name_what_decides() -> None:
    assert {"detector", "confidence", "spacing", "around"} <= body_settings().keys()
