"""Numbers with a decimal point or comma, and times, read where there is one meaning only."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from corpora.reading.numbers import read_numbers

NAN = float("nan")


def read(*cells: str, **options: object) -> tuple[list[float], dict[int, str]]:
    text = pd.Series(list(cells), dtype="string")
    values, reasons = read_numbers(text.mask(text.eq("")), **options)  # type: ignore[arg-type]
    return values.tolist(), reasons


def test_decimals_stand_behind_a_point_or_a_comma() -> None:
    assert read("0,5", "-1,25", ",5", "2", "1e-1", "0.5") == ([0.5, -1.25, 0.5, 2.0, 0.1, 0.5], {})


def test_a_thousand_or_three_decimals_is_settled_by_the_column() -> None:
    assert read("1,234", "0,5") == ([1.234, 0.5], {})
    assert read("0,125") == ([0.125], {})  # no thousands begin with 0
    assert read("1.234", "0.5") == ([1.234, 0.5], {})
    for column, row in ((("1,234",), 0), (("1,234", "1.5"), 0), (("0,5", "1.234"), 1)):
        values, reasons = read(*column)
        assert np.isnan(values[row])
        assert reasons == {row: f"{column[row]!r} could be 1.234 or 1234; write it as one of these"}
    assert "or set `decimal` to the sign before decimals" in read("1,234", missing=("NA",))[1][0]


def test_the_sign_before_decimals_can_be_said() -> None:
    assert read("1,234", "1.234", "1.234,5", decimal=",") == ([1.234, 1234.0, 1234.5], {})
    assert read("1,234", "1.234", "1,234.5", decimal=".") == ([1234.0, 1.234, 1234.5], {})


def test_times_are_seconds_where_seconds_are_asked_for() -> None:
    # 1:02:03.5 is 3600 + 2 * 60 + 3.5
    assert read("0:05", "1:02:03.5", "90:00", "0:05,25", "7", clock=True) == ([5.0, 3723.5, 5400.0, 5.25, 7.0], {})
    values, reasons = read("0:05")
    assert np.isnan(values[0])
    assert reasons[0].startswith("'0:05' is not a number; write the number alone")


@pytest.mark.parametrize("cell", ["0:5", "0:75", "1:60:00", "1:2:03", "-0:05", ":05"])
def test_what_is_no_time_is_said(cell: str) -> None:
    assert read(cell, clock=True)[1] == {
        0: f"{cell!r} is no time; write seconds (65.5), minutes:seconds (1:05.5) or hours:minutes:seconds (0:01:05.5)"
    }


def test_frames_are_no_seconds() -> None:
    assert "if its last part counts frames, that depends on the frame rate" in read("00:00:01:12", clock=True)[1][0]


@pytest.mark.parametrize("cell", ["0.5 s", "50%", "1;2", "many", "1.2.3", "5-7", "high"])
def test_advice_erases_nothing_that_was_said(cell: str) -> None:
    reason = read(cell, missing=("NA",))[1][0]
    assert reason.startswith(f"{cell!r} is not a number")
    assert "missing" not in reason


def test_what_usually_means_unknown_may_be_listed() -> None:
    assert read("?", missing=("NA",))[1] == {0: "'?' is not a number; list cells that mean 'unknown' under `missing`"}
    assert read("?")[1] == {0: "'?' is not a number; correct the cell"}
    values, reasons = read("-9,0", "0,5", missing=("-9",))
    assert np.isnan(values[0])
    assert reasons == {}
