"""Paired tests of two predictions of the same clips: resampling of groups, and two classical tests.

The bootstrap knows that clips of a group belong together. McNemar's and Wilcoxon's tests take clips as independent, so
their p values are too small where groups are strong: they stand beside the bootstrap, not in its place.

Shape suffixes: N clips, B resamples, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mmpsr.decisions import Array
from mmpsr.metrics.bootstrap import Bootstrap, Statistic, bootstrap

__all__ = ["McNemar", "holm", "mcnemar", "paired_bootstrap", "wilcoxon"]

MOST_EXACT = 50
"""Most clips whose p of Wilcoxon's test is exact; of more, the normal distribution is near enough."""
MOST_EXACT_TIED = 13
"""Likewise where errors are tied."""


@dataclass(frozen=True)
class McNemar:
    """Clips that only one of two predictions decides rightly.

    Attributes:
        only_first: number that only the first has right.
        only_second: number that only the second has right.
        p: two-sided, exact; 1 where the two never disagree.
    """

    only_first: int
    only_second: int
    p: float


def paired_bootstrap(
    first: Statistic, second: Statistic, num_groups: int, num_resamples: int = 2000, seed: int = 0
) -> Bootstrap:
    """Bootstrap the difference second - first in the same resamples of the groups; its `interval()` and `p_value()`.

    Args:
        first: figure of one prediction.
        second: figure of the other, on the same clips with the same groups.
        num_groups: G.
        num_resamples: B.
        seed: of the draws.
    """
    return bootstrap(lambda counts: second(counts) - first(counts), num_groups, num_resamples, seed)


def mcnemar(first_right_N: NDArray[np.bool_], second_right_N: NDArray[np.bool_]) -> McNemar:
    """Run McNemar's exact test of which clips two predictions decide rightly.

    Of the clips that only one has right, b the first and c the second, each would be either's with chance 1/2:

        p = min(1, 2 sum_{k <= min(b, c)} binomial(b + c, k) / 2^{b + c})

    References:
        McNemar: Note on the sampling error of the difference between correlated proportions. Psychometrika 12, 1947.

    Example:
        >>> mcnemar(np.array([True, True, True, False]), np.array([False, False, False, False])).p
        0.25
    """
    only_first = int((first_right_N & ~second_right_N).sum())
    only_second = int((second_right_N & ~first_right_N).sum())
    total = only_first + only_second
    p = min(1.0, 2 * float(special.bdtr(min(only_first, only_second), total, 0.5)))
    return McNemar(only_first, only_second, p)


def wilcoxon(first_errors_N: Array, second_errors_N: Array) -> float:
    """Give the two-sided p of Wilcoxon's signed-rank test of per-clip errors; clips that lack either are left out.

        W = sum over clips with d > 0 of rank(|d|),   d = second error - first error

    Equal errors are dropped, ties get their mean rank; 1 where all are equal. Up to 50 clips (13 with ties) p is exact:
    the share of all ways to give the ranks signs with a sum as far out; of more it is that of W's normal distribution.

    References:
        Wilcoxon: Individual comparisons by ranking methods. Biometrics Bulletin 1, 1945.
    """
    difference = second_errors_N - first_errors_N
    difference = difference[np.isfinite(difference) & (difference != 0)]
    _, inverse, counts = np.unique(np.abs(difference), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    total, num = float(ranks[difference > 0].sum()), len(ranks)
    if num <= (MOST_EXACT if (counts == 1).all() else MOST_EXACT_TIED):
        return _share_of_signs(ranks, total)
    variance = num * (num + 1) * (2 * num + 1) / 24 - float((counts**3 - counts).sum()) / 48
    return float(2 * special.ndtr(-abs(total - num * (num + 1) / 4) / variance**0.5))


def _share_of_signs(ranks: Array, total: float) -> float:
    """Count the ways to choose ranks whose sum is at most, or at least, the total: twice the smaller share of all."""
    ways = np.ones(1)  # by twice the sum, which is whole
    for rank in (2 * ranks).astype(int):
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    place = round(2 * total)
    return min(1.0, 2 * float(min(ways[: place + 1].sum(), ways[place:].sum()) / ways.sum()))


def holm(p_values: ArrayLike) -> Array:
    """Apply Holm's step-down correction of many comparisons; NaN stays NaN and does not count.

        p'_i = max over j <= i of min(1, (m - j + 1) p_j), of m in ascending order

    The chance of any false finding is then at most the level, whatever depends on what.

    References:
        Holm: A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw, kind="stable")[: np.isfinite(raw).sum()]  # NaN sorts last
    corrected = np.full(raw.shape, np.nan)
    corrected[order] = np.maximum.accumulate(np.minimum(1.0, raw[order] * np.arange(len(order), 0, -1)))
    return corrected
