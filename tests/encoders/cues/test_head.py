from __future__ import annotations

import numpy as np
import pytest

from encoders.cues.events import CueEvent
from encoders.cues.face import face_series
from encoders.cues.head import half_swings, head_events, hidden_events, posture_events
from encoders.face.landmarks import FaceTrack
from tests.support.schematic_faces import face, swinging, track


def seen(shown: FaceTrack, swings: bool = False) -> list[CueEvent]:
    series = face_series(shown)
    return [*head_events(series), *posture_events(series, swings)]


def spans(events: list[CueEvent]) -> list[tuple[str, float, float]]:
    return [(event.cue, round(event.start, 3), round(event.end, 3)) for event in events]


def resting(before: int, *angles: float, after: int = 10) -> list[float]:
    return [0.0] * before + list(angles) + [0.0] * after


QUICK = resting(10, 4, 8, 4, 0, 4, 8, 4)  # leaves 0.9 s, turns at 1.1, 1.3 and 1.5 s, arrives at 1.7 s
SLOW = [round(10 * np.sin(index / 40 * 2 * np.pi * 2), 6) for index in range(41)]  # two periods in 4 s


def test_a_head_at_rest_and_a_head_that_wanders_show_nothing() -> None:
    assert seen(track([face()] * 30, 10)) == []
    rng = np.random.default_rng(0)
    assert seen(swinging("pitch", list(rng.normal(0, 0.8, 40)))) == []


@pytest.mark.parametrize(("axis", "cue"), [("pitch", "nod"), ("yaw", "shake")])
def test_a_quick_swing_is_a_nod_or_a_shake(axis: str, cue: str) -> None:
    events = seen(swinging(axis, QUICK))
    assert spans(events) == [(cue, 0.9, 1.7)]
    assert events[0].value == pytest.approx(8.0, abs=0.01)
    assert events[0].degree == pytest.approx(2.0, abs=0.01)  # half swings of 8 degrees, one degree is 4


def test_one_look_down_and_up_is_no_nod() -> None:
    assert spans(seen(swinging("pitch", resting(10, 4, 8, 4)))) == []


def test_slow_movements_are_neither_nods_nor_shakes() -> None:
    # half of two seconds is 1 s, of which 2 asin(0.8) / pi = 0.59 between the tenths, more than 0.45
    assert seen(swinging("yaw", SLOW)) == []


@pytest.mark.parametrize(("axis", "cue"), [("pitch", "head_up_down"), ("yaw", "head_side_to_side")])
def test_too_few_frames_tell_to_and_fro_but_no_nod(axis: str, cue: str) -> None:
    events = seen(swinging(axis, resting(4, 10, 0, 10, 0), fps=2.0))
    assert spans(events) == [(cue, 1.5, 3.5)]
    assert seen(swinging(axis, resting(4, 6, 0, 6, 0), fps=2.0)) == []  # 6 of 8 degrees


def test_a_head_that_moves_without_turning_is_not_said_to_nod() -> None:
    places = resting(10, *[0.0, 20.0] * 4)
    events = seen(track([face() + np.array([0.0, place, 0.0]) for place in places], 10))
    assert [event.cue for event in events] == ["head_up_down"]
    assert events[0].value == pytest.approx(0.2)  # 20 of 100 pixels


@pytest.mark.parametrize(
    ("axis", "degrees", "cue"),
    [("yaw", 20.0, "head_turned"), ("yaw", -20.0, "head_turned"), ("pitch", 15.0, "head_lowered"),
     ("pitch", -15.0, "head_raised"), ("roll", 15.0, "head_tilted"), ("roll", -15.0, "head_tilted")],
)  # fmt: skip
def test_turning_and_tilting_and_for_how_long(axis: str, degrees: float, cue: str) -> None:
    (event,) = seen(swinging(axis, resting(12, *[degrees] * 7, after=20)))
    assert (event.cue, event.start, event.end) == (cue, pytest.approx(1.2), pytest.approx(1.8))
    assert event.value == pytest.approx(abs(degrees))


def test_a_tilted_camera_tilts_the_median_and_little_else() -> None:
    assert spans(seen(swinging("roll", [8.0] * 30))) == []
    assert spans(seen(swinging("roll", [13.0] * 30))) == [("head_tilted", 0.0, 2.9)]


def test_leaning_is_growth_against_the_clips_own_median() -> None:
    scales = [1.0] * 10 + [1.05, 1.1, 1.15, 1.2, 1.2, 1.2, 1.2] + [1.2] * 3 + [1.15, 1.1, 1.05] + [1.0] * 20
    (event,) = seen(track([face() * scale for scale in scales], 10))
    # ln 1.1 = 0.095 is 0.95 degrees, which goes on what 1.15 began (0.140); 1.05 is 0.49 and ends it
    assert (event.cue, event.start, event.end) == ("lean_forward", pytest.approx(1.1), pytest.approx(2.1))
    assert event.value == pytest.approx(np.log(1.2))
    back = seen(track([face() / scale for scale in scales], 10))
    assert spans(back) == [("lean_back", 1.1, 2.1)]


def test_a_shift_of_posture_by_hand() -> None:
    places = [0.0] * 10 + [60.0] + [120.0] * 10  # 0.6 IOD in 0.1 s, twice
    (event,) = seen(track([face() + np.array([place, 0.0, 0.0]) for place in places], 10))
    assert (event.cue, event.start, event.end) == ("posture_shift", pytest.approx(0.9), pytest.approx(1.1))
    assert event.value == pytest.approx(1.2)


def test_restlessness_is_told_unless_the_head_swings() -> None:
    places = np.cumsum([4.0] * 5 + [-4.0] * 5 + [4.0] * 5 + [-4.0] * 5)  # 0.04 IOD per 0.1 s
    shown = track([face() + np.array([place, 0.0, 0.0]) for place in places], 10)
    (event,) = [event for event in seen(shown) if event.cue == "restless"]
    assert event.value == pytest.approx(0.4)
    assert (event.start, event.end) == (0.0, pytest.approx(1.9))
    assert all(event.cue != "restless" for event in seen(shown, swings=True))


def test_a_face_that_goes_out_of_sight() -> None:
    events = hidden_events(track([face()] * 20, 10, missing=(5, 6, 7)), begin=0.0)
    assert spans(events) == [("face_hidden", 0.5, 0.7)]


def test_half_swings_leave_rests_out() -> None:
    assert half_swings(np.array([0.0, 0.0, 5.0, 5.0, 0.0, 0.0]), 4.0) == [(1, 2), (3, 4)]
    assert half_swings(np.array([5.0, 1.0, 4.0, 0.0]), 2.0) == [(0, 1), (1, 2), (2, 3)]
    assert half_swings(np.array([0.0, 1.0, 0.0, 1.0]), 2.0) == []
    assert half_swings(np.zeros(1), 2.0) == []


def test_one_frame_tells_no_movement() -> None:
    assert seen(track([face()], 10)) == []
