from __future__ import annotations

import math

import numpy as np
import pytest

from encoders.cues.events import degrees_above, events_where, runs, spacing

SECONDS = np.arange(8) / 4


def test_spacing_of_one_frame_is_infinite() -> None:
    assert spacing(np.array([1.0])) == math.inf
    assert spacing(np.array([1.0, 1.5, 2.0, 9.0])) == 0.5


def test_runs_end_where_samples_are_missing() -> None:
    present = np.array([0, 1, 1, 0, 1, 1, 1, 1], dtype=bool)
    assert runs(present, SECONDS) == [(1, 2), (4, 7)]
    assert runs(present, np.where(np.arange(8) > 5, SECONDS + 0.4, SECONDS)) == [(1, 2), (4, 5), (6, 7)]
    assert runs(np.zeros(8, dtype=bool), SECONDS) == []


def test_degrees_take_the_larger_of_both_references() -> None:
    values = np.array([0.5, 0.5, 0.5, 0.5, 0.7])
    # from neutral (v - 0.4) / 0.2 = 0.5 and 1.5; from the median (v - 0.5) / 0.1 = 0 and 2
    assert degrees_above(values, 0.4, 0.2, 0.1) == pytest.approx([0.5, 0.5, 0.5, 0.5, 2.0])
    assert degrees_above(values, 0.4, 0.2) == pytest.approx([0.5, 0.5, 0.5, 0.5, 1.5])


def test_a_noisy_measure_needs_a_larger_change() -> None:
    # differences are all 0.2, sigma = 0.2 / 0.954 = 0.2096, so one degree is 0.629 instead of 0.1
    values = np.array([0.0, 0.2, 0.0, 0.2, 0.0])
    assert degrees_above(values, 10.0, 1.0, 0.1) == pytest.approx(values / (3 * 0.2 / 0.954))


def test_an_event_reaches_one_degree_and_goes_on_above_three_quarters() -> None:
    degrees = np.array([0.8, 0.7, 0.8, 1.2, 0.9, 0.5, 0.9, 0.0])
    (event,) = events_where("smile", degrees, 10 * degrees, "IOD", SECONDS)
    assert (event.start, event.end) == (0.5, 1.0)
    assert (event.value, event.degree, event.unit, event.resolution) == (12.0, 1.2, "IOD", 0.25)
    assert events_where("smile", degrees, degrees, "IOD", SECONDS, least_seconds=0.5) == [
        event.__class__("smile", 0.5, 1.0, 1.2, "IOD", 1.2, 0.25)
    ]
    assert events_where("smile", degrees, degrees, "IOD", SECONDS, least_seconds=0.6) == []
