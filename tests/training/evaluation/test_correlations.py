"""Correlations between outputs: those of pandas and scipy, in every resample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.support import stored_run
from training.evaluation import correlations as module
from training.evaluation.correlations import correlate, correlations, weighted_correlations, weighted_ranks
from training.runs.stored import RunPredictions


def clips(seed: int = 0, num_clips: int = 40) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(num_clips, 4)) + generator.normal(size=(num_clips, 1))
    values[:, 2] = values[:, 2].round(0)  # ties
    values[:, 3] = 0.7  # constant
    return values, generator.integers(8, size=num_clips)


def test_values_are_those_of_pandas() -> None:
    values, groups = clips()
    found = correlate(values, groups)
    for name in ("pearson", "spearman"):
        expected = pd.DataFrame(values).corr(method=name).to_numpy()
        np.testing.assert_allclose(np.array(found[name]["value"], dtype=float), expected, atol=1e-12)
    assert found["pearson"]["value"][3] == [None] * 4
    assert found["pearson"]["low"][3][0] is None


@pytest.mark.parametrize("seed", range(3))
def test_resamples_are_those_of_repeated_clips(seed: int) -> None:
    values, _ = clips(seed)
    counts = np.random.default_rng(seed).integers(4, size=(2, 40))
    ranks = np.stack([weighted_ranks(column, counts.astype(float)) for column in values.T], axis=2)
    for row, some in zip(counts, weighted_correlations(ranks, counts.astype(float)), strict=True):
        repeated = np.repeat(values[:, :3], row, axis=0)
        np.testing.assert_allclose(some[:3, :3], stats.spearmanr(repeated).statistic, atol=1e-12)
    plain = weighted_correlations(np.broadcast_to(values, (2, *values.shape)), counts.astype(float))
    np.testing.assert_allclose(plain[1][:3, :3], np.corrcoef(np.repeat(values[:, :3], counts[1], axis=0).T), atol=1e-12)


def test_ranks_by_hand() -> None:
    # 1 once, 5 three times, 2 twice: below 1 nothing and half of itself, 2 has 1 + 1, 5 has 3 + 1.5.
    assert weighted_ranks(np.array([1.0, 5.0, 2.0]), np.array([[1.0, 3.0, 2.0]])).tolist() == [[0.5, 4.5, 2.0]]


def test_intervals_are_wider_where_groups_are_alike() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 20)
    values = generator.normal(size=(10, 2))[groups] + 0.01 * generator.normal(size=(200, 2))
    by_group = correlate(values, groups)["pearson"]
    by_clip = correlate(values, np.arange(200))["pearson"]
    widths = [each["high"][0][1] - each["low"][0][1] for each in (by_group, by_clip)]  # type: ignore[operator]
    assert widths[0] > 2 * widths[1] > 0
    for each in (by_group, by_clip):
        assert -1 <= each["low"][0][1] <= each["value"][0][1] <= each["high"][0][1] <= 1  # type: ignore[operator]


def test_memory_is_bounded_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = clips()
    expected = correlate(values, groups)
    monkeypatch.setattr(module, "MOST_CELLS", 1000)
    np.testing.assert_allclose(
        np.array(correlate(values, groups)["spearman"]["low"], dtype=float),
        np.array(expected["spearman"]["low"], dtype=float),
    )


def test_all_outputs_of_a_run(tmp_path: Path) -> None:
    run = RunPredictions.read(stored_run.finish(tmp_path))
    found = list(correlations(run, [("bah", "test"), ("meld", "dev")]))
    assert [(each["corpus"], each["split"], each["num_clips"]) for each in found] == [
        ("bah", "test", 8),
        ("meld", "dev", 12),
    ]
    assert len(found[0]["outputs"]) == 14  # 7 emotions, 5 traits, 2 classes
    row, column = (found[0]["outputs"].index(name) for name in ("emotion.Anger", "ambivalence.present"))
    clips = run.table.query("corpus == 'bah' and split == 'test'")
    expected = stats.pearsonr(clips["predicted.emotion.Anger"], clips["predicted.ambivalence.present"]).statistic
    assert found[0]["pearson"]["value"][row][column] == pytest.approx(expected)
    both = [found[0]["outputs"].index(f"ambivalence.{name}") for name in ("absent", "present")]
    assert found[0]["spearman"]["value"][both[0]][both[1]] == pytest.approx(-1.0)  # they sum to 1
