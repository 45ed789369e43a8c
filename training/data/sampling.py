"""Which clips make up each batch: a function of configuration, seed and epoch, so that a run can resume anywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.config import DataConfig

__all__ = ["corpus_counts", "epoch_batches"]


def corpus_counts(sizes: NDArray[np.int64], config: DataConfig) -> NDArray[np.int64]:
    """Count the clips of each corpus that an epoch draws; they sum to the number of all clips.

    Args:
        sizes: training clips n_c by corpus.
        config: shares by n_c (`proportional`), equal (`balanced`) or by n_c^(1/temperature) (`temperature`).

    Example:
        >>> corpus_counts(np.array([90, 10]), DataConfig(sampling="temperature", temperature=2.0)).tolist()
        [75, 25]
    """
    exponent = {"proportional": 1.0, "balanced": 0.0, "temperature": 1.0 / config.temperature}[config.sampling]
    shares = np.where(sizes > 0, sizes.astype(np.float64) ** exponent, 0.0)
    exact = shares / shares.sum() * sizes.sum()
    counts = np.floor(exact).astype(np.int64)
    leftover = int(sizes.sum() - counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:leftover]] += 1
    return counts


def epoch_batches(
    rows_by_corpus: list[NDArray[np.int64]], batch_size: int, config: DataConfig, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Draw the batches of one epoch, of row numbers, every corpus mixed in each.

    A corpus that gives fewer clips than it has gives other ones in later epochs until all were seen (its clips are
    drawn from one endless sequence of permutations); one that gives more repeats some.

    Args:
        rows_by_corpus: training rows of each corpus.
        batch_size: clips a batch; the last one may be smaller.
        config: sampling.
        seed: the run's seed.
        epoch: counted from 0.
    """
    counts = corpus_counts(np.array([len(rows) for rows in rows_by_corpus]), config)
    drawn = [
        _draw(rows, int(count), int(count) * epoch, (seed, index))
        for index, (rows, count) in enumerate(zip(rows_by_corpus, counts, strict=True))
        if len(rows)
    ]
    order = np.concatenate(drawn)
    np.random.default_rng([seed, epoch, 1]).shuffle(order)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _draw(rows: NDArray[np.int64], count: int, start: int, seed: tuple[int, int]) -> NDArray[np.int64]:
    """Draw elements `start` to `start + count` of the rows' endless sequence of permutations."""
    first, last = start // len(rows), (start + max(count, 1) - 1) // len(rows)
    sequence = np.concatenate(
        [rows[np.random.default_rng([*seed, turn, 0]).permutation(len(rows))] for turn in range(first, last + 1)]
    )
    offset = start - first * len(rows)
    return sequence[offset : offset + count]
