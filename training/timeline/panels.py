"""Small multiples of a task over the windows of a recording: a panel for each class or trait, all on one scale.

Places are units of the drawing; a template draws them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.timeline.clock import ticks
from training.timeline.windows import decided_in, open_in, smooth, span_of

__all__ = ["HEIGHT", "WIDTH", "Panel", "panels"]

WIDTH, HEIGHT = 220, 56
"""Units of a panel's curve."""
_MOST_POINTS = 220


@dataclass(frozen=True)
class Panel:
    """One class or trait over time, from 0 to 1.

    Attributes:
        name: of it.
        mean: over the windows.
        windows: points of the windows themselves; empty where there are too many to be told apart.
        curve: points of the smoothed values.
        band: outline of their uncertainty: of a trait the mean of the windows' intervals, else between what the middle
            80 % of the windows around lie; empty of few windows without intervals.
        decided: stretches in which it is decided for: places and widths.
        open: stretches in which it is neither ruled in nor out.
        threshold: place of the probability from which on it is decided for, or None.
        ticks: places of the axis of time and what stands there.
        start: first second of the file.
        end: last.
    """

    name: str
    mean: float
    windows: str
    curve: str
    band: str
    decided: tuple[tuple[float, float], ...]
    open: tuple[tuple[float, float], ...]
    threshold: float | None
    ticks: tuple[tuple[float, str], ...]
    start: float
    end: float


def panels(task: str, spec: Mapping[str, Any], clips: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """Lay out a task's classes or traits over the windows of a recording.

    Args:
        task: its name.
        spec: its `kind`, `classes` and, of several labels, `thresholds`.
        clips: windows of the document of `mmpsr predict`, in time.
    """
    return [_panel(task, spec, name, clips) for name in spec["classes"]]


def _panel(task: str, spec: Mapping[str, Any], name: str, clips: Sequence[Mapping[str, Any]]) -> Panel:
    start, end = clips[0]["start"], max(clip["end"] for clip in clips)
    across = WIDTH / max(end - start, 1e-9)
    middles = np.array([(clip["start"] + clip["end"]) / 2 for clip in clips])
    results = [clip["tasks"][task] for clip in clips]
    values = np.array([result["values"][name] for result in results])
    span = span_of(clips)
    is_long = len(clips) > _MOST_POINTS
    grid = np.linspace(middles[0], middles[-1], _MOST_POINTS) if is_long else middles
    means, lows, highs = smooth(middles, values, grid, span)
    ends = [result["intervals"].get(name) for result in results]
    has_intervals = all(each is not None for each in ends)
    if has_intervals:
        lows, highs = (smooth(middles, np.array([each[side] for each in ends]), grid, span)[0] for side in (0, 1))
    is_regression = spec["kind"] == "regression"
    is_open = None if is_regression else open_in(clips, task, name)
    threshold = (spec.get("thresholds") or {}).get(name)

    def points(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
        places = zip((x - start) * across, HEIGHT * (1 - y), strict=True)
        return " ".join(f"{right:.1f},{down:.1f}" for right, down in places)

    def stretches(marked: NDArray[np.bool_] | None) -> tuple[tuple[float, float], ...]:
        if marked is None:
            return ()
        edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(int))).reshape(-1, 2)
        sides = [(clips[first]["start"], clips[last - 1]["end"]) for first, last in edges]
        return tuple(((left - start) * across, (right - left) * across) for left, right in sides)

    band = has_intervals or span > 0.0
    outline = points(np.concatenate([grid, grid[::-1]]), np.concatenate([highs, lows[::-1]])) if band else ""
    return Panel(
        name, float(values.mean()), "" if is_long or not span else points(middles, values), points(grid, means),
        outline, () if is_regression else stretches(decided_in(clips, task, name)), stretches(is_open),
        None if threshold is None else HEIGHT * (1 - threshold), ticks(start, end, WIDTH, 4), start, end,
    )  # fmt: skip
