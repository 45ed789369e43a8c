"""How the outputs of all tasks go together over clips: Pearson's and Spearman's correlation between predictions.

Shape suffixes: N clips, C outputs of all tasks, B resamples, G groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpora.clips import label_columns
from mmpsr.metrics.bootstrap import Bootstrap
from training.runs.stored import RunPredictions

__all__ = ["NUM_RESAMPLES", "correlate", "correlations", "weighted_correlations", "weighted_ranks"]

Array = NDArray[np.float64]

NUM_RESAMPLES = 500
MOST_CELLS = 4_000_000  # of one array, which bounds memory


def correlations(run: RunPredictions, places: Iterable[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Correlate outputs over the clips of each corpus and split that is evaluated.

    Args:
        run: its predictions.
        places: corpora and splits.

    Yields:
        `corpus, split, num_clips, num_groups, outputs` and, for `pearson` and `spearman`, `value`, `low` and `high` as
        matrices in the order of the outputs; None where a prediction is constant.
    """
    outputs = [column for task, spec in run.tasks.items() for column in label_columns(task, spec)]
    for corpus, split in places:
        clips = run.table[run.table["corpus"].eq(corpus) & run.table["split"].eq(split)]
        groups = clips["group"].fillna("clip " + clips["clip_id"]).to_numpy(str)
        predicted = clips[[f"predicted.{column}" for column in outputs]].to_numpy(dtype=np.float64)
        shared = {"corpus": corpus, "split": split, "num_clips": len(clips), "outputs": outputs}
        yield {**shared, "num_groups": len(np.unique(groups)), **correlate(predicted, groups)}


def correlate(predicted_NC: Array, groups_N: NDArray) -> dict[str, dict[str, list[list[float | None]]]]:
    """Correlate every pair of columns both ways, with 95 % intervals from resampled groups.

    Ranks are made anew in every resample.
    """
    codes = np.unique(groups_N, return_inverse=True)[1]
    num_groups = int(codes.max()) + 1
    counts_BG = np.random.default_rng(0).multinomial(num_groups, np.full(num_groups, 1 / num_groups), NUM_RESAMPLES)
    matrices: dict[str, dict[str, list[list[float | None]]]] = {}
    for name in ("pearson", "spearman"):
        estimate = _correlations(name, predicted_NC, np.ones((1, len(codes))))[0]
        step = max(1, MOST_CELLS // predicted_NC.size)
        pieces = np.split(counts_BG, range(step, NUM_RESAMPLES, step))
        drawn = np.concatenate(
            [_correlations(name, predicted_NC, piece[:, codes].astype(np.float64)) for piece in pieces]
        )
        matrices[name] = _intervals(estimate, drawn, num_groups)
    return matrices


def weighted_correlations(values_BNC: Array, weights_BN: Array) -> Array:
    """Correlate (Pearson) clips that count several times, `[B, C, C]`; NaN where a column is constant."""
    shares_BN = weights_BN / weights_BN.sum(axis=1, keepdims=True)
    centred = values_BNC - np.einsum("bn,bnc->bc", shares_BN, values_BNC)[:, None]
    covariances = np.matmul((centred * shares_BN[..., None]).swapaxes(1, 2), centred)
    deviations = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    scales = np.abs(values_BNC).max(axis=(0, 1))
    deviations = np.where(deviations > 1e-9 * scales, deviations, np.nan)  # rounding leaves more than 0 of a constant
    return (covariances / (deviations[:, :, None] * deviations[:, None, :])).clip(-1.0, 1.0)


def weighted_ranks(values_N: Array, weights_BN: Array) -> Array:
    """Rank clips that count several times, `[B, N]`: clips below, and half of those that are equal."""
    _, codes = np.unique(values_N, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(codes.max() + 1))
    at_BV = np.add.reduceat(weights_BN[:, order], starts, axis=1)
    return (np.cumsum(at_BV, axis=1) - at_BV / 2)[:, codes]


def _correlations(name: str, predicted_NC: Array, weights_BN: Array) -> Array:
    if name == "pearson":
        values = np.broadcast_to(predicted_NC, (len(weights_BN), *predicted_NC.shape))
    else:
        values = np.stack([weighted_ranks(column, weights_BN) for column in predicted_NC.T], axis=2)
    return weighted_correlations(values, weights_BN)


def _intervals(estimate_CC: Array, drawn_BCC: Array, num_groups: int) -> dict[str, list[list[float | None]]]:
    low, high = np.full_like(estimate_CC, np.nan), np.full_like(estimate_CC, np.nan)
    for row, column in np.ndindex(*estimate_CC.shape):
        values = drawn_BCC[:, row, column]
        values = np.sort(values[np.isfinite(values)])
        if row != column:
            bootstrap = Bootstrap(float(estimate_CC[row, column]), values, num_groups, len(drawn_BCC) - len(values))
            interval = bootstrap.interval(limits=(-1.0, 1.0))
            low[row, column], high[row, column] = interval.low, interval.high
    return {name: _plain(matrix) for name, matrix in (("value", estimate_CC), ("low", low), ("high", high))}


def _plain(matrix: Array) -> list[list[float | None]]:
    return [[float(value) if np.isfinite(value) else None for value in row] for row in matrix]
