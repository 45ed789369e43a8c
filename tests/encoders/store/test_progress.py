"""How far it is, and how long it will take: lines where there is no terminal."""

from __future__ import annotations

import pytest

from encoders.store import progress
from encoders.store.progress import ClipProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the progress reads, to be set."""
    seconds = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def test_the_estimate_is_by_those_after_the_first(clock: list[float]) -> None:
    told: list[str] = []
    bar = ClipProgress(121, True, "predictions", "without", "windows", patience=8.0, at_once=True, tell=told.append)
    for seconds, num_left, num_lost in ((110.0, 120, 0), (112.0, 119, 0), (116.0, 115, 1), (121.0, 110, 1)):
        clock[0] = seconds
        bar.update(num_left, num_lost)
    clock[0] = 130.0
    bar.update(0, 1)
    assert told == [
        "predictions: 1 of 121 windows, 0.1 windows/s, 0 without, less than 20:00 left",  # 10 s for one, with loading
        "predictions: 2 of 121 windows, 0.2 windows/s, 0 without, about 3:58 left",  # 2 s for one, 119 are left
        "predictions: 11 of 121 windows, 0.5 windows/s, 1 without, about 2:01 left",  # 11 s for ten, 110 are left
        "predictions: 121 of 121 windows, 4.0 windows/s, 1 without",
    ]


def test_hours_are_told_and_nothing_where_it_is_not_wanted(clock: list[float]) -> None:
    told: list[str] = []
    for wanted in (True, False):
        bar = ClipProgress(1001, wanted, at_once=True, tell=told.append)
        clock[0] += 36.0
        bar.update(1000, 0)
    assert told == ["features: 1 of 1001 clips, 0.0 clips/s, 0 failed, less than 10:00:00 left"]


def test_lines_come_soon_and_then_one_a_minute(clock: list[float]) -> None:
    times: list[float] = []
    bar = ClipProgress(2000, True, tell=lambda line: times.append(clock[0]))
    for second in range(1, 2001):
        clock[0] = 100.0 + second
        bar.update(2000 - second, 0)
    gaps = [after - before for before, after in zip([100.0, *times], times, strict=False)]
    assert gaps[:8] == [9.0] * 8  # the first whole second after 8
    assert gaps == sorted(gaps)
    assert gaps[-1] == 61.0
