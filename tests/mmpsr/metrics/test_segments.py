"""Segments by hand: how they are found, and how well they fit the true ones."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpsr.metrics.segments import (
    SEGMENT_METRICS,
    SegmentRule,
    find_segments,
    runs,
    segment_metric_intervals,
    segment_metrics,
    segment_statistics,
    to_seconds,
)


def marked(text: str) -> list[int]:
    """Labels of a drawing: `#` present, `.` absent, `?` unknown."""
    return [{"#": 1, ".": 0, "?": -1}[each] for each in text]


def likely(text: str) -> list[float]:
    return [0.9 if each == "#" else 0.1 for each in text]


@given(st.lists(st.booleans(), max_size=40))
@settings(max_examples=60, deadline=None)
def test_runs_are_what_is_marked(values: list[bool]) -> None:
    found = runs(values)
    assert [frame for begin, end in found for frame in range(begin, end)] == np.flatnonzero(values).tolist()
    assert all(first[1] < second[0] for first, second in pairwise(found))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (SegmentRule(), [(0, 2), (3, 4), (6, 10)]),
        (SegmentRule(gap=0.1), [(0, 4), (6, 10)]),
        (SegmentRule(gap=0.2), [(0, 10)]),
        (SegmentRule(shortest=0.2), [(0, 2), (6, 10)]),
        (SegmentRule(shortest=0.3), [(6, 10)]),
        (SegmentRule(gap=0.1, shortest=0.3), [(0, 4), (6, 10)]),  # joined before short ones are dropped
        (SegmentRule(threshold=0.9), []),  # above, not at
        (SegmentRule(threshold=0.05), [(0, 11)]),
    ],
)
def test_segments_by_hand(rule: SegmentRule, expected: list[tuple[int, int]]) -> None:
    assert find_segments(likely("##.#..####."), 10, rule) == expected
    assert find_segments(likely("##.#..####."), Fraction(10), rule) == expected


def test_seconds() -> None:
    assert to_seconds([(24, 36)], Fraction(24), start=2.0) == [(3.0, 3.5)]
    assert to_seconds([(0, 1)], Fraction(30000, 1001)) == [(0.0, pytest.approx(1001 / 30000))]


@pytest.mark.parametrize(
    ("true", "found", "iou", "at_10", "at_50"),
    [
        ("..####....", "..####....", 100.0, 100.0, 100.0),
        ("..####....", "....####..", 100 * 2 / 6, 100.0, 0.0),
        ("..####....", ".####.....", 100 * 3 / 5, 100.0, 100.0),
        ("####......", "......####", 0.0, 0.0, 0.0),
        # one true segment found in two pieces: the second finds it taken, F1 = 2 * 1 / (2 + 1)
        ("######....", "###.##....", 100 * 5 / 6, 200 / 3, 200 / 3),
        # two true ones found as one, 4 of 9 frames of its best match: 0.44
        ("####.####.", "#########.", 100 * 8 / 9, 200 / 3, 0.0),
        ("####......", "..........", 0.0, 0.0, 0.0),
        ("..........", "..........", None, None, None),
        # unknown frames cut both: true [0, 2) and [6, 8), found [2, 3) and [7, 9)
        ("##.???##..", "..####.##.", 100 * 1 / 6, 50.0, 0.0),
    ],
)
def test_overlap_by_hand(true: str, found: str, iou: float | None, at_10: float | None, at_50: float | None) -> None:
    values = segment_metrics([marked(true)], [likely(found)], [24])
    assert list(values) == list(SEGMENT_METRICS)
    for value, expected in zip(values.values(), (iou, at_10, at_50), strict=True):
        assert np.isnan(value) if expected is None else value == pytest.approx(expected)


def test_clips_are_pooled_and_rates_are_their_own() -> None:
    # gaps of one frame: 0.1 s at 10 frames a second, 0.2 s at 5, which stays open
    labels, found, rule = [marked("#####"), marked("#####")], [likely("##.##")] * 2, SegmentRule(gap=0.1)
    values = segment_metrics(labels, found, [10, 5], rule)
    assert values["frame_iou"] == pytest.approx(100 * 9 / 10)
    assert values["segment_f1_10"] == pytest.approx(200 * 2 / (3 + 2))
    assert values["segment_f1_50"] == pytest.approx(200 * 1 / (3 + 2))


def test_resamples_by_hand() -> None:
    labels, found = [marked("##.."), marked("####")], [likely("##.."), likely("##..")]
    statistics = segment_statistics(labels, found, [24, 24], ["a", "b"])
    counts = np.array([[1.0, 1], [2, 0], [0, 2]])
    assert statistics["frame_iou"](counts).tolist() == pytest.approx([100 * 4 / 6, 100.0, 50.0])
    assert statistics["segment_f1_50"](counts).tolist() == [100.0, 100.0, 100.0]
    interval = segment_metric_intervals(labels, found, [24, 24], ["a", "b"], num_resamples=100)["frame_iou"]
    assert interval.low < interval.estimate < interval.high
    assert interval.estimate == pytest.approx(100 * 4 / 6)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="found a rate of 0 and"):
        find_segments([0.5], 0, SegmentRule())
    with pytest.raises(ValueError, match="times of 0 or more"):
        find_segments([0.5], 24, SegmentRule(gap=-1))
    with pytest.raises(ValueError, match="labels are of 1 clips, rates of 2"):
        segment_metrics([[1]], [[0.5]], [24, 24])
    with pytest.raises(ValueError, match=r"clip 0: labels are \[2\], probabilities \[1\]"):
        segment_metrics([[1, 0]], [[0.5]], [24])
    assert all(np.isnan(value) for value in segment_metrics([], [], []).values())
