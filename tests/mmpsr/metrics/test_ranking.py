"""Ranks of methods: hand-worked tables with ties and absent cells, scipy's test, and printed critical values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mmpsr.metrics.ranking import column_ranks, friedman_ranks, friedman_test, nemenyi_difference, not_told_apart

NAN = np.nan


def test_ranks_by_hand_with_ties_and_absent_cells() -> None:
    table = np.array([[70.0, 5.0, NAN], [60.0, 5.0, 1.0], [70.0, 4.0, 3.0], [50.0, NAN, 2.0]])
    ranks = [[1.5, 1.5, NAN], [3.0, 1.5, 3.0], [1.5, 3.0, 1.0], [4.0, NAN, 2.0]]
    np.testing.assert_array_equal(column_ranks(table), ranks)
    assert friedman_ranks(table) == pytest.approx([1.5, 2.5, 5.5 / 3, 3.0])


def test_a_method_without_any_figure_has_no_rank() -> None:
    assert np.isnan(friedman_ranks(np.array([[1.0], [NAN]]))[1])


@pytest.mark.parametrize("digits", [6, 1])  # without and with ties
def test_a_full_table_is_scipy_s_test(digits: int) -> None:
    table = (np.random.default_rng(0).random((5, 9)) + np.arange(5)[:, None] * 0.15).round(digits)
    found, expected = friedman_test(table), stats.friedmanchisquare(*table)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.degrees == 4


def test_absent_cells_by_hand() -> None:
    # two methods, three columns that the first wins, one where it is alone: each deviation -+1/2, variance 1/4, so
    # statistic = (3/2)^2 / (3/4) = 3 (the sign test without continuity correction)
    found = friedman_test(np.array([[2.0, 2.0, 2.0, 2.0], [1.0, 1.0, 1.0, NAN]]))
    assert (found.statistic, found.degrees) == (pytest.approx(3.0), 1)


def test_p_of_methods_that_do_not_differ_is_uniform_with_absent_cells() -> None:
    generator = np.random.default_rng(1)
    values = []
    for _ in range(400):
        table = generator.random((5, 20))
        table[0, :10] = table[3, 12:] = NAN
        values.append(friedman_test(table).p)
    assert np.mean(np.array(values) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)


def test_nothing_to_rank_is_no_difference() -> None:
    for table in (np.ones((3, 4)), np.array([[1.0, NAN], [NAN, 1.0]])):
        assert (friedman_test(table).degrees, friedman_test(table).p) == (0, 1.0)


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_differences_are_those_of_printed_tables(methods: int, quantile: float) -> None:
    expected = quantile * (methods * (methods + 1) / (6 * 30)) ** 0.5
    assert nemenyi_difference(methods, 30) == pytest.approx(expected, abs=1e-3)
    assert nemenyi_difference(methods, 30, level=0.90) < nemenyi_difference(methods, 30)


def test_groups_that_are_not_told_apart_are_those_of_a_printed_diagram() -> None:
    # Demsar 2006, four variants of C4.5 on 14 data sets at p = 0.10: the pure one is told apart from those with m,
    # that with cf from none: 3.143 - 2.000 = 1.143 > 1.12, 2.893 - 1.964 = 0.929, 3.143 - 2.893 = 0.25
    ranks = [3.143, 2.000, 2.893, 1.964]
    difference = nemenyi_difference(4, 14, level=0.90)
    assert difference == pytest.approx(1.12, abs=0.005)
    assert not_told_apart(ranks, difference) == [[3, 1, 2], [2, 0]]


def test_groups_by_hand() -> None:
    # 1.0 with 2.0; 2.0 with 3.0; 5.0 alone; 1.0 and 2.5 differ by exactly the difference, which counts
    assert not_told_apart([5.0, 1.0, 3.0, 2.0], 1.5) == [[1, 3], [3, 2]]
    assert not_told_apart([1.0, 2.5], 1.5) == []
    assert not_told_apart([1.0, 2.0, 3.0], 9.0) == [[0, 1, 2]]


def test_the_difference_of_two_methods_is_that_of_a_normal_test() -> None:
    # with k = 2 the studentised range is |z| sqrt(2): CD = 1.95996 sqrt(2 * 3 / (6 * 25)) = 0.39199
    assert nemenyi_difference(2, 25) == pytest.approx(stats.norm.ppf(0.975) / 5, rel=1e-6)
