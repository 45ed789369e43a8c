"""Sequences of embeddings that are kept beside pooled vectors, for models that pool by attention.

A sequence longer than its cap is shortened by averaging over equal spans of time. Averages rather than every n-th
element: each element counts with equal weight, so the mean over time stays what it was, no word is left out, and what
changes faster than the spans does not appear as something slower. A brief peak becomes lower; every n-th element would
have missed it altogether more often than not.

Shapes: B clips of a batch, L elements of the longest of them, n clips, T elements of one clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sequences", "concatenated", "shorten", "to_half"]

_LARGEST = float(np.finfo(np.float16).max)


def shorten(sequence: NDArray[np.floating], cap: int) -> NDArray[np.floating]:
    """Average over `cap` equal spans of a longer sequence; a shorter one as it is.

    Span k of a sequence of T elements reaches from k * T / cap to (k + 1) * T / cap. An element on the border of two
    spans belongs to both, with the part of it that lies in each. Computed in float64.

    Args:
        sequence: `[T, width]`, finite.
        cap: most elements of the result.

    Returns:
        `[min(T, cap), width]`.

    Example:
        >>> shorten(np.array([[0.0], [2.0], [4.0], [6.0]]), 2).tolist()
        [[1.0], [5.0]]
        >>> shorten(np.array([[0.0], [3.0], [6.0]]), 2).tolist()  # (0 + 3 / 2) / 1.5 and (3 / 2 + 6) / 1.5
        [[1.0], [5.0]]
    """
    length = len(sequence)
    if length <= cap:
        return sequence
    sums = np.zeros((length + 1, sequence.shape[1]))
    np.cumsum(sequence, axis=0, dtype=np.float64, out=sums[1:])
    whole, rest = np.divmod(np.arange(cap + 1) * length, cap)
    begun = sequence[np.minimum(whole, length - 1)]  # none is begun at the end, where the rest is 0
    sums_at_borders = sums[whole] + rest[:, np.newaxis] / cap * begun
    return np.diff(sums_at_borders, axis=0) * (cap / length)


def to_half(sequence: NDArray[np.floating]) -> NDArray[np.float16]:
    """Make a copy in float16.

    Raises:
        OverflowError: a value is larger than float16 can hold.
    """
    largest = float(np.abs(sequence).max())
    if largest > _LARGEST:
        raise OverflowError(f"the sequence reaches {largest:.6g}, and float16 ends at {_LARGEST:.0f}")
    return sequence.astype(np.float16)


def concatenated(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """List the positions of several spans, one span after the other.

    Example:
        >>> concatenated(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - ends + lengths, lengths)


@dataclass(frozen=True)
class Sequences:
    """Sequences of n clips, one after the other in one array.

    Attributes:
        present: `[n]`, whether the clip has a sequence.
        offsets: int64 `[n + 1]`; the sequence of clip i is `values[offsets[i] : offsets[i + 1]]`.
        values: float16 `[total, width]`.
    """

    present: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    values: NDArray[np.float16]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Elements of each clip's sequence, 0 where it has none: `[n]`."""
        return np.diff(self.offsets)

    def batch(self, rows: Sequence[int] | NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Pad sequences of some clips to the longest of them (one element if none has any).

        Args:
            rows: B positions of clips, in any order and perhaps repeated.

        Returns:
            Float32 `[B, L, width]` with zeros after each sequence's end, and the mask `[B, L]`: true where an element
            is, nowhere for a clip without a sequence.

        Example:
            >>> values = np.array([[1.0], [2.0], [3.0]], dtype=np.float16)
            >>> some = Sequences(np.array([True, True]), np.array([0, 1, 3]), values)
            >>> padded, mask = some.batch([0, 1])
            >>> padded[..., 0].tolist(), mask.tolist()
            ([[1.0, 0.0], [2.0, 3.0]], [[True, False], [True, True]])
        """
        clips = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[clips]
        mask = np.arange(lengths.max(initial=1)) < lengths[:, np.newaxis]
        padded = np.zeros((*mask.shape, self.values.shape[1]), dtype=np.float32)
        padded[mask] = self.values[concatenated(self.offsets[clips], lengths)]
        return padded, mask
