"""The strip chart: places by hand, gaps, events, and what was not measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.support.measured import measured
from training.timeline.strips import HEIGHT, Strip, strip_chart


def strip_of(table: pd.DataFrame, name: str, width: int = 100) -> Strip:
    chart = strip_chart(table, width)
    assert chart is not None
    return next(strip for strip in chart.strips if strip.name == name)


def test_a_curve_has_its_places_and_gaps() -> None:
    # 4 rows of 0.5 s on 100 units: 50 units a second, a row is 25 wide and its point in its middle
    strip = strip_of(measured(loudness=[-40.0, -20.0, np.nan, -30.0]), "loudness")
    assert (strip.low, strip.high) == (-40.0, -20.0)
    # -40 is the lower edge, -20 the upper, -30 the middle; a piece of one point is drawn 1.5 units wide
    assert strip.lines == (f"12.5,{HEIGHT:.1f} 37.5,0.0", f"86.8,{HEIGHT / 2:.1f} 88.2,{HEIGHT / 2:.1f}")
    assert strip.bands == ()


def test_hardly_any_change_looks_so() -> None:
    strip = strip_of(measured(loudness=[-30.0, -30.0, -31.0, -31.0]), "loudness")
    assert (strip.low, strip.high) == (-40.5, -20.5)  # an axis of 20 dB


def test_more_values_than_places_are_means_within_a_band() -> None:
    # 80 rows on 30 units are 0.375 units each: 4 to a point
    strip = strip_of(measured(80, 0.1, pitch=[100.0, 150.0, 200.0, np.nan] * 20), "pitch", 30)
    assert len(strip.lines[0].split()) == 20
    assert {point.split(",")[1] for point in strip.lines[0].split()} == {f"{HEIGHT / 2:.1f}"}  # the mean, 150
    assert {point.split(",")[1] for point in strip.bands[0].split()} == {"0.0", f"{HEIGHT:.1f}"}


def test_two_sides_are_one_and_radians_are_degrees() -> None:
    eyes = strip_of(measured(eye_open_left=[0.1] * 4, eye_open_right=[0.3] * 4), "eyes open")
    assert (eyes.low + eyes.high) / 2 == pytest.approx(0.2)
    head = strip_of(measured(head_yaw=[-np.pi / 6, 0.0, 0.0, np.pi / 6]), "head aside")
    assert (head.low, head.high) == pytest.approx((-30.0, 30.0))


def test_events_are_stretches_with_their_words() -> None:
    table = measured(start=10.0, loudness=[-30.0] * 4, event_pause=[0.0, 1.0, 1.0, 0.0])
    strip = strip_of(table, "loudness")
    (mark,) = strip.marks
    assert (mark.x, mark.width, mark.start) == (25.0, 50.0, 10.5)
    assert mark.title == "the voice pauses, 0:10.5 to 0:11.5"
    assert strip.events == {0: "the voice pauses"}


def test_what_was_not_measured_is_named_and_nothing_is_no_chart() -> None:
    chart = strip_chart(measured(loudness=[-30.0] * 4, event_hand_at_face=[0.0] * 4))
    assert chart is not None
    assert [strip.name for strip in chart.strips] == ["hands", "loudness"]
    assert "pitch" in chart.missing
    assert "mouth corners" in chart.missing
    assert strip_chart(measured(1).assign(failure=["gone"])) is None
    assert strip_chart(measured(0)) is None
