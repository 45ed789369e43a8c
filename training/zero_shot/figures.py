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
from mmpsr.tasks import TaskSpec
from training.evaluation.figures import NUM_RESAMPLES, metric_rows
from training.runs.stored import TaskSplit

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
            part = _part(rows, (corpus, split, task), spec, names, counts, predicted[places])
            figures += [{"system": system, **row} for row in _rows(part)]
    return {"figures": figures, "chosen": _chosen(figures, prompts), "num_resamples": NUM_RESAMPLES}


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


def _part(
    rows: pd.DataFrame,
    place: tuple[str, str, str],
    spec: TaskSpec,
    metrics: tuple[str, ...],
    counts_NC: NDArray[np.int64],
    predicted_NC: Array,
) -> TaskSplit:
    """Repeat rows as often as they count, without those that nothing is said of."""
    counts_NC = np.where(np.isfinite(predicted_NC).all(axis=1)[:, None], counts_NC, 0)
    each = np.repeat(np.arange(counts_NC.size), counts_NC.ravel())
    numbers, labels = each // spec.num_outputs, each % spec.num_outputs
    clips = rows.iloc[numbers][["corpus", "split", "clip_id", "group"]].reset_index(drop=True)
    return TaskSplit(*place, spec, metrics, clips, np.eye(spec.num_outputs)[labels], predicted_NC[numbers], None)


def _rows(part: TaskSplit) -> Iterator[dict[str, Any]]:
    for row in metric_rows(part):
        yield {
            "corpus": row.corpus, "split": row.split, "task": row.task, "metric": row.metric, "num": row.num_clips,
            "num_groups": row.num_groups, **asdict(row.model), "num_undefined": row.num_undefined,
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
