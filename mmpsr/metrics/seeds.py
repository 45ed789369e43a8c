"""Spread of a figure over seeds: mean, deviation and the t interval of the mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = ["SeedSummary", "mean_and_deviation"]


@dataclass(frozen=True)
class SeedSummary:
    """A figure over seeds.

    Attributes:
        mean: of the finite values.
        deviation: their sample standard deviation (divisor n - 1).
        low: lower end of the mean's t interval.
        high: its upper end.
        num_seeds: n, finite values.
    """

    mean: float
    deviation: float
    low: float
    high: float
    num_seeds: int


def mean_and_deviation(values: ArrayLike, level: float = 0.95) -> SeedSummary:
    """Mean, deviation and the t interval of the mean, mean +- t_{n-1} deviation / sqrt(n).

    It holds what training's chance does, not what other clips would: for that, resample groups. One seed has no
    deviation and none a mean: NaN.

    Example:
        >>> summary = mean_and_deviation([1.0, 2.0, 3.0])
        >>> summary.mean, summary.deviation, round(summary.high, 3)
        (2.0, 1.0, 4.484)
    """
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    mean = float(found.mean()) if len(found) else float("nan")
    if len(found) < 2:
        return SeedSummary(mean, float("nan"), float("nan"), float("nan"), len(found))
    deviation = float(found.std(ddof=1))
    reach = float(stats.t.ppf((1 + level) / 2, len(found) - 1)) * deviation / len(found) ** 0.5
    return SeedSummary(mean, deviation, mean - reach, mean + reach, len(found))
