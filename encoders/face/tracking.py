"""Which of the faces of many frames belong to one person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = ["follow"]

_REACH = 1.5  # farthest a face may lie from where its track expects it, in face sides
_GROWTH = 2.0  # most that its side may change from one sight to the next, as a factor


@dataclass
class _Track:
    """Sights of one face: the frame's index, the box' index in that frame, and the box."""

    frames: list[int]
    indices: list[int]
    boxes: list[NDArray[np.float64]]

    def expected(self, frame: int) -> NDArray[np.float64]:
        """Centre in a later frame if the face keeps the velocity of its last two sights."""
        last = _centre(self.boxes[-1])
        if len(self.boxes) == 1:
            return last
        velocity = (last - _centre(self.boxes[-2])) / (self.frames[-1] - self.frames[-2])
        return last + velocity * (frame - self.frames[-1])

    def cost(self, frame: int, box: NDArray[np.float64]) -> float:
        """Distance of a box from where the face is expected, in face sides; infinite where it cannot be the face."""
        side, other = np.sqrt(self.boxes[-1][2:].prod()), np.sqrt(box[2:].prod())
        distance = float(np.linalg.norm(_centre(box) - self.expected(frame)) / max(side, other))
        grown = max(side, other) / min(side, other)
        return distance + float(np.log(grown)) if distance <= _REACH and grown <= _GROWTH else np.inf


def follow(boxes: Sequence[NDArray[np.float64]]) -> list[int | None]:
    """The person seen most: of all tracks the one whose boxes have the largest area in sum.

    In every frame the boxes are given to the tracks so that the sum of distances is smallest; a track expects its
    face where the velocity of its last two sights takes it, so that two people who cross keep their tracks.

    Args:
        boxes: per frame `[N, 4]` left, top, width and height of its faces; N may be 0.

    Returns:
        Per frame the index of the person's box, or None where the person is not seen.

    Example:
        >>> large, small = [0.0, 0.0, 9.0, 9.0], [50.0, 0.0, 5.0, 5.0]
        >>> follow([np.array([small, large]), np.array([small]), np.array([large, small])])
        [1, None, 0]
    """
    tracks: list[_Track] = []
    for frame, found in enumerate(boxes):
        costs = np.array([[track.cost(frame, box) for box in found] for track in tracks])
        given = dict(_pairs(costs)) if costs.size else {}
        for index, box in enumerate(found):
            if index not in given:
                tracks.append(_Track([], [], []))
            track = tracks[given.get(index, -1)]
            track.frames.append(frame)
            track.indices.append(index)
            track.boxes.append(box)
    if not tracks:
        return [None] * len(boxes)
    person = max(tracks, key=lambda track: sum(float(box[2:].prod()) for box in track.boxes))
    seen = dict(zip(person.frames, person.indices, strict=True))
    return [seen.get(frame) for frame in range(len(boxes))]


def _pairs(costs: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Column and row of the cheapest assignment, without the impossible."""
    possible = np.isfinite(costs)
    rows, columns = linear_sum_assignment(np.where(possible, costs, 1e6))
    return [(int(column), int(row)) for row, column in zip(rows, columns, strict=True) if possible[row, column]]


def _centre(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(box[:2] + box[2:] / 2)
