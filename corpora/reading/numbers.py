"""Numbers and times as people write them: with a decimal point or comma, in seconds or as a clock shows them.

A cell that could mean two numbers is read only where its column, or a setting, says which.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Decimal", "read_numbers"]

Decimal = Literal[".", ","]
"""The sign before the decimals."""

_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")  # 1,234: a number above a thousand, or one with three decimals
_CLOCK = re.compile(r"(?:(\d+):(?=[0-5]\d:))?(\d+):([0-5]\d(?:[.,]\d+)?)")
_UNKNOWN = ("?", "-", "--", "/", ".", "x", "na", "n/a", "n.a.", "nan", "none", "null", "nil", "unknown", "missing")


def read_numbers(
    text: pd.Series, decimal: Decimal | None = None, clock: bool = False, missing: Collection[str] = ()
) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Read the numbers of a column.

    A single comma stands before decimals (`0,5`). `1,234` could be 1.234 or 1234: it is read where another cell of the
    column has a comma that can only stand before decimals and none such a point, or where `decimal` says it; likewise
    `1.234` in a column of decimal commas. With `clock`, `0:05` is 5 and `1:02:03.5` is 3723.5 seconds.

    Args:
        text: cells without blanks around them, missing where there is none.
        decimal: the sign before the decimals; the other one then groups thousands.
        clock: whether the numbers are seconds.
        missing: cells that mean 'unknown'; a number that equals one is NaN without a reason. Reasons advise settings
            only where there are any.

    Returns:
        Finite numbers, NaN where there is none, and by row why a cell is not read.

    Example:
        >>> read_numbers(pd.Series(["0,5", "2", "0:05"]), clock=True)[0].tolist()
        [0.5, 2.0, 5.0]
    """
    plain = pd.to_numeric(text, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    values = np.where(np.isfinite(plain), plain, np.nan)
    cells = {row: str(cell) for row, cell in enumerate(text) if not pd.isna(cell)}
    commas = {row for row in cells if np.isnan(values[row]) and _COMMA.fullmatch(cells[row])}
    points = {row for row in cells if not np.isnan(values[row]) and "." in cells[row]}
    grouped = {row for row in commas | points if _GROUPS.fullmatch(cells[row])}
    if decimal is None and commas - grouped and not points - grouped:
        unclear = grouped & points
    else:
        unclear = grouped & commas if decimal is None else set()
    unknown = set(pd.to_numeric(pd.Series(list(missing), dtype="string"), errors="coerce").dropna())
    reasons = {}
    for row, cell in cells.items():
        if row in unclear:
            values[row] = np.nan
            reasons[row] = _two_meanings(cell, bool(missing))
            continue
        if decimal is not None:
            cell = _ungrouped(cell, decimal)
        if row in commas or cell != cells[row]:
            values[row] = float(cell.replace(",", "."))
            if values[row] in unknown:
                values[row] = np.nan
                continue
        elif np.isnan(values[row]) and clock and (match := _CLOCK.fullmatch(cell)):
            hours, minutes, seconds = match.groups()
            values[row] = 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds.replace(",", "."))
        if not np.isfinite(values[row]):
            values[row] = np.nan
            reasons[row] = _no_number(cells[row], clock, bool(missing))
    return values, reasons


def _ungrouped(cell: str, decimal: Decimal) -> str:
    """A cell without the signs that group its thousands."""
    group = re.escape("," if decimal == "." else ".")
    number = rf"[+-]?\d{{1,3}}(?:{group}\d{{3}})+(?:{re.escape(decimal)}\d+)?"
    return re.sub(group, "", cell) if re.fullmatch(number, cell) else cell


def _two_meanings(cell: str, has_setting: bool) -> str:
    small, large = cell.replace(",", "."), re.sub("[.,]", "", cell)
    setting = ", or set `decimal` to the sign before decimals" if has_setting else ""
    return f"{cell!r} could be {small} or {large}; write it as one of these{setting}"


def _no_number(cell: str, clock: bool, has_setting: bool) -> str:
    if clock and ":" in cell:
        advice = "write seconds (65.5), minutes:seconds (1:05.5) or hours:minutes:seconds (0:01:05.5)"
        if cell.count(":") == 3:
            advice = f"if its last part counts frames, that depends on the frame rate: {advice}"
        return f"{cell!r} is no time; {advice}"
    if any(sign.isdigit() for sign in cell):
        return f"{cell!r} is not a number; write the number alone, such as 0.5 or 12"
    if has_setting and cell.lower() in _UNKNOWN:
        return f"{cell!r} is not a number; list cells that mean 'unknown' under `missing`"
    return f"{cell!r} is not a number; correct the cell"
