"""Progress where there is no terminal: a line before a reader wonders, and few in the log of a long work."""

from __future__ import annotations

import pytest

from encoders.store import progress
from encoders.store.progress import ClipProgress


def test_lines_come_soon_and_then_one_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    times = []
    with ClipProgress(2000, wanted=True) as report:
        for second in range(1, 2001):
            now = float(second)
            report.update(2000 - second, 0, set())
            if capsys.readouterr().err:
                times.append(second)
    gaps = [after - before for before, after in zip([0, *times], times, strict=False)]
    assert times[:2] == [9, 18]  # the first whole second after 8, and 8 after that
    assert max(gap for gap, second in zip(gaps, times, strict=True) if second <= 80) == 9
    assert gaps[-1] == 61
    assert gaps == sorted(gaps)
