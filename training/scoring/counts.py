"""What a run's clips and labels are, as counts: `data.json`, from which a report draws them.

```
{"clips":  [{corpus, split, num_clips, num_groups, present: {modality: clips}}],
 "labels": [{corpus, split, task, num_clips, classes: {class: clips}} or {..., histograms: {trait: clips by bin}}]}
```
A run adds `generated`, its corpora whose clips a program made (`corpora.registry.generated_corpora`).
Classes are counted where their label is above 0; histograms have bins of equal width over [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from corpora.clips import SPLITS, label_columns
from mmpsr.metrics.definitions import labeled_rows
from mmpsr.tasks import TaskSpec

__all__ = ["NUM_BINS", "summarize"]

NUM_BINS = 20


def summarize(table: pd.DataFrame, tasks: Mapping[str, TaskSpec]) -> dict[str, list[dict[str, Any]]]:
    """Count clips and labels.

    Args:
        table: clips with presence and labels, see `training.scoring.scores.prediction_table`.
        tasks: specifications.

    Returns:
        See the module's description.
    """
    counts: dict[str, list[dict[str, Any]]] = {"clips": [], "labels": []}
    groups = table["group"].astype("string").fillna("clip " + table["clip_id"].astype("string"))
    table = table.assign(group=groups)
    for corpus in table["corpus"].unique().tolist():
        of_corpus = table[table["corpus"].eq(corpus)]
        splits = {split: of_corpus[of_corpus["split"].eq(split)] for split in SPLITS}
        for split, clips in splits.items():
            if len(clips):
                place = {"corpus": str(corpus), "split": split}
                counts["clips"].append({**place, **_counted(clips)})
                counts["labels"] += [{**place, **labels} for labels in _labels(clips, tasks)]
    return counts


def _counted(clips: pd.DataFrame) -> dict[str, Any]:
    names = [str(name) for name in clips if str(name).startswith("present.")]
    present = {name.removeprefix("present."): int(clips[name].sum()) for name in names}
    return {"num_clips": len(clips), "num_groups": int(clips["group"].nunique()), "present": present}


def _labels(clips: pd.DataFrame, tasks: Mapping[str, TaskSpec]) -> Iterator[dict[str, Any]]:
    for task, spec in tasks.items():
        targets = clips[label_columns(task, spec)].to_numpy(dtype=np.float64)
        targets = targets[labeled_rows(targets, spec)]
        if not len(targets):
            continue
        entry = {"task": task, "num_clips": len(targets)}
        if spec.kind == "regression":
            counts = [
                np.histogram(column[np.isfinite(column)], NUM_BINS, (0.0, 1.0))[0].tolist() for column in targets.T
            ]
            yield {**entry, "histograms": dict(zip(spec.classes, counts, strict=True))}
        else:
            yield {**entry, "classes": dict(zip(spec.classes, (targets > 0).sum(axis=0).tolist(), strict=True))}
