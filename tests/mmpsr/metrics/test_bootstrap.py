"""Resampling of groups: intervals against closed forms, coverage, undefined figures, and the spread over seeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from mmpsr.metrics.bootstrap import Bootstrap, bootstrap, of_rows, of_sums
from mmpsr.metrics.definitions import METRICS
from mmpsr.metrics.sums import metric_statistic
from mmpsr.tasks import AMBIVALENCE, PERSONALITY

Clips = tuple[np.ndarray, np.ndarray, np.ndarray]


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def mean_bootstrap(values: np.ndarray, groups: np.ndarray, **settings: int) -> Bootstrap:
    statistic = of_sums(mean, groups, np.c_[values, np.ones(len(values))])
    return bootstrap(statistic, len(np.unique(groups)), **settings)


def test_the_interval_of_a_mean_of_single_clips_is_the_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=12)
    found = mean_bootstrap(values, np.arange(12), num_resamples=100_000).interval()
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert found.estimate == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02 * (high - low))


def test_groups_are_drawn_whole() -> None:
    # two groups, of three ones and of one zero: resamples are aa (1), bb (0), ab or ba (3/4)
    found = mean_bootstrap(np.array([1.0, 0.0, 1.0, 1.0]), np.array(["a", "b", "a", "a"]), num_resamples=4000)
    values, counts = np.unique(found.values, return_counts=True)
    assert values.tolist() == [0.0, 0.75, 1.0]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert found.estimate == 0.75
    assert found.num_groups == 2


def test_repeating_each_clip_narrows_naive_intervals_only() -> None:
    values = np.random.default_rng(1).normal(size=40)
    once = mean_bootstrap(values, np.arange(40)).interval()
    repeated = np.repeat(values, 9)
    grouped = mean_bootstrap(repeated, np.repeat(np.arange(40), 9)).interval()
    naive = mean_bootstrap(repeated, np.arange(360)).interval()
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high))
    assert (naive.high - naive.low) / (once.high - once.low) == pytest.approx(1 / 3, rel=0.1)  # 1 / sqrt(9)


def test_p_is_where_the_interval_just_reaches_the_value() -> None:
    found = mean_bootstrap(np.random.default_rng(2).normal(0.4, 1.0, size=25), np.arange(25), num_resamples=20_000)
    interval = found.interval(0.9)
    assert found.p_value(interval.low) == pytest.approx(0.1, abs=0.002)
    assert found.p_value(interval.high) == pytest.approx(0.1, abs=0.002)
    assert found.p_value(interval.estimate) > 0.9
    assert found.p_value(1e9) < 0.001
    assert mean_bootstrap(np.zeros(5), np.arange(5)).p_value() == pytest.approx(1.0)  # no resample differs from it
    assert mean_bootstrap(np.ones(5), np.arange(5)).p_value() == pytest.approx(1 / 2001)  # all are alike: none is 0


@pytest.mark.parametrize("num_groups", [2, 3, 4, 5, 8, 30])
def test_p_and_interval_never_contradict_each_other(num_groups: int) -> None:
    generator = np.random.default_rng(num_groups)
    for draw in range(12):
        values = generator.normal(0.5, 1.0, size=num_groups).round(draw % 3)  # with ties, and resamples that are equal
        found = mean_bootstrap(values, np.arange(num_groups), num_resamples=200)
        for level in (0.5, 0.9, 0.95, 0.99):
            interval = found.interval(level)
            reach = interval.high - interval.low
            within = np.array([0.5, 0.999, 0.001]) * reach + interval.low
            without = [interval.low - 0.001 * reach - 1e-6, interval.high + 0.3 * reach + 1e-6, interval.high + 9.0]
            for value in (0.0, *within, *without):
                is_left_out = value < interval.low or value > interval.high
                assert (found.p_value(float(value)) < 1 - level) == is_left_out, (level, value)


def test_intervals_of_four_groups_or_fewer_are_about_as_wide_as_t_intervals() -> None:
    # between the least and the greatest group alone, as far as percentiles reach, would be half of that or less
    for num_groups, least in ((2, 0.95), (3, 0.95), (4, 0.9)):
        values = np.arange(num_groups, dtype=float)
        found = mean_bootstrap(values, np.arange(num_groups), num_resamples=4000).interval()
        low, high = stats.t.interval(0.95, num_groups - 1, values.mean(), stats.sem(values))
        assert (found.high - found.low) / (high - low) == pytest.approx(1.0, abs=1 - least)


def test_p_agrees_with_the_t_test_of_few_clips() -> None:
    values = np.random.default_rng(3).normal(0.5, 1.0, size=10)
    found = mean_bootstrap(values, np.arange(10), num_resamples=50_000).p_value()
    assert found == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue, abs=0.03)


def test_intervals_are_moved_against_the_bias() -> None:
    # the square of a mean is too high by the variance of the mean, its resamples by about as much again
    generator, covered = np.random.default_rng(6), 0
    for _ in range(300):
        values = generator.normal(size=(20, 60))  # squares of 60 means, averaged: true value 0
        statistic = of_sums(
            lambda sums: ((sums[..., :-1] / sums[..., -1:]) ** 2).mean(axis=-1),
            np.arange(20),
            np.c_[values, np.ones(20)],
        )
        found = bootstrap(statistic, 20, 300)
        assert found.bias == pytest.approx((values.var(axis=0) / 20).mean(), rel=0.25)
        covered += found.interval().low <= 0.0 <= found.interval().high
        assert found.values[0] > 0.0
        assert found.interval(limits=(0.0, 1.0)).low == max(0.0, found.interval().low)
    assert covered > 0.85 * 300


def test_draws_depend_on_the_seed_only() -> None:
    values, groups = np.arange(30.0), np.arange(30) // 3
    first = mean_bootstrap(values, groups, seed=1)
    assert np.array_equal(first.values, mean_bootstrap(values, groups, seed=1).values)
    assert not np.array_equal(first.values, mean_bootstrap(values, groups, seed=2).values)


def test_drawing_in_pieces_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = np.arange(30.0), np.arange(30) // 3
    whole = mean_bootstrap(values, groups, num_resamples=100)
    monkeypatch.setattr("mmpsr.metrics.bootstrap.MOST_COUNTS", 75)  # 7 resamples of 10 groups at a time
    assert np.array_equal(mean_bootstrap(values, groups, num_resamples=100).values, whole.values)


def test_rows_give_what_sums_give() -> None:
    generator = np.random.default_rng(4)
    groups = generator.integers(9, size=60)
    targets = np.eye(2)[generator.integers(2, size=60)]
    predicted = generator.dirichlet([1, 1], size=60)
    by_sums = metric_statistic("macro_f1", groups, targets, predicted, AMBIVALENCE, None)
    by_rows = of_rows(lambda x, y: METRICS["macro_f1"](x, y, AMBIVALENCE, None), groups, targets, predicted)
    np.testing.assert_allclose(
        bootstrap(by_rows, 9, num_resamples=50).values, bootstrap(by_sums, 9, num_resamples=50).values
    )


def test_resamples_without_a_figure_are_left_out_and_counted() -> None:
    # 1 of 2 groups has a weight: no resample of the other alone, a quarter of all, has a mean
    statistic = of_sums(mean, np.array([0, 1]), np.array([[3.0, 1.0], [0.0, 0.0]]))
    found = bootstrap(statistic, 2, num_resamples=4000)
    assert found.num_undefined / 4000 == pytest.approx(0.25, abs=0.03)
    assert found.interval().low == found.interval().high == 3.0


@pytest.mark.parametrize(("values", "groups"), [([1.0, 2.0], [0, 0]), ([np.nan, 1.0], [0, 1]), ([], [])])
def test_one_group_no_clip_or_no_figure_has_no_interval(values: list[float], groups: list[int]) -> None:
    statistic = of_sums(mean, np.array(groups), np.c_[values, np.ones(len(values))]) if groups else None
    found = bootstrap(statistic, len(set(groups)), num_resamples=20)  # type: ignore[arg-type]
    assert np.isnan([found.interval().low, found.interval().high, found.p_value()]).all()


def bah_like(generator: np.random.Generator, num_groups: int) -> Clips:
    """Participants of 4 to 12 clips, who differ in how often they hesitate and in how well they are read."""
    sizes = generator.integers(4, 13, size=num_groups)
    groups = np.repeat(np.arange(num_groups), sizes)
    base, skill = generator.normal(size=num_groups)[groups], generator.normal(size=num_groups)[groups]
    actual = base + generator.normal(size=len(groups)) > 0
    logit = (2 * actual - 1) * (0.6 + 0.9 * skill) + generator.normal(size=len(groups))
    present = 1 / (1 + np.exp(-logit))
    return groups, np.eye(2)[actual.astype(int)], np.stack([1 - present, present], axis=1)


def fiv2_like(generator: np.random.Generator, num_groups: int) -> Clips:
    """Videos of 1 to 6 clips of five traits, whose scores and errors have a part in common."""
    sizes = generator.integers(1, 7, size=num_groups)
    groups = np.repeat(np.arange(num_groups), sizes)

    def shared(scale: float) -> np.ndarray:
        return generator.normal(scale=scale, size=(num_groups, 5))[groups]

    def own(scale: float) -> np.ndarray:
        return generator.normal(scale=scale, size=(len(groups), 5))

    targets = 0.5 + shared(0.1) + own(0.08)
    return groups, targets, 0.5 + 0.5 * (targets - 0.5) + shared(0.06) + own(0.04)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "num_groups", "metric", "spec"),
    [
        (bah_like, 15, "macro_f1", AMBIVALENCE),
        (bah_like, 60, "macro_f1", AMBIVALENCE),
        (bah_like, 30, "uar", AMBIVALENCE),
        (fiv2_like, 60, "mean_ccc", PERSONALITY),
        (fiv2_like, 30, "mean_accuracy", PERSONALITY),
    ],
)
def test_intervals_by_group_hold_the_truth_as_often_as_they_say_and_naive_ones_do_not(
    draw: Callable[[np.random.Generator, int], Clips], num_groups: int, metric: str, spec: object
) -> None:
    generator = np.random.default_rng(5)
    truth = METRICS[metric](*draw(generator, 60_000)[1:], spec)  # type: ignore[arg-type]
    covered = {"group": 0, "naive": 0}
    for _ in range(1000):
        groups, targets, predicted = draw(generator, num_groups)
        for name, units in (("group", groups), ("naive", np.arange(len(groups)))):
            statistic = metric_statistic(metric, units, targets, predicted, spec, None)  # type: ignore[arg-type]
            interval = bootstrap(statistic, len(np.unique(units)), 500).interval()
            covered[name] += interval.low <= truth <= interval.high
    assert 920 <= covered["group"] <= 970
    assert covered["naive"] < 900
