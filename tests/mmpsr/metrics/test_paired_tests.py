"""Paired comparisons: hand-worked tables, scipy, and groups against independent clips."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mmpsr.metrics.bootstrap import bootstrap, of_sums
from mmpsr.metrics.paired_tests import holm, mcnemar, paired_bootstrap, wilcoxon
from mmpsr.metrics.sums import metric_statistic
from mmpsr.tasks import AMBIVALENCE


def mean(groups: np.ndarray, values: np.ndarray):  # noqa: ANN201
    return of_sums(lambda sums: sums[..., 0] / sums[..., 1], groups, np.c_[values, np.ones(len(values))])


def test_the_difference_of_means_is_the_mean_of_differences() -> None:
    generator = np.random.default_rng(0)
    groups = generator.integers(15, size=90)
    first, second = generator.random(90), generator.random(90)
    found = paired_bootstrap(mean(groups, first), mean(groups, second), 15)
    np.testing.assert_allclose(found.values, bootstrap(mean(groups, second - first), 15).values, atol=1e-12)
    assert found.estimate == pytest.approx((second - first).mean())
    reverse = paired_bootstrap(mean(groups, second), mean(groups, first), 15)
    assert reverse.p_value() == pytest.approx(found.p_value())


def test_pairing_finds_what_two_intervals_do_not() -> None:
    generator = np.random.default_rng(1)
    common, groups = generator.normal(size=60), np.arange(60)
    first = mean(groups, common)
    second = mean(groups, common + 0.1 + 0.05 * generator.normal(size=60))
    assert paired_bootstrap(first, second, 60).p_value() < 0.01
    assert bootstrap(first, 60).interval().high > bootstrap(second, 60).interval().estimate


def test_equal_predictions_do_not_differ() -> None:
    targets = np.eye(2)[[0, 1, 0, 1, 1, 0]]
    statistic = metric_statistic("macro_f1", np.arange(6) // 2, targets, targets, AMBIVALENCE, None)
    found = paired_bootstrap(statistic, statistic, 3)
    assert (found.estimate, found.interval().low, found.interval().high) == (0.0, 0.0, 0.0)
    assert found.p_value() == pytest.approx(1.0)


def test_p_of_groups_that_do_not_differ_is_uniform_while_clips_taken_as_independent_mislead() -> None:
    generator = np.random.default_rng(2)
    groups = np.repeat(np.arange(20), 8)
    by_group, by_clip = [], []
    for _ in range(300):
        difference = generator.normal(size=20)[groups] + 0.5 * generator.normal(size=160)
        by_group.append(bootstrap(mean(groups, difference), 20, 400).p_value())
        by_clip.append(wilcoxon(np.zeros(160), difference))
    assert 0.02 <= np.mean(np.array(by_group) < 0.05) <= 0.09
    assert np.mean(np.array(by_clip) < 0.05) > 0.3


def test_mcnemar_by_hand() -> None:
    # first alone right on 1 clip, second alone on 6: p = 2 * (1 + 7) / 2^7 = 0.125
    first = np.array([True] + [False] * 6 + [True, False])
    second = np.array([False] + [True] * 6 + [True, False])
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second, found.p) == (1, 6, pytest.approx(0.125))
    assert mcnemar(second, first).p == found.p
    assert mcnemar(first, first).p == 1.0


def test_wilcoxon_by_hand_and_against_scipy() -> None:
    # differences 1, 2, 3, 4, 5, all positive, the sixth equal and the last unknown: p = 2 / 2^5
    second = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 1.0])
    first = np.zeros(7)
    first[6] = np.nan
    assert wilcoxon(first, second) == pytest.approx(2 / 32)
    generator = np.random.default_rng(3)
    one, other = generator.random(40), generator.random(40)
    assert wilcoxon(one, other) == pytest.approx(stats.wilcoxon(one, other).pvalue)
    assert wilcoxon(one, one) == 1.0


@pytest.mark.parametrize(("count", "is_tied"), [(1, False), (9, True), (14, True), (50, False), (51, False)])
def test_wilcoxon_is_exact_up_to_the_numbers_that_scipy_knows(count: int, is_tied: bool) -> None:
    generator = np.random.default_rng(count)
    for shift in (-0.5, 0.0, 0.3):
        errors = generator.normal(shift, size=count)
        errors = np.sign(errors) * np.ceil(2 * np.abs(errors)) if is_tied else errors
        expected = stats.wilcoxon(errors).pvalue
        assert wilcoxon(np.zeros(count), errors) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_is_the_binomial_test_of_scipy() -> None:
    for only_first, only_second in ((0, 7), (3, 3), (40, 55), (1, 0)):
        total = only_first + only_second
        first = np.arange(total) < only_first
        expected = stats.binomtest(only_first, total).pvalue
        assert mcnemar(first, ~first).p == pytest.approx(expected, rel=1e-9)


def test_holm_by_hand_with_absent_values() -> None:
    # ordered 0.01, 0.02, 0.03, 0.5 of m = 4: 0.04, 0.06, 0.06, 0.5
    found = holm([0.03, np.nan, 0.01, 0.5, 0.02])
    assert np.isnan(found[1])
    assert found[[2, 4, 0, 3]] == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_holm_lets_through_no_more_than_the_level() -> None:
    generator = np.random.default_rng(4)
    false_findings = np.mean([(holm(generator.random(10)) < 0.05).any() for _ in range(2000)])
    assert false_findings == pytest.approx(0.05, abs=0.015)
