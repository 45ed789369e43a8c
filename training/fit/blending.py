"""What a linear path and the network beside it are combined to, chosen on dev."""

from __future__ import annotations

import itertools
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from mmpsr.models.base import FusionModel, Tower
from training.config import RunConfig
from training.data.joined import JoinedCorpora
from training.fit.baseline import LinearBaseline
from training.scoring.scores import evaluate_rows, predict

__all__ = ["SHARES", "Blend", "choose_blends"]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
TOLERANCE = 1e-4  # percent; the model computes in single precision, the baseline in double


class Blend(NamedTuple):
    """The network's share beside a linear path, and the spread of scores, 1 for other tasks."""

    share: float
    spread: float


def choose_blends(
    model: FusionModel, joined: JoinedCorpora, config: RunConfig, baseline: LinearBaseline
) -> dict[str, Blend]:
    """Set how every task with a linear path combines it with the network: the best on dev that costs no dev metric.

    One epoch is best for all tasks together, so the network may by then have overfitted one of them; and scores fitted
    to small errors vary less than the truth, which concordance punishes. Of `SHARES` and the baseline's `spreads`, a
    task takes what gives the highest mean of its dev metrics, where no dev metric is below the linear baseline's; of
    all where that cannot be had. Tasks without a linear path keep the whole network.

    Args:
        model: with its best weights; changed in place.
        joined: all clips.
        config: corpora and their metrics.
        baseline: linear models of the same features.

    Returns:
        What was chosen, by task.
    """
    rows = joined.rows(config.corpora.trained(), "dev")
    towers = {task: cast(Tower, model.towers[task]) for task in model.linear_paths}
    tasks = {task: model.tasks[task] for task in towers}
    values: dict[str, dict[Blend, NDArray[np.float64]]] = {task: {} for task in towers}
    spreads = {task: baseline.spreads(task) for task in towers}
    tried = max(spreads.values(), key=len, default=())
    for blend in itertools.starmap(Blend, itertools.product(SHARES, tried)):
        changed = {task: tower for task, tower in towers.items() if blend.spread in spreads[task]}
        for tower in changed.values():
            _set(tower, blend)
        figures = evaluate_rows(predict(model, joined, rows), joined, rows, tasks, config.corpora)
        for task in changed:
            values[task][blend] = np.array([figure.value for figure in figures if figure.task == task])
    chosen: dict[str, Blend] = {}
    for task, found in values.items():
        floor = baseline.dev_metrics(task)
        allowed = [blend for blend, reached in found.items() if (reached >= floor - TOLERANCE).all()]
        chosen[task] = max(allowed or found, key=lambda blend: float(np.nanmean(found[blend])))
        _set(towers[task], chosen[task])
    return chosen


def _set(tower: Tower, blend: Blend) -> None:
    tower.share.fill_(blend.share)
    if tower.regression:
        tower.spread.fill_(blend.spread)
