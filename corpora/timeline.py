"""Labels in time: what each frame of a clip's media is labelled with, from lists of frames or from spans in seconds.

A timeline belongs to one clip and one single-label task. It says nothing about the clip's own label, which is never
made from it. T frames of a grid, N labelled frames of the media.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNKNOWN", "Segment", "Timeline"]

UNKNOWN = -1
"""Label of a frame that nothing labels."""
_SLACK = 1e-6
"""Frames by which a time may miss a frame's without being taken for another: seconds are floating-point numbers."""


@dataclass(frozen=True)
class Segment:
    """A span of the clip's media, its end not included.

    Attributes:
        start: seconds of the media.
        end: seconds of the media, after the start.
        label: class of the task, counted from 0, or -1 for unknown.
    """

    start: float
    end: float
    label: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.start < self.end or math.isinf(self.end):
            raise ValueError(
                f"a segment runs from {self.start} s to {self.end} s; it must begin at 0 or later and end after that"
            )
        _require_label(self.label)


@dataclass(frozen=True, eq=False)
class Timeline:
    """Labels of one clip in time, by frames or by segments.

    Attributes:
        frames: label of each decoded frame of the media, counted from its first, `[N]`, int8, -1 unknown; or None.
        segments: spans, in any order; where two of different labels overlap, the label is unknown.
        outside: label of all other frames: those outside the segments, or after the last of `frames`; -1 unknown.
    """

    frames: NDArray[np.int8] | None
    segments: tuple[Segment, ...] = ()
    outside: int = 0

    def __post_init__(self) -> None:
        if self.frames is not None:
            if self.segments:
                raise ValueError("a timeline has labels of frames or segments, not both")
            if self.frames.dtype != np.int8 or self.frames.ndim != 1:
                raise ValueError(f"labels of frames are int8 [N], found {self.frames.dtype} {list(self.frames.shape)}")
            _require_label(int(self.frames.min(initial=0)))
        _require_label(self.outside)

    def labels(
        self, length: int, rate: Fraction, start: float = 0.0, *, media_rate: Fraction | None = None
    ) -> NDArray[np.int8]:
        """Read the labels on a grid of frames.

            t_i = start + i / rate
            y_i = label of the segment with begin <= t_i < end, or of frame floor(t_i media_rate), else `outside`

        Args:
            length: frames of the grid, T.
            rate: frames of the grid per second.
            start: second of the media at which frame 0 of the grid stands.
            media_rate: frames per second of the media, which `frames` count; left out, `rate`. Segments need none.

        Returns:
            Labels `[T]`, -1 where unknown.

        Example:
            >>> spells = Timeline(None, (Segment(0.5, 1.0, 1),))
            >>> spells.labels(6, Fraction(4)).tolist()  # frames at 0, 0.25, 0.5, 0.75, 1 and 1.25 s
            [0, 0, 1, 1, 0, 0]
            >>> Timeline(np.array([0, 0, 1], np.int8), outside=UNKNOWN).labels(4, Fraction(2)).tolist()
            [0, 0, 1, -1]
        """
        if length < 0 or rate <= 0 or not math.isfinite(start):
            raise ValueError(f"no grid has {length} frames at {rate} per second from {start} s")
        labels = np.full(length, self.outside, dtype=np.int8)
        if self.frames is not None:
            factor = (media_rate or rate) / rate
            steps = np.arange(length, dtype=np.int64)
            if factor == 1:
                places = steps + math.floor(start * float(rate) + _SLACK)
            else:
                places = np.floor(steps * float(factor) + start * float(factor * rate) + _SLACK).astype(np.int64)
            known = (places >= 0) & (places < len(self.frames))
            labels[known] = self.frames[places[known]]
            return labels
        covered = np.zeros(length, dtype=bool)
        for segment in self.segments:
            first, end = (
                min(max(math.ceil((time - start) * float(rate) - _SLACK), 0), length)
                for time in (segment.start, segment.end)
            )
            part, before = labels[first:end], covered[first:end]
            part[:] = np.where(before & (part != segment.label), UNKNOWN, segment.label)
            before[:] = True
        return labels

    def highest(self) -> int:
        """Find the highest label that occurs."""
        frames: Sequence[int] = () if self.frames is None else [int(self.frames.max(initial=UNKNOWN))]
        return max([self.outside, *frames, *(segment.label for segment in self.segments)])

    def __eq__(self, other: object) -> bool:
        """Compare by content."""
        if not isinstance(other, Timeline):
            return NotImplemented
        same_frames = (
            self.frames is other.frames
            if self.frames is None or other.frames is None
            else np.array_equal(self.frames, other.frames)
        )
        return same_frames and (self.segments, self.outside) == (other.segments, other.outside)

    __hash__ = None  # type: ignore[assignment]


def _require_label(label: int) -> None:
    if not UNKNOWN <= label <= np.iinfo(np.int8).max:
        raise ValueError(f"{label} is no label; classes are counted from 0, and {UNKNOWN} is unknown")
