"""Events of the face and of the eyes, from the landmarks of the frames that show the face.

A cue is there where a measure leaves the canonical neutral face (`cues.NEUTRAL`) or this clip's own median by one
step; steps are in `_RULES`. A face turned far from the camera, or from its usual pitch, changes the projection of
brows and mouth as if they had moved: there they are taken as unknown.

What can be told depends on the seconds between frames. A state (brows, mouth, gaze) can be told at any spacing, but
only for the moments seen. A closing of the eyes lasts 0.1 to 0.4 s: it is a blink only where frames are at most
`BLINK_SPACING` apart, and eyes are said to stay closed only where frames at most `CLOSURE_SPACING` apart show it.

Shape legend: T frames.

References:
    Ekman, Friesen, Hager, Facial Action Coding System, 2002 (which movements there are).
    Bentivoglio et al., Analysis of blink rate patterns in normal subjects, Movement Disorders 12(6), 1997.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoders.cues.events import CueEvent, degrees_above, events_where, runs, spacing
from encoders.face.landmarks import FaceTrack, align, eye_centres
from encoders.face.measures import CUE_NAMES, NEUTRAL, measure_cues

__all__ = [
    "BLINK_SPACING", "CLOSURE_SPACING", "FaceSeries", "eye_events", "face_events", "face_series", "gaze_angles",
]  # fmt: skip

BLINK_SPACING = 0.15
"""Seconds between frames above which blinks go unseen: most blinks last longer, so each shows in a frame or two."""
CLOSURE_SPACING = 0.5
"""Seconds between frames above which two frames with closed eyes may be two blinks."""
_LONG_CLOSURE = 0.5  # seconds; longer than any blink
_LEAST_SEEN = 0.25  # seconds, and so two frames at least: in a single frame lids and lips may be on their way
_FRONTAL = 25.0  # degrees of yaw up to which brows and mouth are read
_SYMMETRIC = 12.0  # degrees of yaw up to which the mouth's two sides are compared
_USUAL_PITCH = 12.0  # degrees from the clip's own median pitch up to which brows and mouth are read
_CLOSED_MOUTH = 0.05  # IOD between the inner lips; the mesh seldom closes them wholly
_SMILING = 0.15  # IOD between the inner lips of a broad smile that shows the teeth
_GAZE_AWAY = 25.0  # degrees from the camera; beyond the screen of a computer at arm's length
_GAZE_TURN = 9.0  # degrees from the clip's own median direction; a still iris wanders by 2 to 3
_EYE_ROTATION = 0.8  # half eye widths that the iris moves per unit sine: eyeball radius 12 mm, half eye width 15 mm


@dataclass(frozen=True)
class FaceSeries:
    """Measures of the frames that show the face.

    Attributes:
        values: `[T]` per measure: those of `cues.CUES`; `corner_rise`, which is `mouth_corner_height` less a quarter of
            how far the mouth opens beyond what a smile parts the lips (a falling jaw takes the middle of the lips
            further down than the corners), IOD; `corner_difference`, height of the subject's left mouth corner over
            the right one, IOD; and `closeness`, natural logarithm of the face's size, from the clip's median.
        seconds: `[T]`, from the clip's beginning.
    """

    values: Mapping[str, NDArray[np.float64]]
    seconds: NDArray[np.float64]

    def own(self, name: str) -> NDArray[np.float64]:
        """Return a measure less its median over the clip."""
        return self.values[name] - np.median(self.values[name])


_CORNERS = {"right": 61, "left": 291}


def face_series(track: FaceTrack, begin: float = 0.0) -> FaceSeries:
    """Measure the frames of a track that show the face; frames that repeat the last face are left out.

    Args:
        track: landmarks in pixels; at least one frame shows a face.
        begin: second of the file at which the clip begins.
    """
    seen = FaceTrack(track.landmarks[track.found], track.found[track.found], track.seconds[track.found], (0, 0))
    values = dict(zip(CUE_NAMES, measure_cues(seen).T, strict=True))
    face = align(seen.landmarks)
    right, left = eye_centres(seen.landmarks)
    size = np.log(np.maximum(np.linalg.norm(left - right, axis=1), 1e-9))
    values["corner_difference"] = face[:, _CORNERS["right"], 1] - face[:, _CORNERS["left"], 1]
    values["corner_rise"] = values["mouth_corner_height"] - np.maximum(values["mouth_open"] - _SMILING, 0) / 4
    values["closeness"] = size - np.median(size)
    return FaceSeries(values, seen.seconds - begin)


@dataclass(frozen=True)
class _Rule:
    """When a cue is there: measures averaged, times `sign`, and what makes one degree.

    `neutral` is the canonical face's unless given.
    """

    measures: tuple[str, ...]
    sign: int
    step: float
    own_step: float | None
    neutral: float | None = None
    closed_mouth: bool = False
    least_seconds: float = 0.0


_CORNERS_AT_REST = NEUTRAL["mouth_corner_height"]
_BROWS = ("brow_inner_left", "brow_inner_right", "brow_outer_left", "brow_outer_right")
_RULES: Mapping[str, _Rule] = {
    "smile": _Rule(("corner_rise",), 1, step=0.06, own_step=0.05, neutral=_CORNERS_AT_REST),
    "corners_down": _Rule(("corner_rise",), -1, step=0.04, own_step=None, neutral=_CORNERS_AT_REST),
    "brows_raised": _Rule(_BROWS, 1, step=0.06, own_step=0.035),
    "brows_drawn": _Rule(("brow_distance",), -1, step=0.05, own_step=0.025),
    "brows_lowered": _Rule(_BROWS[:2], -1, step=0.09, own_step=0.04),
    "lips_pressed": _Rule(("lip_thickness",), -1, step=0.13, own_step=0.06, closed_mouth=True),
    "lips_pursed": _Rule(("mouth_width",), -1, step=0.17, own_step=0.10, closed_mouth=True),
    "mouth_open": _Rule(("mouth_open",), 1, step=0.12, own_step=None, neutral=0.02),
    "eyes_wide": _Rule(("eye_open_left", "eye_open_right"), 1, step=0.12, own_step=0.08),
    "squint": _Rule(
        ("eye_open_left", "eye_open_right"), -1, step=0.07, own_step=0.06, least_seconds=_LEAST_SEEN
    ),
}  # fmt: skip
"""Steps above which a clip's face shows the cue, set on clips whose faces were moved by known amounts, in IOD except
for the eyes (lid distance / width of the eye) and `lip_thickness` (/ mouth width)."""
_UNITS = {"lip_thickness": "mouth widths", "eye_open_left": "eye widths"}
_PARTED = 0.06  # IOD between the inner lips; `mouth_open` begins at 0.14
_ONE_SIDED = 0.08  # IOD between the heights of the mouth corners
_ONE_SIDED_OWN = 0.05  # IOD of the same, from the clip's own median


def face_events(series: FaceSeries) -> list[CueEvent]:
    """Find events of brows, lids and mouth, by cue and then in time."""
    values, seconds = series.values, series.seconds
    yaw = np.abs(np.degrees(values["yaw"]))
    readable = (yaw <= _FRONTAL) & (np.abs(np.degrees(series.own("pitch"))) <= _USUAL_PITCH)
    closed_mouth = values["mouth_open"] < _CLOSED_MOUTH
    events: list[CueEvent] = []
    degrees: dict[str, NDArray[np.float64]] = {}
    for cue, rule in _RULES.items():
        measured = np.mean([values[name] for name in rule.measures], axis=0)
        neutral = float(np.mean([NEUTRAL[name] for name in rule.measures])) if rule.neutral is None else rule.neutral
        degree = degrees_above(rule.sign * measured, rule.sign * neutral, rule.step, rule.own_step)
        there = readable & (closed_mouth if rule.closed_mouth else True)
        if cue == "lips_pressed":
            there &= degrees["smile"] < 2.0  # a broad smile stretches the lips thin as well
        if cue == "squint":
            there &= values["blink"] == 0
        degrees[cue] = np.where(there, degree, 0.0)
        unit = _UNITS.get(rule.measures[0], "IOD")
        events += events_where(cue, degrees[cue], measured, unit, seconds, rule.least_seconds)
    parted = np.where(readable & (degrees["mouth_open"] < 1.0), values["mouth_open"] / _PARTED, 0.0)
    events += events_where("lips_parted", parted, values["mouth_open"], "IOD", seconds)
    difference = np.abs(values["corner_difference"])
    own = np.abs(series.own("corner_difference"))
    uneven = np.minimum(difference / _ONE_SIDED, own / _ONE_SIDED_OWN)
    uneven = np.where(readable & (yaw <= _SYMMETRIC) & (degrees["smile"] >= 1.0), uneven, 0.0)
    return events + events_where("smile_one_sided", uneven, difference, "IOD", seconds, _LEAST_SEEN)


def eye_events(series: FaceSeries) -> list[CueEvent]:
    """Find events of closing eyes and of the gaze: aside, down or up, and back."""
    return [*_closings(series), *_gaze(series)]


def _closings(series: FaceSeries) -> list[CueEvent]:
    """Find blinks, eyes that stay closed, or, where frames are too far apart to tell, eyes that were seen closed."""
    seconds, step = series.seconds, spacing(series.seconds)
    opening = (series.values["eye_open_left"] + series.values["eye_open_right"]) / 2
    events = []
    for first, last in runs(series.values["blink"] > 0, seconds):
        start, end = float(seconds[first]), float(seconds[last])
        if end - start >= _LONG_CLOSURE and step <= CLOSURE_SPACING:
            cue = "eyes_stay_closed"
        else:
            cue = "blink" if step <= BLINK_SPACING and end - start < _LONG_CLOSURE else "eyes_closed"
        value = float(opening[first : last + 1].min())
        events.append(CueEvent(cue, start, end, value, "eye widths", 1.0, step))
    return events


def gaze_angles(series: FaceSeries) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure where the gaze goes: head angle plus eye rotation, `asin(iris offset / 0.8)`.

    Where frames are dense enough to show blinks each angle is the median of three frames: eyes rest for 0.2 s at least,
    and what one frame alone shows is noise.

    Returns:
        Degrees `[T]` to the image's right, and downwards.
    """
    from scipy.ndimage import median_filter

    eye_x, eye_y = (np.arcsin(np.clip(series.values[name] / _EYE_ROTATION, -1.0, 1.0)) for name in ("gaze_x", "gaze_y"))
    aside, down = np.degrees(series.values["yaw"] + eye_x), np.degrees(series.values["pitch"] + eye_y)
    if spacing(series.seconds) <= BLINK_SPACING:
        aside, down = median_filter(aside, 3, mode="nearest"), median_filter(down, 3, mode="nearest")
    return aside, down


def _gaze(series: FaceSeries) -> list[CueEvent]:
    """Find where the gaze goes, as `gaze_angles` measures it; closed eyes look nowhere."""
    aside, down = gaze_angles(series)
    own_aside, own_down = np.abs(aside - np.median(aside)), down - np.median(down)
    open_eyes = series.values["blink"] == 0
    away = np.maximum(own_aside / _GAZE_TURN, np.abs(aside) / _GAZE_AWAY)
    vertical = np.abs(own_down) > own_aside
    degrees = {
        "gaze_away": np.where(open_eyes & (~vertical | (np.abs(own_down) < _GAZE_TURN)), away, 0.0),
        "gaze_down": np.where(open_eyes & vertical, own_down / _GAZE_TURN, 0.0),
        "gaze_up": np.where(open_eyes & vertical, -own_down / _GAZE_TURN, 0.0),
    }
    measured = {"gaze_away": np.maximum(own_aside, np.abs(aside)), "gaze_down": own_down, "gaze_up": -own_down}
    events = []
    for cue, degree in degrees.items():
        events += events_where(cue, degree, measured[cue], "degrees", series.seconds)
    step = spacing(series.seconds)
    for event in tuple(events):
        later = series.seconds[(series.seconds > event.end) & open_eyes]
        if len(later) and not any(each.start <= later[0] <= each.end for each in events):
            events.append(CueEvent("gaze_back", float(later[0]), float(later[0]), event.value, "degrees", 1.0, step))
    return events
