"""The spread of a figure over seeds."""

from __future__ import annotations

import numpy as np
import pytest

from mmpsr.metrics.seeds import seed_summary


def test_seeds_have_a_mean_a_deviation_and_a_t_interval() -> None:
    # mean 4, squared deviations 4 + 1 + 1 + 4 over 3: 10/3; t(0.975, 3) = 3.18245
    found = seed_summary([2.0, 3.0, np.nan, 5.0, 6.0])
    assert (found.mean, found.num_seeds) == (4.0, 4)
    assert found.deviation == pytest.approx((10 / 3) ** 0.5)
    assert found.high - found.mean == pytest.approx(3.18245 * (10 / 3) ** 0.5 / 2, rel=1e-5)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_one_seed_has_no_deviation_and_none_has_no_mean() -> None:
    one, none = seed_summary([3.0]), seed_summary([np.nan])
    assert (one.mean, one.num_seeds, none.num_seeds) == (3.0, 1, 0)
    assert np.isnan([one.deviation, one.low, one.high, none.mean, none.deviation]).all()


def test_folds_that_share_training_clips_widen_the_interval() -> None:
    # deviation 1; t(0.975, 2) = 4.3027; sqrt(1/3 + 1/2) = 0.9129: half of it is 3.9279
    found = seed_summary([1.0, 2.0, 3.0], overlap=1 / 2)
    assert (found.mean, found.deviation, found.num_seeds) == (2.0, 1.0, 3)
    assert (found.low, found.high) == pytest.approx((2.0 - 3.9279, 2.0 + 3.9279), abs=1e-3)


def test_intervals_stay_within_what_a_metric_can_be() -> None:
    # deviation sqrt(((1.9)^2 + (0.1)^2 + (1.8)^2) / 2) around 97.9; t(0.975, 2) = 4.3027 reaches beyond 100
    found = seed_summary([96.0, 98.0, 99.7], limits=(0.0, 100.0))
    assert found.high == 100.0
    assert found.low == pytest.approx(97.9 - 4.3027 * ((1.9**2 + 0.1**2 + 1.8**2) / 2 / 3) ** 0.5, abs=1e-3)
