"""What read answers are worth: figures with intervals of every prompt, beside predictors that say one class always.

Shape suffixes: N rows of the table of answers, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.clips import SPLITS, label_columns
from corpora.registry import CorporaConfig
from mmpsr.metrics.bootstrap import bootstrap
from mmpsr.metrics.sums import metric_statistic
from mmpsr.tasks import TaskSpec
from training.evaluation import figures as evaluation
from training.evaluation.figures import estimate

__all__ = ["CHOSEN_BY", "LIKELIHOOD", "evaluate_answers", "rows_by_split"]

CHOSEN_BY = "macro_f1"
"""The metric on dev by which a prompt is marked."""
LIKELIHOOD = "likelihood"
"""What stands behind a prompt's name where classes are decided by the likelihoods of their answers."""
RANKED = ("average_precision", "bah_average_precision")
"""Metrics that need probabilities, which answers are not."""
_OF_TWO = ("positive_f1", "negative_f1")

Array = NDArray[np.float64]


def evaluate_answers(
    answered: pd.DataFrame, task: str, spec: TaskSpec, prompts: Sequence[str], corpora: CorporaConfig
) -> dict[str, Any]:
    """Compute all figures; each follows from the table of answers alone.

    Rows count as often as their label columns say: a clip once, a chunk once a frame, so that frames of all clips are
    pooled. Rows without an answer are left out of the figures of their prompt (`num` says how many are in), the
    constant predictors have all rows.

    Args:
        answered: `corpus, split, clip_id, group`, label columns that count, `class.<prompt>`, and where asked for
            `likelihood.<prompt>.<class>`.
        task: its name.
        spec: the task.
        prompts: names, in the order of the result.
        corpora: which metrics each corpus reports.

    Returns:
        `figures`, a row per corpus, split, system and metric in percent; `chosen`, the prompt that is best on dev (the
        first of equals), None where dev was not asked or there is one prompt only; and `num_resamples`.
    """
    systems = dict(_systems(answered, spec, prompts))
    figures = []
    for corpus, split, places in rows_by_split(answered):
        rows = answered.iloc[places]
        counts = rows[label_columns(task, spec)].fillna(0).to_numpy(dtype=np.int64)
        for system, predicted in systems.items():
            names = _metrics(corpora.metrics(corpus, task, spec), spec, system.endswith(f" {LIKELIHOOD}"))
            place = {"system": system, "corpus": corpus, "split": split, "task": task}
            figures += [{**place, **row} for row in _rows(rows, names, counts, predicted[places], spec)]
    return {"figures": figures, "chosen": _chosen(figures, prompts), "num_resamples": evaluation.NUM_RESAMPLES}


def rows_by_split(answered: pd.DataFrame) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """Yield the numbers of the rows of each corpus and split, in the table's order."""
    for corpus in answered["corpus"].unique():
        for split in SPLITS:
            places = np.flatnonzero(answered["corpus"].eq(corpus) & answered["split"].eq(split))
            if len(places):
                yield str(corpus), split, places


def _systems(answered: pd.DataFrame, spec: TaskSpec, prompts: Sequence[str]) -> Iterator[tuple[str, Array]]:
    """Yield what each system says of every row, `[N, C]`, NaN where nothing."""
    one_hot = np.eye(spec.num_outputs)
    for prompt in prompts:
        labels = answered[f"class.{prompt}"]
        predicted = np.full((len(answered), spec.num_outputs), np.nan)
        for place, name in enumerate(spec.classes):
            predicted[labels.eq(name).fillna(False).to_numpy(dtype=bool)] = one_hot[place]
        yield prompt, predicted
        columns = [f"{LIKELIHOOD}.{prompt}.{name}" for name in spec.classes]
        if columns[0] in answered:
            yield f"{prompt} {LIKELIHOOD}", answered[columns].to_numpy(dtype=np.float64)
    for place, name in enumerate(spec.classes):
        yield f"all {name}", np.tile(one_hot[place], (len(answered), 1))


def _metrics(reported: Sequence[str], spec: TaskSpec, is_ranked: bool) -> tuple[str, ...]:
    """List what is reported: F1 of each of two classes, their mean, WF1, the corpus' own; AP of probabilities alone."""
    names = [*(_OF_TWO if spec.num_outputs == 2 else ()), "macro_f1", "weighted_f1", *reported]
    if is_ranked and spec.num_outputs == 2:
        names += RANKED
    return tuple(name for name in dict.fromkeys(names) if is_ranked or name not in RANKED)


def _rows(
    rows: pd.DataFrame, metrics: Sequence[str], counts_NC: NDArray[np.int64], predicted_NC: Array, spec: TaskSpec
) -> Iterator[dict[str, Any]]:
    """Evaluate every metric with its interval, of rows that something is said of."""
    is_known = np.isfinite(predicted_NC).all(axis=1)
    numbers, labels = np.nonzero(np.where(is_known[:, None], counts_NC, 0))
    targets, counts = np.eye(spec.num_outputs)[labels], counts_NC[numbers, labels]
    alone = pd.Series([f"clip {name}" for name in rows["clip_id"]], index=rows.index, dtype="string")
    groups = rows["group"].astype("string").fillna(alone).to_numpy(str)[numbers]
    num_groups = len(np.unique(groups))
    for metric in metrics:
        of_all = metric_statistic(metric, groups, targets, predicted_NC[numbers], spec, None, counts)
        resamples = bootstrap(of_all, num_groups, evaluation.NUM_RESAMPLES)
        yield {
            "metric": metric, "num": int(counts.sum()), "num_groups": num_groups,
            **asdict(estimate(resamples, metric)), "num_undefined": resamples.num_undefined,
        }  # fmt: skip


def _chosen(figures: Sequence[Mapping[str, Any]], prompts: Sequence[str]) -> dict[str, Any] | None:
    """Mark the prompt with the highest figure on dev, the mean over corpora; test is never looked at."""
    means = {}
    for prompt in prompts:
        values = [
            row["value"]
            for row in figures
            if row["split"] == "dev" and row["system"] == prompt and row["metric"] == CHOSEN_BY
        ]
        if values and None not in values:
            means[prompt] = float(np.mean(values))
    if len(prompts) < 2 or not means:
        return None
    best = max(means, key=lambda prompt: means[prompt])
    return {"prompt": best, "split": "dev", "metric": CHOSEN_BY, "value": means[best]}
