"""A strip chart of what is measured of a recording: a strip for each of face, gaze, head, loudness and pitch.

Places are units of the drawing; a template draws them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from encoders.cues.columns import COLUMNS, EVENT
from training.timeline.clock import clock, ticks

__all__ = ["HEIGHT", "Mark", "Strip", "StripChart", "short", "strip_chart"]

HEIGHT = 26
"""Units that a curve is high."""
_NAME, _BARS = 22, 10  # units of a name with what is left between strips; units of events without a curve
_BIN = 1.5  # units of a curve that are one point
_DEGREES = 180 / np.pi


@dataclass(frozen=True)
class _Kind:
    """What a strip shows: the mean of columns, times a factor, on an axis of at least some range; and events."""

    name: str
    columns: tuple[str, ...]
    unit: str
    least: float
    events: tuple[str, ...] = ()
    factor: float = 1.0


_KINDS = (
    _Kind("mouth corners", ("corner_rise",), "IOD", 0.1, ("smile", "corners_down")),
    _Kind("mouth open", ("mouth_open",), "IOD", 0.2, ("lips_pressed", "lips_pursed")),
    _Kind("brows", ("brow_inner_left", "brow_inner_right"), "IOD", 0.1,
          ("brows_raised", "brows_drawn", "brows_lowered")),
    _Kind("eyes open", ("eye_open_left", "eye_open_right"), "eye widths", 0.2, ("blink", "eyes_closed", "squint")),
    _Kind("gaze aside", ("gaze_aside",), "degrees", 20.0, ("gaze_away",)),
    _Kind("gaze down", ("gaze_down",), "degrees", 20.0, ("gaze_down", "gaze_up")),
    _Kind("head aside", ("head_yaw",), "degrees", 20.0, ("shake", "head_turned"), _DEGREES),
    _Kind("head down", ("head_pitch",), "degrees", 20.0, ("nod", "head_lowered", "head_raised"), _DEGREES),
    _Kind("hands", (), "", 1.0, ("hand_at_face",)),
    _Kind("loudness", ("loudness",), "dB", 20.0, ("pause",)),
    _Kind("pitch", ("pitch",), "Hz", 50.0, ("filled_pause", "filler")),
)  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """A stretch in which an event lasts.

    Attributes:
        x: where it begins.
        width: of it.
        title: event and clock times.
        start: in seconds.
        kind: number of the event among those of its strip.
    """

    x: float
    width: float
    title: str
    start: float
    kind: int


@dataclass(frozen=True)
class Strip:
    """One measure over time.

    Attributes:
        name: of it.
        unit: of it.
        low: lower end of its axis.
        high: upper end.
        lines: points of each piece without a gap.
        bands: outlines of what lies between the lowest and the highest value of each point, where points are several.
        marks: of its events.
        events: those that occur, as the behaviour description words them, by their number.
        is_measured: whether there is anything to draw.
    """

    name: str
    unit: str
    low: float
    high: float
    lines: tuple[str, ...]
    bands: tuple[str, ...]
    marks: tuple[Mark, ...]
    events: Mapping[int, str] = field(default_factory=dict)
    is_measured: bool = True

    @property
    def depth(self) -> int:
        """Units that its curve is high, or its events where it has none."""
        return HEIGHT if self.lines else _BARS

    @property
    def height(self) -> int:
        """Units that it takes, with its name above."""
        return _NAME + self.depth


@dataclass(frozen=True)
class StripChart:
    """Strips above one axis of time.

    Attributes:
        strips: from top to bottom; those of which nothing was measured are named in `missing`.
        missing: names.
        width: units from the first to the last second.
        start: first second of the file.
        end: last.
        ticks: places of the axis and what stands there.
    """

    strips: tuple[Strip, ...]
    missing: tuple[str, ...]
    width: int
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...]


def strip_chart(table: pd.DataFrame, width: int = 600) -> StripChart | None:
    """Lay out what is measured of a recording.

    Args:
        table: its rows, of `mmpsr measure`, in the order of time.
        width: units of the drawing.

    Returns:
        The chart, or None where nothing was measured.
    """
    if table.empty or table["failure"].notna().any():
        return None
    seconds = table["time"].to_numpy(np.float64)
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0
    start, end = float(seconds[0]), float(seconds[-1] + step)
    across = width / (end - start)
    strips = [_strip(kind, table, (seconds - start) * across, seconds, step, across) for kind in _KINDS]
    missing = tuple(strip.name for strip in strips if not strip.is_measured)
    return StripChart(
        tuple(strip for strip in strips if strip.is_measured), missing, width, start, end, ticks(start, end, width)
    )


def _strip(
    kind: _Kind, table: pd.DataFrame, x: NDArray[np.float64], seconds: NDArray[np.float64], step: float, across: float
) -> Strip:
    marks, names, is_known = list[Mark](), dict[int, str](), False
    for number, event in enumerate(kind.events):
        lasts = table[f"{EVENT}{event}"].to_numpy(np.float64)
        is_known = is_known or bool(np.isfinite(lasts).any())
        wording = COLUMNS[f"{EVENT}{event}"].meaning
        stretches = _stretches(lasts > 0)
        for first, last in stretches:
            begins, ends = seconds[first], seconds[last] + step
            title = f"{wording}, {clock(begins)} to {clock(ends)}"
            marks.append(Mark(float(x[first]), float((ends - begins) * across), title, float(begins), number))
        if stretches:
            names[number] = wording
    if not kind.columns:
        return Strip(kind.name, "", 0.0, 0.0, (), (), tuple(marks), names, is_known)
    values = kind.factor * table[list(kind.columns)].to_numpy(np.float64).mean(axis=1)
    known = values[np.isfinite(values)]
    if not len(known):
        return Strip(kind.name, kind.unit, 0.0, 0.0, (), (), tuple(marks), names, False)
    low, high = float(known.min()), float(known.max())
    spare = max(kind.least - (high - low), 0.0) / 2
    low, high = low - spare, high + spare
    places, means, lowest, highest = _binned(x, values, across * step)

    def at(value: NDArray[np.float64]) -> NDArray[np.float64]:
        return HEIGHT * (high - value) / (high - low)

    lines, bands = [], []
    for first, last in _stretches(np.isfinite(means)):
        piece = slice(first, last + 1)
        lines.append(_points(places[piece], at(means[piece])))
        if np.any(highest[piece] > lowest[piece]):
            there = np.concatenate([places[piece], places[piece][::-1]])
            bands.append(_points(there, np.concatenate([at(highest[piece]), at(lowest[piece])[::-1]])))
    return Strip(kind.name, kind.unit, low, high, tuple(lines), tuple(bands), tuple(marks), names)


def _points(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    if len(x) == 1:  # a line of no length is not drawn
        x, y = np.array([x[0] - _BIN / 2, x[0] + _BIN / 2]), np.repeat(y, 2)
    return " ".join(f"{across:.1f},{down:.1f}" for across, down in zip(x, y, strict=True))


def _stretches(has: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Find runs of true rows: the first and the last of each."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], has, [False]]).astype(int)))
    return [(int(first), int(last) - 1) for first, last in edges.reshape(-1, 2)]


def _binned(
    x: NDArray[np.float64], values: NDArray[np.float64], step: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sum up values that are drawn at one place: places, means, lowest and highest; no number where none is known."""
    size = max(1, round(_BIN / step))
    columns: list[Sequence[float]] = []
    for first in range(0, len(x), size):
        piece = values[first : first + size]
        known = piece[np.isfinite(piece)]
        place = float(x[first] + len(piece) * step / 2)
        columns.append((place, known.mean(), known.min(), known.max()) if len(known) else (place, *[np.nan] * 3))
    places, means, lowest, highest = np.array(columns, dtype=np.float64).T
    return places, means, lowest, highest


def short(value: float) -> str:
    """Write a number of an axis.

    Example:
        >>> short(0.1234), short(-3.21), short(-25.4)
        ('0.12', '−3.2', '−25')
    """
    digits = 0 if abs(value) >= 10 else 1 if abs(value) >= 1 else 2
    return f"{value:.{digits}f}".replace("-", "−")
