"""Seconds by stage."""

from __future__ import annotations

import time

import pytest

from training.predict.predictor import StageClock


def test_seconds_go_to_the_stage_that_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    moments, told = iter([0.0, 1.0, 3.0, 7.0]), list[str]()
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    clock = StageClock(told.append)
    clock.enter("a")  # at 1; what came before belongs to none
    clock.enter("b")  # at 3
    assert clock.leave() == {"a": 2.0, "b": 4.0}
    assert told == ["a", "b"]
