"""Events of the head and of the posture, from the landmarks of the frames that show the face.

Nodding and shaking swing one to three times a second, so half a swing lasts 0.15 to 0.5 s. Frames at most
`SWING_SPACING` apart follow all but the fastest of them; further apart, the head is only said to go to and fro.

Shape legend: T frames.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from encoders.cues.events import CueEvent, degrees_above, events_where, runs, spacing
from encoders.cues.face import FaceSeries
from encoders.face.landmarks import FaceTrack

__all__ = ["SWING_SPACING", "half_swings", "head_events", "hidden_events", "posture_events"]

SWING_SPACING = 0.25
"""Seconds between frames above which nods and shakes are not told from slower movements: four frames for a swing of
one a second, two for one of two a second."""
_LONGEST_HALF = 0.45  # seconds from a tenth to nine tenths of half a swing; slower is looking around
_LONGEST_REST = 0.5  # seconds between two half swings of one nod or shake
_LEAST_HALVES = 3  # half swings; two alone are a look down and up again
_SWING = 4.0  # degrees of half a swing; landmark noise is about 1
_SLOW_SWING = 8.0  # degrees of half a swing where frames are far apart: posture drifts as well
_SWAY = 0.12  # IOD by which the head's place goes to and fro
_TURN, _TURN_FAR = 15.0, 30.0  # degrees of yaw from the clip's own median, and from the camera
_PITCH = 12.0  # degrees of pitch from the clip's own median; its zero varies by person
_TILT, _TILT_OWN = 12.0, 8.0  # degrees of roll from upright, and from the clip's own median (cameras lean as well)
_LEAN = 0.10  # logarithm of the head's size from the clip's own median: 10 %, about 6 cm at arm's length
_SHIFT = 0.5  # IOD between two frames, about 3 cm; where frames are far apart it takes _SHIFT_SPEED as well
_SHIFT_SPEED = 0.5  # IOD per second
_RESTLESS = 0.3  # IOD per second, the clip's median

_AXES = {"pitch": ("nod", "head_up_down", "shift_y"), "yaw": ("shake", "head_side_to_side", "shift_x")}


def half_swings(values_T: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Find the first and last index of each movement between turning points that goes at least `least` far.

    Rests at a turning point belong to no movement: it begins with the last sample, and ends with the first, that lies
    within a tenth of its extent from the turning point.

    Example:
        >>> half_swings(np.array([0.0, 0.0, 5.0, 5.0, 0.0]), 4.0)
        [(1, 2), (3, 4)]
    """
    turns = [0]
    low = high = top = 0
    rising: bool | None = None
    for index in range(1, len(values_T)):
        value = values_T[index]
        if rising is None:
            low, high = (index if value < values_T[low] else low), (index if value > values_T[high] else high)
            if max(value - values_T[low], values_T[high] - value) >= least:
                rising = bool(value - values_T[low] >= least)
                turns, top = [low if rising else high], index
        elif (value - values_T[top]) * (1 if rising else -1) > 0:
            top = index
        elif abs(value - values_T[top]) >= least:
            turns.append(top)
            rising, top = not rising, index
    halves = []
    for first, last in pairwise([*turns, top] if rising is not None else []):
        margin = 0.1 * abs(values_T[last] - values_T[first])
        part = values_T[first : last + 1]
        leaves = first + int(np.flatnonzero(np.abs(part - values_T[first]) <= margin)[-1])
        arrives = first + int(np.flatnonzero(np.abs(part - values_T[last]) <= margin)[0])
        halves.append((leaves, arrives))
    return halves


def head_events(series: FaceSeries) -> list[CueEvent]:
    """Find nods and shakes (or, unresolved, movements to and fro), turns, raising and lowering, and tilts."""
    events: list[CueEvent] = []
    for angle, (quick, slow, place) in _AXES.items():
        degrees = np.degrees(series.values[angle])
        if spacing(series.seconds) <= SWING_SPACING:
            events += _swings(quick, degrees, series.seconds, _SWING, "degrees")
            if not any(event.cue == quick for event in events):
                events += _swings(slow, series.values[place], series.seconds, _SWAY, "IOD")
        else:
            events += _swings(slow, degrees, series.seconds, _SLOW_SWING, "degrees", np.inf)
    swinging = np.zeros(len(series.seconds), dtype=bool)
    for event in events:
        swinging |= (series.seconds >= event.start) & (series.seconds <= event.end)
    yaw, pitch = np.degrees(series.values["yaw"]), np.degrees(series.own("pitch"))
    turned = np.maximum(np.abs(np.degrees(series.own("yaw"))) / _TURN, np.abs(yaw) / _TURN_FAR)
    roll = np.degrees(series.values["roll"])
    tilted = np.maximum(np.abs(roll) / _TILT, np.abs(np.degrees(series.own("roll"))) / _TILT_OWN)
    for cue, degree, value in (
        ("head_turned", np.where(swinging, 0.0, turned), np.abs(yaw)),
        ("head_lowered", np.where(swinging, 0.0, pitch / _PITCH), pitch),
        ("head_raised", np.where(swinging, 0.0, -pitch / _PITCH), -pitch),
        ("head_tilted", tilted, np.abs(roll)),
    ):
        events += events_where(cue, degree, value, "degrees", series.seconds)
    return events


def _swings(
    cue: str,
    values_T: NDArray[np.float64],
    seconds_T: NDArray[np.float64],
    least: float,
    unit: str,
    longest: float = _LONGEST_HALF,
) -> list[CueEvent]:
    """Find an event for every chain of quick half swings, as far as they go on average."""
    chains: list[list[tuple[int, int]]] = [[]]
    for half in half_swings(values_T, least):
        if seconds_T[half[1]] - seconds_T[half[0]] > longest:
            chains.append([])
            continue
        rests = bool(chains[-1]) and seconds_T[half[0]] - seconds_T[chains[-1][-1][1]] > min(longest, _LONGEST_REST)
        if rests and longest < np.inf:
            chains.append([])
        chains[-1].append(half)
    events = []
    for chain in chains:
        if len(chain) >= _LEAST_HALVES:
            extent = float(np.mean([abs(values_T[last] - values_T[first]) for first, last in chain]))
            start, end = float(seconds_T[chain[0][0]]), float(seconds_T[chain[-1][1]])
            events.append(CueEvent(cue, start, end, extent, unit, extent / least, spacing(seconds_T)))
    return events


def posture_events(series: FaceSeries, swings: bool) -> list[CueEvent]:
    """Find leaning, shifts of place, and restlessness.

    Args:
        series: measures of the face.
        swings: whether the head nods or shakes, which explains movement.
    """
    seconds, step = series.seconds, spacing(series.seconds)
    closeness = series.values["closeness"]
    events = events_where("lean_forward", degrees_above(closeness, 0.0, _LEAN, _LEAN), closeness, "log size", seconds)
    events += events_where("lean_back", degrees_above(-closeness, 0.0, _LEAN, _LEAN), closeness, "log size", seconds)
    if len(seconds) < 2:
        return events
    moved = series.values["speed"][1:] * np.diff(seconds)
    jumps = (moved > _SHIFT) & (series.values["speed"][1:] > _SHIFT_SPEED)
    for first, last in runs(jumps, seconds[1:]):
        distance, start, end = float(moved[first : last + 1].sum()), float(seconds[first]), float(seconds[last + 1])
        events.append(CueEvent("posture_shift", start, end, distance, "IOD", distance / _SHIFT, step))
    speed = float(np.median(series.values["speed"][1:]))
    if speed > _RESTLESS and not swings and not jumps.any():
        start, end = float(seconds[0]), float(seconds[-1])
        events.append(CueEvent("restless", start, end, speed, "IOD per second", speed / _RESTLESS, step))
    return events


def hidden_events(track: FaceTrack, begin: float = 0.0) -> list[CueEvent]:
    """Find stretches of frames in which no face was found after it had been there.

    Args:
        track: landmarks in pixels.
        begin: second of the file at which the clip begins.
    """
    hidden = (~track.found).astype(np.float64)
    return events_where("face_hidden", hidden, hidden, "share of the face", track.seconds - begin)
