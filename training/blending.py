"""How much of the network beside a linear path is worth keeping, chosen on dev."""

from __future__ import annotations

from typing import cast

import numpy as np

from mmpsr.model import MCDM, TaskTower
from training.config import RunConfig
from training.data import JoinedCorpora
from training.evaluation import evaluate_rows, predict

__all__ = ["SHARES", "choose_shares"]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def choose_shares(model: MCDM, joined: JoinedCorpora, config: RunConfig) -> dict[str, float]:
    """Set each linear-path task's share of the network: the best on dev that costs no dev metric.

    One epoch is best for all tasks together, so the network may by then have overfitted one of them. Of `SHARES`, a
    task takes the one with the highest mean of its dev metrics, among those under which no dev metric is below that of
    share 0, the linear path alone. Tasks without a linear path keep 1.

    Args:
        model: with its best weights; changed in place.
        joined: all clips.
        config: corpora and their metrics.

    Returns:
        The chosen share by task.
    """
    rows = joined.rows(config.corpora.trained(), "dev")
    chosen: dict[str, float] = {}
    for task in model.linear_paths:
        tower = cast(TaskTower, model.towers[task])
        values = {}
        for share in SHARES:
            tower.share.fill_(share)
            predicted = {task: predict(model, joined, rows)[task]}
            figures = evaluate_rows(predicted, joined, rows, {task: model.tasks[task]}, config.corpora)
            values[share] = np.array([figure.value for figure in figures])
        allowed = [share for share in SHARES if (values[share] >= values[0.0]).all()]
        chosen[task] = max(allowed, key=lambda share: float(np.nanmean(values[share])))
        tower.share.fill_(chosen[task])
    return chosen
