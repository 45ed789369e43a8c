"""Spread of a figure over seeds: mean, deviation and the t interval of the mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

__all__ = ["SeedSummary", "seed_summary"]


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


def seed_summary(
    values: ArrayLike,
    overlap: float = 0.0,
    level: float = 0.95,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> SeedSummary:
    """Compute mean, deviation s and the t interval of the mean, mean +- t_{n-1} s sqrt(1/n + overlap).

    It holds what training's chance does, not what other clips would: for that, resample groups. Folds are no
    independent draws, since they share training clips; their interval is wider by the correction of Nadeau and Bengio.
    One seed has no deviation and none a mean: NaN.

    Args:
        values: one per seed; those that are not finite are left out.
        overlap: test clips for each training clip of a cross-validation, 0 where seeds share nothing but the data.
        level: share of intervals that hold the mean.
        limits: the least and the most that a value can be, at which the interval is cut off, as bootstrap ones are.

    References:
        Nadeau, Bengio: Inference for the generalization error. Machine Learning 52, 2003.

    Example:
        >>> summary = seed_summary([1.0, 2.0, 3.0])
        >>> summary.mean, summary.deviation, round(summary.high, 3)
        (2.0, 1.0, 4.484)
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    mean = float(known.mean()) if len(known) else float("nan")
    if len(known) < 2:
        return SeedSummary(mean, float("nan"), float("nan"), float("nan"), len(known))
    deviation = float(known.std(ddof=1))
    reach = float(special.stdtrit(len(known) - 1, (1 + level) / 2)) * deviation * (1 / len(known) + overlap) ** 0.5
    low, high = np.clip([mean - reach, mean + reach], *limits).tolist()
    return SeedSummary(mean, deviation, low, high, len(known))
