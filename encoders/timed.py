"""Sequences of embeddings in time: a row for every frame of a clip, on one grid for all its modalities.

Frame i of a clip stands for the second `start + i / rate` of its media. Rate and number of frames are those of the
decoded pictures, so that a label of frame i, the face in it, the sound at its moment and the word then spoken have one
index. Nothing is shortened; what is missing at a frame is told by its state.

Shapes: n clips, T frames of one clip, E elements of an encoder, D width.
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LEAST_STD",
    "MEASURED",
    "NONE",
    "REPEATED",
    "Grid",
    "Timed",
    "TimedSequences",
    "hold_last",
    "nearest_elements",
    "spread",
    "timed_statistics",
    "within_frames",
    "word_at",
]

MEASURED, REPEATED, NONE = 2, 1, 0
"""States of a frame: its own values; the last ones before it, since it has none; nothing at all, and zeros."""
LEAST_STD = 1e-6
"""Floor of a standard deviation that values are divided by."""
AnyT = TypeVar("AnyT", bound=np.generic)
_MOST_MAPS = 64  # files that are mapped at a time
_MOST_MOVES = 20
_BLOCK = 4096  # frames read at a time for statistics


@dataclass(frozen=True)
class Grid:
    """The frames of a clip, for all its modalities.

    Attributes:
        length: T, at least 1.
        rate: frames per second.
        start: second of frame 0, of the clip's media.
        lead: seconds from the clip's own beginning to frame 0; sound and words count from that beginning.
        pictures: int64 `[T]`, which of the pictures that were looked at stands at each frame, from 0 on and none left
            out; None where each frame has its own.
    """

    length: int
    rate: Fraction
    start: float = 0.0
    lead: float = 0.0
    pictures: NDArray[np.int64] | None = field(default=None, compare=False)

    def of_pictures(self, each: NDArray[AnyT]) -> NDArray[AnyT]:
        """Take for each frame what belongs to its picture.

        Args:
            each: something for every picture that was looked at, `[P, ...]`.

        Returns:
            `[T, ...]`.
        """
        return each if self.pictures is None else each[self.pictures]

    @property
    def picture_seconds(self) -> NDArray[np.float64]:
        """Seconds from the clip's own beginning at which each picture is first shown: `[P]`."""
        seconds = self.seconds
        return seconds if self.pictures is None else seconds[np.unique(self.pictures, return_index=True)[1]]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Seconds from the clip's own beginning to each frame: `[T]`.

        Example:
            >>> Grid(3, Fraction(24), start=10.0, lead=0.5).seconds.round(4).tolist()
            [0.5, 0.5417, 0.5833]
        """
        return self.lead + np.array([float(Fraction(index) / self.rate) for index in range(self.length)])

    def hundredths(self) -> NDArray[np.int64]:
        """Hundredths of a second from the clip's beginning to each frame, halves to the even one: `[T]`.

        Example:
            >>> Grid(7, Fraction(24)).hundredths().tolist()
            [0, 4, 8, 12, 17, 21, 25]
        """
        lead = Fraction(self.lead).limit_denominator(1_000_000)
        return np.array([round(100 * (lead + index / self.rate)) for index in range(self.length)], dtype=np.int64)


@dataclass(frozen=True)
class Timed:
    """One modality of a clip in time.

    Attributes:
        values: float16 `[T, D]`, finite; zeros where the state is `NONE`.
        rate: frames per second.
        start: second of frame 0, of the clip's media.
        state: int8 `[T]`: `MEASURED`, `REPEATED` or `NONE`.
    """

    values: NDArray[np.float16]
    rate: Fraction
    start: float
    state: NDArray[np.int8]

    @classmethod
    def on(cls, grid: Grid, values: NDArray[np.floating], state: NDArray[np.int8]) -> Timed:
        """Make it from values on a grid, with zeros where there is nothing.

        Args:
            grid: of the clip.
            values: `[T, D]`.
            state: `[T]`.

        Raises:
            ValueError: values or states are not as many as the frames.
            OverflowError: a value is larger than float16 can hold.
        """
        if len(values) != grid.length or state.shape != (grid.length,):
            raise ValueError(f"{len(values)} rows and {len(state)} states for {grid.length} frames")
        kept = np.where((state != NONE)[:, None], values, 0)
        largest = float(np.abs(kept).max(initial=0.0))
        if largest > float(np.finfo(np.float16).max):
            raise OverflowError(f"the values in time reach {largest:.6g}, and float16 ends at 65504")
        return cls(kept.astype(np.float16), grid.rate, grid.start, state.astype(np.int8))

    @classmethod
    def nothing(cls, grid: Grid, width: int) -> Timed:
        """Make one without anything: zeros, and `NONE` throughout."""
        shape = (grid.length, width)
        return cls(np.zeros(shape, np.float16), grid.rate, grid.start, np.zeros(grid.length, np.int8))


def hold_last(found: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Repeat what was found last where nothing is found.

    Args:
        found: `[T]`.

    Returns:
        For each frame the frame whose values stand for it (0 where there is none yet), and its state.

    Example:
        >>> rows, state = hold_last(np.array([False, True, False, True]))
        >>> rows.tolist(), state.tolist()
        ([0, 1, 1, 3], [0, 2, 1, 2])
    """
    rows = np.maximum.accumulate(np.where(found, np.arange(len(found)), -1))
    state = np.where(found, MEASURED, np.where(rows >= 0, REPEATED, NONE)).astype(np.int8)
    return np.maximum(rows, 0), state


def nearest_elements(
    begins: NDArray[np.floating], grid: Grid, span: float
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Find the element whose span holds each frame's moment, else the nearest.

    Args:
        begins: `[E]`, seconds from the clip's beginning at which elements begin, rising; E is at least 1.
        grid: of the clip.
        span: seconds that an element lasts.

    Returns:
        For each frame an element, and its state: `REPEATED` more than a span after the last one's end.

    Example:
        >>> rows, state = nearest_elements(np.array([0.0, 0.1, 0.2]), Grid(6, Fraction(10)), 0.1)
        >>> rows.tolist(), state.tolist()
        ([0, 1, 2, 2, 2, 2], [2, 2, 2, 1, 1, 1])
    """
    moments = grid.seconds + 1e-6
    rows = np.maximum(np.searchsorted(begins, moments, side="right") - 1, 0)
    state = np.where(moments < begins[-1] + span, MEASURED, REPEATED).astype(np.int8)
    return rows, state


def within_frames(
    elements: NDArray[np.floating], hop: float, grid: Grid
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Average the elements that begin within each frame, `[t_i, t_i + 1 / rate)`; the nearest where none does.

    So nothing between two frames is passed over: of elements every 10 ms a frame at 24 per second has four or five.

    Args:
        elements: `[E, D]`, one every `hop` seconds from the clip's beginning on; E is at least 1.
        hop: seconds between elements.
        grid: of the clip.

    Returns:
        Values `[T, D]`, and states: `REPEATED` (the last element) where elements have ended before the frame.

    Example:
        >>> values, state = within_frames(np.array([[0.0], [2.0], [4.0], [6.0]]), 0.05, Grid(3, Fraction(10)))
        >>> values.tolist(), state.tolist()
        ([[1.0], [5.0], [6.0]], [2, 2, 1])
    """
    num = len(elements)
    edges = np.append(grid.seconds, grid.seconds[-1] + float(1 / grid.rate))
    cuts = np.ceil(edges / hop - 1e-6).astype(np.int64)
    first = np.minimum(cuts[:-1], num)
    last = np.minimum(cuts[1:], num)
    sums = np.zeros((num + 1, elements.shape[1]))
    np.cumsum(elements, axis=0, dtype=np.float64, out=sums[1:])
    counts = last - first
    means = (sums[last] - sums[first]) / np.maximum(counts, 1)[:, None]
    near = np.clip(np.round(edges[:-1] / hop).astype(np.int64), 0, num - 1)
    values = np.where((counts > 0)[:, None], means, elements[near])
    state = np.where((counts > 0) | (cuts[:-1] < num), MEASURED, REPEATED).astype(np.int8)
    return values, state


def word_at(spans: Sequence[tuple[float, float]], grid: Grid) -> NDArray[np.int64]:
    """Find the word spoken at each frame, `start <= t_i < end`; of several the first listed, and -1 where none is.

    Args:
        spans: seconds from the clip's beginning at which words start and end.
        grid: of the clip.

    Example:
        >>> word_at([(0.0, 0.25), (0.2, 0.3), (0.4, 0.5)], Grid(5, Fraction(10))).tolist()
        [0, 0, 0, -1, 2]
    """
    moments = grid.seconds + 1e-6
    words = np.full(grid.length, -1, dtype=np.int64)
    for index in range(len(spans) - 1, -1, -1):
        begin, end = np.searchsorted(moments, spans[index])
        words[begin:end] = index
    return words


def spread(num_elements: int, num_frames: int) -> NDArray[np.int64]:
    """Spread elements evenly over frames, in blocks of which the first ones are a frame longer.

    Each of E elements has `T // E` frames, and the first `T mod E` one more; of more elements than frames the first T
    have a frame each, and the rest have none.

    Example:
        >>> spread(3, 8).tolist(), spread(4, 2).tolist()
        ([0, 0, 0, 1, 1, 1, 2, 2], [0, 1])
    """
    kept = min(num_elements, num_frames)
    lengths = np.full(kept, num_frames // kept)
    lengths[: num_frames % kept] += 1
    return np.repeat(np.arange(kept), lengths)


class TimedSequences:
    """One modality of n clips in time, on files that are mapped into memory when they are first read.

    What is read is copied and its pages are given back, so memory holds what was asked for. Pickled, it is a list of
    places: processes that load batches map the files for themselves.

    Args:
        width: D.
        paths: files of rows, arrays `[rows, D]` in float16.
        parts: int64 `[n]`, position of each clip's file in `paths`; -1 where the clip has nothing.
        offsets: int64 `[n]`, row of the clip's frame 0 in that file.
        lengths: int64 `[n]`, frames; 0 where the clip has nothing.
        rates: frames per second of each clip, None where it has nothing.
        starts: float64 `[n]`, second of frame 0 of each clip's media.
        states: states of each clip's frames as bytes, empty where it has nothing.
        find_moved: finds rows that compaction put elsewhere, by the file that is gone: the file that they lie in, and
            the row at which they begin there; None where they are not to be found.
    """

    def __init__(
        self,
        width: int,
        paths: Sequence[Path],
        parts: NDArray[np.int64],
        offsets: NDArray[np.int64],
        lengths: NDArray[np.int64],
        rates: Sequence[Fraction | None],
        starts: NDArray[np.float64],
        states: Sequence[bytes],
        find_moved: Callable[[Path], tuple[Path, int] | None] | None = None,
    ) -> None:
        self.width, self.lengths, self.rates, self.starts = width, lengths, tuple(rates), starts
        self.present: NDArray[np.bool_] = lengths > 0
        self._paths, self._parts, self._offsets, self._states = list(paths), parts, offsets, tuple(states)
        self._find_moved = find_moved
        self._begins = [0] * len(self._paths)
        self._maps: OrderedDict[int, NDArray[np.float16]] = OrderedDict()

    @classmethod
    def joined(
        cls, num_clips: int, width: int, sets: Iterable[tuple[NDArray[np.int64], TimedSequences]]
    ) -> TimedSequences:
        """Join sets of clips, such as corpora.

        Args:
            num_clips: of all sets.
            width: D.
            sets: positions of a set's clips among all, and the set.
        """
        parts, offsets, lengths = np.full((3, num_clips), -1, dtype=np.int64)
        starts, rates, states = np.zeros(num_clips), np.full(num_clips, None), np.full(num_clips, b"", dtype=object)
        paths: list[Path] = []
        begins: list[int] = []
        find_moved = None
        lengths[:] = 0
        for rows, own in sets:
            parts[rows] = np.where(own._parts < 0, -1, own._parts + len(paths))
            offsets[rows], lengths[rows], starts[rows] = own._offsets, own.lengths, own.starts
            for row, rate, state in zip(rows, own.rates, own._states, strict=True):
                rates[row], states[row] = rate, state
            paths += own._paths
            begins += own._begins
            find_moved = own._find_moved or find_moved
        joined = cls(width, paths, parts, offsets, lengths, rates.tolist(), starts, states.tolist(), find_moved)
        joined._begins = begins
        return joined

    def __len__(self) -> int:
        return len(self.lengths)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_maps": OrderedDict()}

    def frames(self, clip: int, begin: int = 0, end: int | None = None) -> NDArray[np.float16]:
        """Read frames of a clip: float16 `[end - begin, D]`, only these.

        Args:
            clip: position of the clip.
            begin: first frame.
            end: frame after the last; None is the clip's end.

        Raises:
            IndexError: the clip has no such frames.
        """
        length = int(self.lengths[clip])
        end = length if end is None else end
        if not 0 <= begin <= end <= length:
            raise IndexError(f"frames {begin} to {end} of clip {clip}, which has {length}")
        if begin == end:
            return np.zeros((0, self.width), dtype=np.float16)
        part = int(self._parts[clip])
        rows = self._mapped(part)  # first: it may find that they begin elsewhere
        offset = int(self._offsets[clip]) + self._begins[part]
        kept = np.array(rows[offset + begin : offset + end])
        pages: Any = rows.base
        if hasattr(mmap, "MADV_DONTNEED"):  # else every page once read counts as held
            pages.madvise(mmap.MADV_DONTNEED)
        return kept

    def state(self, clip: int) -> NDArray[np.int8]:
        """States of a clip's frames: `[T]`, read-only."""
        return np.frombuffer(self._states[clip], dtype=np.int8)

    def _mapped(self, part: int) -> NDArray[np.float16]:
        """Map a file, and let go of the one not used for longest."""
        if part in self._maps:
            self._maps.move_to_end(part)
        else:
            self._maps[part] = self._map(part)
            if len(self._maps) > _MOST_MAPS:
                self._maps.popitem(last=False)
        return self._maps[part]

    def _map(self, part: int) -> NDArray[np.float16]:
        for _ in range(_MOST_MOVES):
            try:
                rows: NDArray[np.float16] = np.load(self._paths[part], mmap_mode="r", allow_pickle=False)
                return rows
            except FileNotFoundError:
                moved = None if self._find_moved is None else self._find_moved(self._paths[part])
                if moved is None:
                    raise
                self._paths[part], begin = moved
                self._begins[part] += begin
        raise FileNotFoundError(f"{self._paths[part]}: moved {_MOST_MOVES} times while it was looked for")


def timed_statistics(
    sequences: TimedSequences, clips: Iterable[int], *, with_none: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute mean and unbiased standard deviation of each component over all frames of some clips, block by block.

        mean = sum x / N,   std = max(sqrt(sum (x - mean)^2 / (N - 1)), 1e-6)

    Give it the clips of training only. Accumulated in float64; at most a block of frames is held.

    Args:
        sequences: of a modality.
        clips: positions of clips; those without frames are passed over.
        with_none: count frames without anything as zeros, as the reference does; else they are left out.

    Returns:
        Mean `[D]` and standard deviation `[D]`; 0 and 1 where there is no frame at all.
    """
    count, mean, squares = 0, np.zeros(sequences.width), np.zeros(sequences.width)
    for clip in clips:
        state = sequences.state(clip)
        for begin in range(0, int(sequences.lengths[clip]), _BLOCK):
            end = min(begin + _BLOCK, int(sequences.lengths[clip]))
            block = sequences.frames(clip, begin, end).astype(np.float64)
            if not with_none:
                block = block[state[begin:end] != NONE]
            if not len(block):
                continue
            # two sets' squares about their own means, joined to those about the common mean
            total = count + len(block)
            shift = block.mean(axis=0) - mean
            squares += ((block - block.mean(axis=0)) ** 2).sum(axis=0) + shift**2 * (count * len(block) / total)
            mean += shift * (len(block) / total)
            count = total
    if not count:
        return mean, np.ones(sequences.width)
    return mean, np.maximum(np.sqrt(squares / max(count - 1, 1)), LEAST_STD)
