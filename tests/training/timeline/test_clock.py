"""Moments in minutes and seconds, and round ones on an axis."""

from __future__ import annotations

from training.timeline.clock import clock, ticks


def test_clock() -> None:
    assert [clock(each) for each in (0.0, 9.96, 59.99, 600.0)] == ["0:00", "0:10", "1:00", "10:00"]


def test_ticks_are_round_moments_within_the_axis() -> None:
    assert [text for _, text in ticks(0.0, 2.3, 100.0)] == ["0:00", "0:00.5", "0:01", "0:01.5", "0:02"]
    places = ticks(50.0, 650.0, 600.0)  # a unit a second, every two minutes: five of the six that fit
    assert places == ((70.0, "2:00"), (190.0, "4:00"), (310.0, "6:00"), (430.0, "8:00"), (550.0, "10:00"))
    assert len(ticks(0.0, 30_000.0, 600.0)) == 5  # every two hours: 0 to 8 of 8.3
