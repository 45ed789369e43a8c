from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from encoders.cues.events import CueEvent
from encoders.cues.face import eye_events, face_events, face_series
from encoders.face.landmarks import FaceTrack
from tests.support import schematic_faces as faces
from tests.support.schematic_faces import Moves, face, looking, showing, track, turned


def seen(shown: FaceTrack, begin: float = 0.0) -> list[CueEvent]:
    series = face_series(shown, begin)
    return [*face_events(series), *eye_events(series)]


def spans(events: list[CueEvent]) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for event in events:
        found.setdefault(event.cue, []).append((round(event.start, 3), round(event.end, 3)))
    return found


def test_a_face_at_rest_shows_nothing() -> None:
    assert seen(showing({}, range(0))) == []


def test_landmark_noise_shows_nothing() -> None:
    rng = np.random.default_rng(0)  # half a pixel of 100 between the eyes, as of a still portrait
    assert seen(track([face() + rng.normal(0, 0.5, (478, 3)) for _ in range(40)], 10)) == []


@pytest.mark.parametrize(
    ("moves", "cue", "value", "degree"),
    [
        (faces.SMILE, "smile", 0.10, 0.10 / 0.05),  # 10 of 100 pixels; own step 0.05
        (faces.RAISED_BROWS, "brows_raised", 0.36, 0.10 / 0.035),  # (0.40 + 0.32) / 2, from 0.26
        (faces.LOWERED_BROWS, "brows_lowered", 0.20, 0.10 / 0.04),
        (faces.DRAWN_BROWS, "brows_drawn", 0.28, 0.12 / 0.025),  # 40 - 12 pixels
        (faces.PRESSED_LIPS, "lips_pressed", 0.075, 0.2 / 0.06),  # (3 + 3) / 80, from 22 / 80
        (faces.PURSED_LIPS, "lips_pursed", 0.56, 0.24 / 0.10),  # 80 - 24 pixels
        (faces.PARTED_LIPS, "lips_parted", 0.09, 0.09 / 0.06),
        (faces.OPEN_MOUTH, "mouth_open", 0.20, 0.18 / 0.12),
        (faces.SQUINT, "squint", 5 / 30, (3 / 30) / 0.06),
        (faces.WIDE_EYES, "eyes_wide", 13 / 30, (5 / 30) / 0.08),
    ],
)
def test_each_cue_of_the_face_by_hand(moves: Moves, cue: str, value: float, degree: float) -> None:
    (event,) = seen(showing(moves, range(12, 19)))
    assert (event.cue, event.start, event.end) == (cue, pytest.approx(1.2), pytest.approx(1.8))
    assert (event.value, event.degree) == (pytest.approx(value), pytest.approx(degree))
    assert event.resolution == pytest.approx(0.1)


@pytest.mark.parametrize("moves", [faces.SMILE, faces.DRAWN_BROWS, faces.PRESSED_LIPS, faces.SQUINT])
def test_a_cue_that_is_held_is_seen_against_the_neutral_face(moves: Moves) -> None:
    (event,) = seen(showing(moves, range(40)))
    assert (event.start, event.end) == (0.0, pytest.approx(3.9))


@pytest.mark.parametrize(
    ("right", "down", "cue"),
    [(6, 0, "gaze_away"), (-6, 0, "gaze_away"), (0, 6, "gaze_down"), (0, -6, "gaze_up"), (6, 3, "gaze_away")],
)
def test_the_gaze_goes_and_comes_back(right: float, down: float, cue: str) -> None:
    away, back = seen(showing(looking(right, down), range(12, 19)))
    assert (away.cue, away.start, away.end) == (cue, pytest.approx(1.2), pytest.approx(1.8))
    assert away.value == pytest.approx(30.0)  # asin((6 / 15) / 0.8) of the eye; the head is straight
    assert (back.cue, back.start, back.end) == ("gaze_back", pytest.approx(1.9), pytest.approx(1.9))


def test_a_gaze_that_stays_away_to_the_end_does_not_come_back() -> None:
    assert spans(seen(showing(looking(6, 0), range(30, 40)))) == {"gaze_away": [(3.0, 3.9)]}


def test_a_gaze_comes_back_after_a_blink_but_not_by_going_elsewhere() -> None:
    shown = [face() for _ in range(40)]
    shown[12:19] = [face(looking(6, 0))] * 7
    shown[19:21] = [face(faces.CLOSED_EYES)] * 2
    found = spans(seen(track(shown, 10)))
    assert (found["gaze_away"], found["gaze_back"]) == ([(1.2, 1.8)], [(2.1, 2.1)])
    shown[19:25] = [face(looking(0, 6))] * 6
    found = spans(seen(track(shown, 10)))
    assert (found["gaze_down"], found["gaze_back"]) == ([(1.9, 2.4)], [(2.5, 2.5)])


def test_the_head_turns_the_gaze() -> None:
    shown = [turned(face(), "yaw", 20.0 if 12 <= index < 19 else 0.0) for index in range(40)]
    events = seen(track(shown, 10))
    assert spans(events) == {"gaze_away": [(1.2, 1.8)], "gaze_back": [(1.9, 1.9)]}
    assert events[0].value == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("fps", "closed", "expected"),
    [
        (10.0, range(12, 14), {"blink": [(1.2, 1.3)]}),
        (10.0, range(12, 18), {"eyes_stay_closed": [(1.2, 1.7)]}),  # 0.5 s is no blink
        (3.0, range(12, 13), {"eyes_closed": [(4.0, 4.0)]}),  # 0.33 s apart: who knows how long
        (3.0, range(12, 14), {"eyes_closed": [(4.0, 4.333)]}),  # 0.33 s could still be two blinks
        (3.0, range(12, 15), {"eyes_stay_closed": [(4.0, 4.667)]}),
        (1.0, range(12, 15), {"eyes_closed": [(12.0, 14.0)]}),  # a second apart: could be three blinks
    ],
)
def test_closing_eyes_are_called_what_the_spacing_can_tell(
    fps: float, closed: range, expected: Mapping[str, list[tuple[float, float]]]
) -> None:
    assert spans(seen(showing(faces.CLOSED_EYES, closed, fps=fps))) == expected


def test_two_blinks_are_two_events() -> None:
    shown = [face(faces.CLOSED_EYES if index in (5, 20) else None) for index in range(40)]
    assert spans(seen(track(shown, 10))) == {"blink": [(0.5, 0.5), (2.0, 2.0)]}


def test_one_frame_is_too_little_for_a_squint() -> None:
    assert seen(showing(faces.SQUINT, range(12, 13))) == []
    assert spans(seen(showing(faces.SQUINT, range(12, 14), fps=3))) == {"squint": [(4.0, 4.333)]}


def test_a_smile_of_one_side() -> None:
    events = seen(showing(faces.ONE_SIDED, range(12, 19)))
    assert spans(events) == {"smile": [(1.2, 1.8)], "smile_one_sided": [(1.2, 1.8)]}
    assert events[1].value == pytest.approx(0.12)  # 16 - 4 pixels
    assert "smile_one_sided" not in spans(seen(showing(faces.SMILE, range(12, 19))))


def test_a_falling_jaw_is_no_smile() -> None:
    # the lower lip falls by 45 pixels and the middle of the lips by 22.5, the corners by 15: 0.075 IOD of smile less
    # a quarter of (0.47 - 0.15)
    falling = {**faces.together(14, 17, move=(0, 45, 0)), **faces.together(61, 291, move=(0, 15, 0))}
    assert spans(seen(showing(falling, range(12, 19)))) == {"mouth_open": [(1.2, 1.8)]}


def test_a_broad_smile_and_an_open_mouth_do_not_press_the_lips() -> None:
    broad = {"p61": (0, -20, 0), "p291": (0, -20, 0), **faces.PRESSED_LIPS}
    assert spans(seen(showing(broad, range(12, 19)))) == {"smile": [(1.2, 1.8)]}
    thin = {**faces.OPEN_MOUTH, "p0": (0, 8, 0), "p17": (0, 10, 0)}
    assert "lips_pressed" not in spans(seen(showing(thin, range(12, 19))))


@pytest.mark.parametrize(("axis", "degrees"), [("yaw", 40.0), ("pitch", 20.0)])
def test_brows_and_mouth_of_a_head_that_is_turned_away_are_unknown(axis: str, degrees: float) -> None:
    moves = {**faces.SMILE, **faces.RAISED_BROWS}
    shown = [turned(face(moves), axis, degrees) if 12 <= index < 19 else face() for index in range(40)]
    assert {event.cue for event in seen(track(shown, 10))} <= {"gaze_away", "gaze_down", "gaze_back"}


def test_place_size_and_tilt_of_the_face_do_not_matter() -> None:
    moves: Moves = {**faces.SMILE, **faces.DRAWN_BROWS, **looking(6, 0)}
    plain = showing(moves, range(12, 19))
    moved = FaceTrack(
        turned(plain.landmarks * 2.7, "roll", 15.0) + np.array([310.0, 220.0, 0.0]), plain.found, plain.seconds, (9, 9)
    )
    for one, other in zip(seen(plain), seen(moved), strict=True):
        assert (one.cue, one.start, one.end, one.unit) == (other.cue, other.start, other.end, other.unit)
        assert (one.value, one.degree) == (pytest.approx(other.value), pytest.approx(other.degree))


def test_frames_that_repeat_a_face_show_nothing_of_their_own() -> None:
    shown = [face(faces.SMILE if 12 <= index < 19 else None) for index in range(40)]
    assert spans(seen(track(shown, 10, missing=(15, 16, 17)))) == {"smile": [(1.2, 1.4), (1.8, 1.8)]}


def test_seconds_count_from_the_clips_beginning() -> None:
    later = showing(faces.SMILE, range(12, 19))
    later = FaceTrack(later.landmarks, later.found, later.seconds + 100.0, later.frame_size)
    assert spans(seen(later, begin=100.0)) == {"smile": [(1.2, 1.8)]}
