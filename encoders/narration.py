"""Measured cues put into words: one short paragraph per clip that a person can check against the video.

The words follow the vocabulary in which annotators describe ambivalence and hesitancy: face, gaze, head and body,
voice, and inconsistency between them. How far a cue goes is kept in graded words (a slight, clear or strong smile),
how long it lasts as well (briefly, at times, often, throughout), so that a text encoder can tell them apart.

Thresholds are of two kinds. Fixed ones are distances from MediaPipe's canonical neutral face (`cues.NEUTRAL`). Own
ones are distances from the clip's own median, which catches a short change in a face that rests elsewhere. The
degree of a cue in a frame is the larger of both, in steps: 1 slight, 2 clear, 3 strong.

Not told: hands at the face (that needs a model of hands), and fillers such as "um" (the transcript has them).

Shape legend: T frames, C cues, N samples.

References:
    González-González et al., BAH dataset for ambivalence/hesitancy recognition in videos, 2025, arXiv:2505.19328.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoders.cues import CUE_NAMES, NEUTRAL

__all__ = ["Voice", "measure_voice", "narrate"]

_GAZE_AWAY = 25.0  # degrees from the camera
_GAZE_TURN = 12.0  # degrees from the clip's own median direction
_EYE_ROTATION = 0.8  # half eye widths that the iris moves per unit sine: eyeball radius 12 mm, half eye width 15 mm
_HEAD_TURN = 4.0  # degrees by which the head must turn back to count as a reversal; landmark noise is about 1
_HEAD_SWAY = 0.12  # inter-ocular distances by which the head's place must return to count as a reversal
_TILT = 8.0  # degrees
_PAUSE_LEVEL = 25.0  # decibels below the clip's loud parts (95th percentile)
_PAUSE_SECONDS = 0.25


@dataclass(frozen=True)
class Voice:
    """Pauses of a clip: quiet stretches of at least 0.25 s between louder ones.

    Attributes:
        num_pauses: how many.
        longest: seconds of the longest, 0 without any.
        share: part of the time between the first and the last loud moment, 0 to 1.
    """

    num_pauses: int
    longest: float
    share: float


def measure_voice(samples: NDArray[np.float32], rate: int) -> Voice:
    """Find pauses: 10 ms windows more than 25 dB below the 95th percentile of the clip's levels.

    Args:
        samples: mono waveform `[N]` of any loudness; the measure is relative.
        rate: samples per second.

    Example:
        >>> tone = np.sin(np.arange(16000) * 0.1)
        >>> measure_voice(np.concatenate([tone, np.zeros(8000), tone]), 16000)
        Voice(num_pauses=1, longest=0.5, share=0.2)
    """
    step = max(rate // 100, 1)
    windows = np.asarray(samples[: len(samples) // step * step], dtype=np.float64).reshape(-1, step)
    if not len(windows):
        return Voice(0, 0.0, 0.0)
    level = 10.0 * np.log10(np.mean(windows**2, axis=1) + 1e-12)
    loud = np.flatnonzero(level > np.quantile(level, 0.95) - _PAUSE_LEVEL)
    if not len(loud):
        return Voice(0, 0.0, 0.0)
    gaps = (np.diff(loud) - 1) / 100.0
    pauses = gaps[gaps >= _PAUSE_SECONDS]
    length = (loud[-1] - loud[0] + 1) / 100.0
    return Voice(len(pauses), round(float(pauses.max(initial=0.0)), 2), round(float(pauses.sum() / length), 3))


def narrate(cues_TC: NDArray[np.float64], seconds_T: NDArray[np.float64], voice: Voice | None = None) -> str:
    """Word a clip's cues.

    Args:
        cues_TC: `encoders.cues.measure_cues`, columns in the order of `CUE_NAMES`.
        seconds_T: when the frames are shown.
        voice: pauses; None where the clip has no usable audio, and then nothing is said of the voice.

    Returns:
        Two to five sentences of English.

    Example:
        >>> still = np.zeros((4, len(CUE_NAMES)))
        >>> for name, value in NEUTRAL.items():
        ...     still[:, CUE_NAMES.index(name)] = value
        >>> narrate(still, np.arange(4.0))
        'The face stays neutral. The gaze stays on the camera. Head and posture stay still.'
    """
    cues = dict(zip(CUE_NAMES, np.asarray(cues_TC, dtype=np.float64).T, strict=True))
    degrees = _face_degrees(cues)
    away = _gaze_away(cues)
    sentences = [
        _sentence(_face(degrees), "The face stays neutral"),
        _sentence(_gaze(cues, away), "The gaze stays on the camera"),
        _sentence(_head(cues, seconds_T), "Head and posture stay still"),
    ]
    if voice is not None:
        sentences.append(_voice(voice))
    mixed = _mixed(cues, degrees, away)
    if mixed:
        sentences.append(f"Mixed signs: {_listed(mixed)}.")
    return " ".join(sentences)


def _degree(values: NDArray[np.float64], neutral: float, step: float, own_step: float | None) -> NDArray[np.float64]:
    """Steps above the neutral value or, where larger, above the clip's own median; below 1 the cue is not there."""
    fixed = (values - neutral) / step
    return fixed if own_step is None else np.maximum(fixed, (values - np.median(values)) / own_step)


def _face_degrees(cues: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Degree of every facial cue in every frame; distances in IOD as in `cues.CUES`."""
    eyes = (cues["eye_open_left"] + cues["eye_open_right"]) / 2
    inner = (cues["brow_inner_left"] + cues["brow_inner_right"]) / 2
    brows = (inner + (cues["brow_outer_left"] + cues["brow_outer_right"]) / 2) / 2
    neutral_brows = (NEUTRAL["brow_inner_left"] + NEUTRAL["brow_outer_left"]) / 2
    corners = cues["mouth_corner_height"]
    smile = _degree(corners, NEUTRAL["mouth_corner_height"], 0.06, 0.05)
    closed = (cues["mouth_open"] < 0.06) & (smile < 2.0)  # a broad smile stretches the lips thin as well
    pressed = _degree(-cues["lip_thickness"], -NEUTRAL["lip_thickness"], 0.13, 0.06)
    return {
        "smile": smile,
        "mouth corners drawn down": _degree(-corners, -NEUTRAL["mouth_corner_height"], 0.04, None),
        "raising of the brows": _degree(brows, neutral_brows, 0.06, 0.035),
        "frown": np.maximum(
            _degree(-cues["brow_distance"], -NEUTRAL["brow_distance"], 0.05, 0.025),
            _degree(-inner, -NEUTRAL["brow_inner_left"], 0.09, 0.04),
        ),
        "pressing of the lips": np.where(closed, pressed, 0.0),
        "opening of the mouth": _degree(cues["mouth_open"], 0.02, 0.12, None),
        "widening of the eyes": _degree(eyes, NEUTRAL["eye_open_left"], 0.12, 0.08),
        "narrowing of the eyes": np.where(
            cues["blink"] > 0, 0.0, _degree(-eyes, -NEUTRAL["eye_open_left"], 0.07, None)
        ),
    }  # fmt: skip


def _grade(degree: float) -> str:
    return "slight" if degree < 2.0 else "clear" if degree < 3.0 else "strong"


def _often(share: float) -> str:
    return "briefly" if share <= 0.15 else "at times" if share <= 0.4 else "often" if share <= 0.75 else "throughout"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _sentence(parts: list[str], otherwise: str) -> str:
    return f"{otherwise}." if not parts else f"The person {_listed(parts)}."


def _face(degrees: Mapping[str, NDArray[np.float64]]) -> list[str]:
    seen = []
    for name, degree in degrees.items():
        present = degree >= 1.0
        if present.any():
            grade = _grade(float(np.quantile(degree[present], 0.75)))
            article = "" if name.startswith("mouth") else "a "
            seen.append(f"{article}{grade} {name} {_often(float(present.mean()))}")
    return [f"shows {_listed(seen)}"] if seen else []


def _gaze_angles(cues: Mapping[str, NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Line of sight in degrees: head angle plus eye rotation, `asin(iris offset / 0.8)`; right and down above 0."""
    eye_x, eye_y = (np.arcsin(np.clip(cues[name] / _EYE_ROTATION, -1.0, 1.0)) for name in ("gaze_x", "gaze_y"))
    return np.degrees(cues["yaw"] + eye_x), np.degrees(cues["pitch"] + eye_y)


def _gaze_away(cues: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
    aside, down = _gaze_angles(cues)
    turned = (np.abs(aside - np.median(aside)) > _GAZE_TURN) | (np.abs(down - np.median(down)) > _GAZE_TURN)
    return np.asarray(turned | (np.abs(aside) > _GAZE_AWAY))


def _gaze(cues: Mapping[str, NDArray[np.float64]], away: NDArray[np.bool_]) -> list[str]:
    parts = []
    aside, down = _gaze_angles(cues)
    if away.any():
        lowered = (down - np.median(down))[away].mean() > _GAZE_TURN
        far = float(np.abs(aside[away]).mean())
        where = "down" if lowered else "slightly away" if far < 20.0 else "away" if far < 35.0 else "far away"
        parts.append(f"looks {where} {_often(float(away.mean()))}")
    closed = cues["blink"] > 0
    blinks = int(closed[0]) + int((np.diff(closed.astype(int)) > 0).sum())
    if blinks:
        share = float(closed.mean())
        count = "once" if blinks == 1 else "twice" if blinks == 2 else "several times"
        parts.append("keeps the eyes closed" if share > 0.75 else f"blinks {'very often' if share > 0.3 else count}")
    return parts


def _reversals(values: NDArray[np.float64], least: float) -> int:
    """How often a series turns back by at least `least` from its last extreme."""
    low = high = extreme = float(values[0])
    direction, count = 0, 0
    for value in map(float, values[1:]):
        low, high = min(low, value), max(high, value)
        if direction == 0:
            if max(value - low, high - value) >= least:
                direction, extreme = (1 if value - low >= least else -1), value
        elif direction * (value - extreme) > 0:
            extreme = value
        elif direction * (extreme - value) >= least:
            direction, extreme, count = -direction, value, count + 1
    return count


@dataclass(frozen=True)
class _Oscillation:
    """Turning to and fro about one axis: how far in degrees, whether the head swings, whether its place does."""

    extent: float
    turns: bool
    moves: bool


def _oscillation(angles: NDArray[np.float64], places: NDArray[np.float64]) -> _Oscillation:
    degrees = np.degrees(angles)
    return _Oscillation(
        extent=float(np.ptp(degrees)),
        turns=_reversals(degrees, _HEAD_TURN) >= 2,
        moves=_reversals(places, _HEAD_SWAY) >= 3,
    )


def _head(cues: Mapping[str, NDArray[np.float64]], seconds: NDArray[np.float64]) -> list[str]:
    parts = []
    for angle, place, swinging, moving, one_way in (
        ("yaw", "shift_x", "shakes the head", "moves the head from side to side", "turns the head aside"),
        ("pitch", "shift_y", "nods", "moves the head up and down", "raises or lowers the head"),
    ):
        seen = _oscillation(cues[angle], cues[place])
        manner = "slightly" if seen.extent < 12.0 else "clearly" if seen.extent < 24.0 else "strongly"
        if seen.turns:
            parts.append(f"{swinging} {manner}")
        elif seen.moves:
            parts.append(moving)
        elif seen.extent >= 15.0:
            parts.append(f"{one_way} {manner}")
    body = _body(cues, seconds, swings=bool(parts))
    tilted = np.abs(np.degrees(cues["roll"])) > _TILT
    if tilted.any():
        parts.append(f"tilts the head {_often(float(tilted.mean()))}")
    return parts + body


def _body(cues: Mapping[str, NDArray[np.float64]], seconds: NDArray[np.float64], swings: bool) -> list[str]:
    """Shifts, restlessness (unless a swinging head explains it) and leaning."""
    parts = []
    if len(seconds) > 1:
        elapsed = np.diff(seconds)
        shifts = int((cues["speed"][1:] * elapsed > 0.5).sum())
        restless = float(np.median(cues["speed"]))
        if shifts:
            parts.append(f"shifts posture {'once' if shifts == 1 else 'several times'}")
        elif restless > 0.3 and not swings:
            parts.append(f"moves {'a little' if restless < 0.8 else 'restlessly'}")
        nearer = float((cues["approach"][1:] * elapsed).sum())
        if abs(nearer) > 0.15:
            parts.append("leans forward" if nearer > 0 else "leans back")
    return parts


def _voice(voice: Voice) -> str:
    if not voice.num_pauses:
        return "The voice flows without pauses."
    count = "once" if voice.num_pauses == 1 else "twice" if voice.num_pauses == 2 else "several times"
    length = "short" if voice.longest < 0.5 else "long" if voice.longest < 1.2 else "very long"
    silent = ", silent for much of the time" if voice.share > 0.3 else ""
    return f"The voice pauses {count}, the longest pause is {length}{silent}."


def _mixed(
    cues: Mapping[str, NDArray[np.float64]], degrees: Mapping[str, NDArray[np.float64]], away: NDArray[np.bool_]
) -> list[str]:
    """Cues that contradict each other: in the same frames, at least a tenth of them, or over the clip for a shake."""
    smile, frown = degrees["smile"] >= 2.0, degrees["frown"] >= 1.0
    shake = _oscillation(cues["yaw"], cues["shift_x"])
    nod = _oscillation(cues["pitch"], cues["shift_y"])
    parts = []
    if (smile & away).mean() >= 0.1:
        parts.append("a smile while the gaze turns away")
    if smile.mean() >= 0.1 and (shake.turns or shake.moves):
        parts.append("a smile with a shake of the head")
    if (smile & frown).mean() >= 0.1:
        parts.append("a smile with a frown")
    if shake.turns and nod.turns:
        parts.append("nodding and shaking of the head")
    if ((degrees["pressing of the lips"] >= 1.0) & (degrees["raising of the brows"] >= 1.0)).mean() >= 0.1:
        parts.append("pressed lips under raised brows")
    return parts
