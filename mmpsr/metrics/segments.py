"""Segments of a clip: which ones its frames' probabilities tell of, and how well these are the true ones. Percentages.

Shape suffixes: T frames of a clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpsr.metrics.bootstrap import Interval, Statistic, of_sums
from mmpsr.metrics.in_time import checked, group_intervals

__all__ = [
    "SEGMENT_METRICS",
    "SegmentRule",
    "find_segments",
    "runs",
    "segment_metric_intervals",
    "segment_metrics",
    "segment_statistics",
    "to_seconds",
]

Array = NDArray[np.float64]
Span = tuple[int, int]
"""Frames [begin, end)."""

OVERLAPS = (0.1, 0.5)
SLACK = 1e-9  # of a frame or an overlap, which rounding may take


@dataclass(frozen=True)
class SegmentRule:
    """How segments are made of probabilities.

    Attributes:
        threshold: p above it is present.
        gap: seconds; segments this far apart or less are joined first.
        shortest: seconds; segments shorter than this are dropped then.
    """

    threshold: float = 0.5
    gap: float = 0.0
    shortest: float = 0.0


def runs(marked_T: ArrayLike) -> list[Span]:
    """List the runs of marked frames.

    Example:
        >>> runs([True, True, False, True])
        [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.asarray(marked_T, dtype=np.int8), prepend=0, append=0))
    return [(int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True)]


def find_segments(probabilities_T: ArrayLike, rate: Fraction | float, rule: SegmentRule) -> list[Span]:
    """Find the segments that probabilities tell of: runs above a threshold, near ones joined, short ones dropped.

    Args:
        probabilities_T: of all frames of a clip.
        rate: frames per second.
        rule: threshold, gap and shortest.

    Raises:
        ValueError: the rate is not positive, or a time is negative.

    Example:
        >>> find_segments([0.9, 0.1, 0.8, 0.1, 0.1, 0.7], 10, SegmentRule(gap=0.1, shortest=0.2))
        [(0, 3)]
    """
    if rate <= 0 or rule.gap < 0 or rule.shortest < 0:
        raise ValueError(f"found a rate of {rate} and {rule}; expected a positive rate, and times of 0 or more")
    gap, shortest = math.floor(rule.gap * rate + SLACK), math.ceil(rule.shortest * rate - SLACK)
    joined: list[Span] = []
    for begin, end in runs(np.asarray(probabilities_T, dtype=np.float64) > rule.threshold):
        if joined and begin - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return [(begin, end) for begin, end in joined if end - begin >= shortest]


def to_seconds(segments: Sequence[Span], rate: Fraction | float, start: float = 0.0) -> list[tuple[float, float]]:
    """Give [start, end) of segments in seconds of the media; frame f lasts from start + f / rate for 1 / rate.

    Example:
        >>> to_seconds([(24, 36)], 24)
        [(1.0, 1.5)]
    """
    return [(start + float(begin / rate), start + float(end / rate)) for begin, end in segments]


def _marks(segments: Sequence[Span], length: int) -> NDArray[np.bool_]:
    marked_T = np.zeros(length, dtype=np.bool_)
    for begin, end in segments:
        marked_T[begin:end] = True
    return marked_T


def _matches(true: Sequence[Span], found: Sequence[Span], overlap: float) -> int:
    """Count true segments that are the best match of a found one, and overlap it enough."""
    matched = set()
    for each in found if true else ():
        ratios = [_ratio(each, other) for other in true]
        best = int(np.argmax(ratios))
        if ratios[best] >= overlap - SLACK:
            matched.add(best)
    return len(matched)


def _ratio(first: Span, second: Span) -> float:
    shared = max(0, min(first[1], second[1]) - max(first[0], second[0]))
    return shared / (first[1] - first[0] + second[1] - second[0] - shared)


def frame_iou(sums: Array) -> Array:
    """Compute intersection over union of true and found segments, in frames of all clips.

        IoU = |true and found| / |true or found|

    NaN where there are neither.

    References:
        Jaccard: The distribution of the flora in the alpine zone. New Phytologist 11, 1912.
    """
    return np.where(sums[..., 1] > 0, 100 * sums[..., 0] / np.maximum(sums[..., 1], 1), np.nan)


def segment_f1(true_positives: Array, num_found: Array, num_true: Array) -> Array:
    """Compute F1 of segments at an overlap of k.

        F1@k = 2 TP / (found + true)

    A found segment is a true positive if its intersection over union with the true segment that it overlaps most is at
    least k, and no earlier one was matched with that. Lengths do not matter, nor do small shifts at k = 0.1. NaN where
    there are neither true nor found ones.

    References:
        Lea, Flynn, Vidal, Reiter, Hager: Temporal convolutional networks for action segmentation and detection. CVPR
        2017.
    """
    total = num_found + num_true
    return np.where(total > 0, 200 * true_positives / np.maximum(total, 1), np.nan)


def _f1_at(place: int) -> Callable[[Array], Array]:
    return lambda sums: segment_f1(sums[..., 4 + place], sums[..., 2], sums[..., 3])


SEGMENT_METRICS: Mapping[str, Callable[[Array], Array]] = {
    "frame_iou": frame_iou,
    "segment_f1_10": _f1_at(0),
    "segment_f1_50": _f1_at(1),
}
"""Sums of clips (frames in both and in either, found and true segments, matches at overlaps 0.1 and 0.5) to figures."""


def segment_statistics(
    labels: Sequence[ArrayLike],
    probabilities: Sequence[ArrayLike],
    rates: Sequence[Fraction | float],
    groups: Sequence[object] | NDArray,
    rule: SegmentRule | None = None,
) -> dict[str, Statistic]:
    """Make metrics of segments statistics to resample.

    Frames of unknown label are in neither true nor found segments, which end there.

    Args:
        labels: of each clip `[T]`, 1 present, 0 absent, -1 unknown.
        probabilities: of each clip `[T]`, that it is present.
        rates: of each clip, frames per second.
        groups: of each clip, for example its participant.
        rule: how segments are made; runs above 0.5, where left out.

    Raises:
        ValueError: clips do not fit together, or a label or probability can be none.
    """
    checked(labels, probabilities, groups)
    if len(rates) != len(labels):
        raise ValueError(f"labels are of {len(labels)} clips, rates of {len(rates)}; give one for every clip")
    sums = []
    for each, values, rate in zip(labels, probabilities, rates, strict=True):
        labels_T = np.asarray(each)
        found_T = _marks(find_segments(values, rate, rule or SegmentRule()), len(labels_T)) & (labels_T >= 0)
        true_T = labels_T == 1
        true, found = runs(true_T), runs(found_T)
        frames = [(true_T & found_T).sum(), (true_T | found_T).sum()]
        sums.append([*frames, len(found), len(true), *(_matches(true, found, overlap) for overlap in OVERLAPS)])
    sums_NK = np.array(sums, dtype=np.float64).reshape(len(labels), 4 + len(OVERLAPS))
    groups_N = np.asarray(groups)
    return {name: of_sums(figure, groups_N, sums_NK) for name, figure in SEGMENT_METRICS.items()}


def segment_metrics(
    labels: Sequence[ArrayLike],
    probabilities: Sequence[ArrayLike],
    rates: Sequence[Fraction | float],
    rule: SegmentRule | None = None,
) -> dict[str, float]:
    """Compute metrics of the segments of all clips; args as of `segment_statistics`.

    Example:
        >>> segment_metrics([[0, 1, 1, 1, 0, 0]], [[0.1, 0.1, 0.9, 0.9, 0.9, 0.1]], [24])  # 2 of 4 frames are shared
        {'frame_iou': 50.0, 'segment_f1_10': 100.0, 'segment_f1_50': 100.0}
    """
    if not len(labels):
        return dict.fromkeys(SEGMENT_METRICS, float("nan"))
    statistics = segment_statistics(labels, probabilities, rates, np.zeros(len(labels)), rule)
    return {name: float(statistic(np.ones((1, 1)))[0]) for name, statistic in statistics.items()}


def segment_metric_intervals(
    labels: Sequence[ArrayLike],
    probabilities: Sequence[ArrayLike],
    rates: Sequence[Fraction | float],
    groups: Sequence[object] | NDArray,
    rule: SegmentRule | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Compute metrics of segments with intervals from resampling groups; args as of `segment_statistics`."""
    statistics = segment_statistics(labels, probabilities, rates, groups, rule)
    return group_intervals(statistics, groups, num_resamples, seed, level)
