"""Ranking of many methods on many figures: mean ranks, whether they differ at all, and by how much they must to count.

Shape suffixes: R rows (methods), K columns (figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FriedmanTest",
    "column_ranks",
    "friedman_ranks",
    "friedman_test",
    "nemenyi_difference",
    "not_told_apart",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FriedmanTest:
    """Whether methods differ: chi-squared statistic, degrees of freedom and p."""

    statistic: float
    degrees: int
    p: float


def column_ranks(values_RK: Array) -> Array:
    """Rank 1 for the highest of each column, ties averaged, NaN where a cell is absent; `[R, K]`.

    Example:
        >>> column_ranks(np.array([[3.0], [5.0], [3.0], [np.nan]])).ravel().tolist()
        [2.5, 1.0, 2.5, nan]
    """
    from scipy.stats import rankdata

    ranks = np.full(values_RK.shape, np.nan)
    for column in range(values_RK.shape[1]):
        present = np.isfinite(values_RK[:, column])
        ranks[present, column] = rankdata(-values_RK[present, column])
    return ranks


def friedman_ranks(values_RK: Array) -> Array:
    """Average the ranks of each method over the figures that it has, `[R]`; NaN for one without any.

    Args:
        values_RK: higher is better; NaN where a cell is absent.
    """
    ranks_RK = column_ranks(values_RK)
    known = np.isfinite(ranks_RK)
    sums, counts = np.where(known, ranks_RK, 0.0).sum(axis=1), known.sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def friedman_test(values_RK: Array) -> FriedmanTest:
    """Run Friedman's test with ties, and absent cells left out.

        chi^2 = d' V^+ d

    Under the hypothesis the ranks r of a column's k methods are any permutation of one another, so with
    s = sum (r - (k + 1) / 2)^2 each has variance s / k and each pair covariance -s / (k (k - 1)). In the
    statistic d holds each method's sum of r - (k + 1) / 2 over columns and V is the sum of their covariances. Of
    a full table it is Friedman's, corrected for ties. It needs several columns to follow chi-squared.

    Args:
        values_RK: higher is better; NaN where a cell is absent.

    References:
        Friedman: The use of ranks to avoid the assumption of normality. Journal of the ASA 32, 1937.
        Benard, van Elteren: A generalization of the method of m rankings. Indagationes Mathematicae 15, 1953.
    """
    from scipy.stats import chi2

    ranks_RK = column_ranks(values_RK)
    num_rows = len(ranks_RK)
    deviation_R, covariance_RR = np.zeros(num_rows), np.zeros((num_rows, num_rows))
    for ranks in ranks_RK.T:
        present = np.flatnonzero(np.isfinite(ranks))
        size = len(present)
        if size < 2:
            continue
        centred = ranks[present] - (size + 1) / 2
        deviation_R[present] += centred
        spread = (centred**2).sum() / (size - 1)
        covariance_RR[np.ix_(present, present)] += spread * (np.eye(size) - 1 / size)
    degrees = int(np.linalg.matrix_rank(covariance_RR))
    statistic = float(deviation_R @ np.linalg.pinv(covariance_RR, hermitian=True) @ deviation_R)
    return FriedmanTest(statistic, degrees, float(chi2.sf(statistic, degrees)) if degrees else 1.0)


def nemenyi_difference(num_methods: int, num_figures: int, level: float = 0.95) -> float:
    """Compute the least difference of two mean ranks that counts.

        CD = q / sqrt(2) * sqrt(k (k + 1) / (6 N))

    q is the quantile of the studentised range of k means with infinitely many degrees of freedom. It holds for k
    methods that all have the same N figures; figures that are correlated (two metrics of one corpus) say less than N.

    References:
        Demsar: Statistical comparisons of classifiers over multiple data sets. JMLR 7, 2006.

    Example:
        >>> round(nemenyi_difference(4, 14), 3)
        1.254
    """
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(level, num_methods, np.inf))
    return quantile / 2**0.5 * (num_methods * (num_methods + 1) / (6 * num_figures)) ** 0.5


def not_told_apart(ranks_R: Sequence[float] | Array, difference: float) -> list[list[int]]:
    """Find the largest groups of methods whose mean ranks all differ by less than the critical difference.

    They are the bars of a critical-difference diagram, from the best group to the worst; one may share methods with
    the next, and a method that is told apart from all others is in none.

    Args:
        ranks_R: mean ranks, finite.
        difference: of `nemenyi_difference`.

    Returns:
        Numbers of the methods of each group, by rising rank.

    References:
        Demsar: Statistical comparisons of classifiers over multiple data sets. JMLR 7, 2006.

    Example:
        >>> not_told_apart([3.2, 1.0, 2.0, 2.9], difference=1.5)
        [[1, 2], [2, 3, 0]]
    """
    ranks = np.asarray(ranks_R, dtype=np.float64)
    order = np.argsort(ranks, kind="stable")
    ends = np.searchsorted(ranks[order], ranks[order] + difference, side="left")
    groups, last = [], 0
    for start, end in enumerate(ends):
        if end > last and end - start > 1:
            groups.append(order[start:end].tolist())
        last = max(last, int(end))
    return groups
