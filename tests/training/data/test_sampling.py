"""Batches: shares of the corpora, coverage, and independence of everything but configuration, seed and epoch."""

import numpy as np
import pytest

from training.config import DataConfig
from training.data.sampling import corpus_counts, epoch_batches

ROWS = [np.arange(0, 80), np.arange(100, 115), np.arange(200, 205)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sampling": "proportional"}, [80, 15, 5]),
        ({"sampling": "balanced"}, [34, 33, 33]),  # 100 / 3, the one left over goes to the first
        ({"sampling": "temperature", "temperature": 1.0}, [80, 15, 5]),
        # Square roots 8.944, 3.873, 2.236 of 15.053: 59.42, 25.73, 14.85; floors leave 2, for the largest remainders.
        ({"sampling": "temperature", "temperature": 2.0}, [59, 26, 15]),
    ],
)
def test_counts_follow_the_rule(settings: dict[str, object], expected: list[int]) -> None:
    assert corpus_counts(np.array([80, 15, 5]), DataConfig(**settings)).tolist() == expected


def test_a_corpus_without_training_clips_gets_none() -> None:
    assert corpus_counts(np.array([10, 0]), DataConfig(sampling="balanced")).tolist() == [10, 0]


def test_proportional_sampling_visits_every_clip_once_an_epoch() -> None:
    for epoch in range(3):
        batches = epoch_batches(ROWS, 32, DataConfig(), seed=5, epoch=epoch)
        assert [len(batch) for batch in batches] == [32, 32, 32, 4]
        assert sorted(np.concatenate(batches)) == sorted(np.concatenate(ROWS))


def test_balanced_sampling_visits_every_clip_of_a_large_corpus_over_epochs() -> None:
    config = DataConfig(sampling="balanced")
    drawn = [np.concatenate(epoch_batches(ROWS, 32, config, seed=5, epoch=epoch)) for epoch in range(20)]
    large = np.concatenate([rows[rows < 100] for rows in drawn])
    counts = np.bincount(large, minlength=80)
    assert counts.sum() == 34 * 20
    assert counts.max() - counts.min() <= 1  # whole permutations: 680 draws of 80 clips are 8 or 9 each
    small = np.bincount(np.concatenate([rows[rows >= 200] - 200 for rows in drawn]), minlength=5)
    assert small.tolist() == [132] * 5


def test_batches_mix_the_corpora() -> None:
    batches = epoch_batches(ROWS, 50, DataConfig(sampling="balanced"), seed=1, epoch=0)
    for batch in batches:
        assert {row // 100 for row in batch} == {0, 1, 2}


def test_epochs_and_seeds_differ_and_repeat_exactly() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_batches(ROWS, 32, DataConfig(), seed, epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
