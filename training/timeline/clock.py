"""Moments of a recording: how they are written, and where an axis of time names them."""

from __future__ import annotations

__all__ = ["clock", "ticks"]

_STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # seconds


def clock(seconds: float | None) -> str:
    """Write minutes and seconds.

    Example:
        >>> clock(83.5), clock(None), clock(3723.0)
        ('1:23.5', '', '62:03')
    """
    if seconds is None:
        return ""
    minutes, rest = divmod(round(10 * seconds), 600)
    return f"{minutes}:{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")


def ticks(start: float, end: float, width: float, most: int = 6) -> tuple[tuple[float, str], ...]:
    """Place round moments on an axis.

    Args:
        start: seconds at its beginning.
        end: seconds at its end.
        width: of it, in units.
        most: moments named.

    Returns:
        Places in units and what stands there.

    Example:
        >>> ticks(0.0, 10.0, 100.0)
        ((0.0, '0:00'), (20.0, '0:02'), (40.0, '0:04'), (60.0, '0:06'), (80.0, '0:08'), (100.0, '0:10'))
    """
    step = next((step for step in _STEPS if (end - start) / step < most), 2 * _STEPS[-1])
    while (end - start) / step >= most:
        step *= 2
    first, last = -int(-start // step), int((end + 1e-6) // step)
    return tuple(((number * step - start) * width / (end - start), clock(number * step))
                 for number in range(first, last + 1))  # fmt: skip
