"""Figures over seeds, and runs that are no seeds of one another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import stored_run
from training.evaluation.evaluate import over_seeds, require_seeds
from training.runs.directory import RunError
from training.runs.stored import RunPredictions
from training.scoring.rows import Estimate, MetricRow


def figure(value: float | None) -> MetricRow:
    return MetricRow("a", "test", "t", "m", 9, 3, Estimate(value))


def test_mean_deviation_and_range_by_hand() -> None:
    # 60, 66 and 63: mean 63, deviation sqrt((9 + 9 + 0) / 2) = 3, t of 2 degrees 4.3027 * 3 / sqrt(3) = 7.4524.
    documents = [{"figures": [figure(value)]} for value in (60.0, 66.0, 63.0)]
    row = over_seeds(documents)[0]
    assert (row.model.value, row.deviation, row.least, row.most) == (63.0, 3.0, 60.0, 66.0)
    assert (row.model.low, row.model.high) == pytest.approx((63 - 7.4524, 63 + 7.4524), abs=1e-4)
    assert row.values == [60.0, 66.0, 63.0]
    assert (row.num_seeds, row.num_clips) == (3, 9)


def test_a_figure_that_some_seeds_lack() -> None:
    documents = [{"figures": [figure(None)]}, {"figures": []}]
    row = over_seeds([*documents, {"figures": [figure(5.0)]}])[0]
    assert (row.values, row.model.value, row.deviation, row.num_seeds) == ([None, None, 5.0], 5.0, None, 1)
    assert over_seeds(documents)[0].model.value is None


def test_only_the_seed_may_differ(tmp_path: Path) -> None:
    first = RunPredictions.read(stored_run.finish(tmp_path))

    def changed(**values: int) -> RunPredictions:
        training = first.config.training.model_copy(update=values)
        return replace(first, config=first.config.model_copy(update={"training": training}))

    assert require_seeds([first, changed(seed=3)]) == [0, 3]
    with pytest.raises(
        RunError, match=r"has training\.num_epochs = 7, .* has 4 \(1 setting\(s\) differ besides the seed"
    ):
        require_seeds([first, changed(seed=3, num_epochs=7)])
    with pytest.raises(RunError, match="both have seed 0; name one run per seed"):
        require_seeds([first, first])
