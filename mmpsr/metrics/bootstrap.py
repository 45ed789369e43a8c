"""Bootstrap intervals of figures: resampling whole groups of clips.

Clips of one participant, video or dialogue resemble each other, so that N clips say less than N independent ones would.
A bootstrap that draws clips gives intervals that are too short; one that draws groups does not.

Shape suffixes: N clips, G groups, B resamples, K sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["Bootstrap", "Interval", "Statistic", "bootstrap", "of_rows", "of_sums"]

Array = NDArray[np.float64]

Statistic = Callable[[Array], Array]
"""How often each group counts, `[B, G]`, to the values of a figure, `[B]`; NaN where it is undefined."""

MOST_COUNTS = 2_000_000  # counts drawn at a time, which bounds memory
TOLERANCE = 1e-9  # values that differ by less are equal but for rounding


@dataclass(frozen=True)
class Interval:
    """A figure and the range in which its true value lies with the chance `level`."""

    estimate: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class Bootstrap:
    """A figure in resamples of its groups.

    Attributes:
        estimate: the figure of all clips.
        values: ascending, of the resamples in which it is defined.
        num_groups: G.
        num_undefined: resamples in which it is not, for example without any clip of a class.
    """

    estimate: float
    values: Array
    num_groups: int
    num_undefined: int

    def interval(self, level: float = 0.95, limits: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
        """Expand the percentile interval and free it of bias; NaN where fewer than two groups or no resample define it.

        Percentiles are taken at Phi(+-sqrt(G / (G - 1)) t), with t the quantile of Student's distribution of G - 1
        degrees of freedom: for the mean of few groups this is as wide as the t interval, where plain percentiles are
        too narrow, and for many groups it is the plain percentile interval. Beyond 1 / (B + 1) and B / (B + 1), which
        four groups or fewer ask for, resamples have no percentiles, and those of a normal distribution of their mean
        and deviation stand in. Resamples differ from the estimate by the bias that the estimate itself has from the
        truth (the mean CCC of few groups is too low), so twice it is taken off. That can lead beyond what the figure
        can be, which is cut off at `limits`.

        References:
            Hesterberg: What teachers should know about the bootstrap. The American Statistician 69, 2015.
        """
        if not self._defined:
            return Interval(self.estimate, float("nan"), float("nan"), level)
        reach = self._expansion * special.stdtrit(self.num_groups - 1, (1 + level) / 2)
        ends = np.array([_lower_end(self.values, reach), -_lower_end(-self.values[::-1], reach)])
        low, high = (ends - 2 * self.bias).clip(*limits)
        return Interval(self.estimate, float(low), float(high), level)

    def p_value(self, value: float = 0.0) -> float:
        """Give two-sided p, 1 - the level of the interval that just reaches a supposed value; NaN as for `interval`.

        It is below 1 - level just where `interval(level)` leaves the value out, as long as no limit cuts that; and
        never below 1 / (B + 1), also where all resamples are the same.
        """
        if not self._defined:
            return float("nan")
        moved = value + 2 * self.bias
        reach = max(_least_reach(self.values, moved), _least_reach(-self.values[::-1], -moved), 0.0)
        p = float(2 * special.stdtr(self.num_groups - 1, -reach / self._expansion))
        return max(p, 1 / (len(self.values) + 1))

    @property
    def bias(self) -> float:
        """Mean of the resamples - the estimate."""
        return float(self.values.mean()) - self.estimate

    @property
    def _defined(self) -> bool:
        return self.num_groups >= 2 and len(self.values) > 0 and bool(np.isfinite(self.estimate))

    @property
    def _expansion(self) -> float:
        return float(np.sqrt(self.num_groups / (self.num_groups - 1)))


def _lower_end(values_B: Array, reach: float) -> float:
    """Find the quantile of ascending resamples at Phi(-reach), of which the i-th is that at i / (B + 1)."""
    places = np.arange(1, len(values_B) + 1) / (len(values_B) + 1)
    share = special.ndtr(-reach)
    if share >= places[0]:
        return float(np.interp(share, places, values_B))
    return min(float(values_B[0]), float(values_B.mean() - reach * values_B.std()))


def _least_reach(values_B: Array, value: float) -> float:
    """Find the least reach whose `_lower_end` is at most a value; the inverse of that function."""
    number = int(np.searchsorted(values_B, value + TOLERANCE, side="right"))
    if number == len(values_B):
        return -np.inf
    if number:
        below, above = values_B[number - 1 : number + 1]
        part = min(max((value - below) / (above - below), 0.0), 1.0)
        return float(-special.ndtri((number + part) / (len(values_B) + 1)))
    deviation = float(values_B.std())
    beyond = (float(values_B.mean()) - value) / deviation if deviation > TOLERANCE else np.inf
    return max(float(-special.ndtri(1 / (len(values_B) + 1))), beyond)


def bootstrap(statistic: Statistic, num_groups: int, num_resamples: int = 2000, seed: int = 0) -> Bootstrap:
    """Draw as many groups as there are, with replacement, many times.

        n_b from a multinomial of G draws of probability 1/G each,   value_b = statistic(n_b)

    The draws depend on the seed and the number of groups alone, so that figures of the same clips are paired.

    Args:
        statistic: of `of_sums`, `of_rows`, or any function like theirs.
        num_groups: G.
        num_resamples: B.
        seed: of the draws.

    References:
        Efron: Bootstrap methods: another look at the jackknife. Annals of Statistics 7, 1979.
        Field, Welsh: Bootstrapping clustered data. Journal of the Royal Statistical Society B 69, 2007.

    Example:
        >>> groups = np.array(["a", "a", "b", "c", "c"])
        >>> mean = of_sums(lambda sums: sums[..., 0] / sums[..., 1], groups, np.c_[[1.0, 2, 4, 6, 7], np.ones(5)])
        >>> bootstrap(mean, 3).estimate
        4.0
    """
    generator = np.random.default_rng(seed)
    values = [np.zeros(0)]
    num_left = num_resamples if num_groups else 0
    while num_left:
        num_rows = min(num_left, max(1, MOST_COUNTS // num_groups))
        drawn = generator.integers(num_groups, size=(num_rows, num_groups)) + num_groups * np.arange(num_rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=num_rows * num_groups).reshape(num_rows, num_groups)
        values.append(statistic(counts.astype(np.float64)))
        num_left -= num_rows
    resampled = np.concatenate(values)
    defined = np.sort(resampled[np.isfinite(resampled)])
    estimate = float(statistic(np.ones((1, num_groups)))[0]) if num_groups else float("nan")
    return Bootstrap(estimate, defined, num_groups, len(resampled) - len(defined))


def of_sums(figure: Callable[[Array], Array], groups_N: NDArray, sums_NK: Array) -> Statistic:
    """Make the statistic of a figure that is a function of sums over clips; one matrix product for all resamples.

    Args:
        figure: sums `[..., K]` to values `[...]`.
        groups_N: each clip's group, of any kind that sorts; its distinct values are the G groups.
        sums_NK: what each clip adds.
    """
    order = np.argsort(groups_N, kind="stable")
    _, starts = np.unique(np.asarray(groups_N)[order], return_index=True)
    sums_GK = np.add.reduceat(sums_NK[order].astype(np.float64), starts, axis=0)

    def values(counts_BG: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return figure(counts_BG @ sums_GK)

    return values


def of_rows(figure: Callable[[Array, Array], float], groups_N: NDArray, targets: Array, predicted: Array) -> Statistic:
    """Make the statistic of any figure of targets and predictions, recomputed for every resample.

    Args:
        figure: targets `[n, ...]` and predictions `[n, ...]` to a value.
        groups_N: each clip's group.
        targets: `[N, ...]`.
        predicted: `[N, ...]`.
    """
    codes = np.unique(groups_N, return_inverse=True)[1]

    def values(counts_BG: Array) -> Array:
        resamples = (np.repeat(np.arange(len(codes)), row[codes]) for row in counts_BG.astype(np.int64))
        return np.array([figure(targets[rows], predicted[rows]) for rows in resamples])

    return values
