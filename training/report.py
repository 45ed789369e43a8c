"""The printed table of a finished run: the model beside chance and the linear baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

__all__ = ["SHORT_NAMES", "result_table"]

SHORT_NAMES: Mapping[str, str] = {
    "multilabel_macro_f1": "mMF1",
    "multilabel_weighted_accuracy": "mWACC",
    "multilabel_weighted_f1": "mWF1",
    "macro_f1": "MF1",
    "weighted_f1": "WF1",
    "uar": "UAR",
    "positive_f1": "F1+",
    "negative_f1": "F1-",
    "average_precision": "AP",
    "bah_average_precision": "AP (BAH)",
    "mean_accuracy": "mACC",
    "mean_ccc": "mCCC",
}
"""Metric name -> the literature's abbreviation."""


def result_table(results: Sequence[Mapping[str, Any]], zero_shot: Sequence[str]) -> Table:
    """One row per corpus, split, task and metric.

    Args:
        results: rows of `results.json` with `corpus, split, task, metric, num_clips, model, linear, chance`.
        zero_shot: corpora that were never trained on.
    """
    table = Table(title="Results in percent, higher is better; best dev weights", title_justify="left")
    for name in ("corpus", "split", "task", "metric"):
        table.add_column(name)
    for name in ("clips", "model", "linear", "chance"):
        table.add_column(name, justify="right")
    previous = None
    for row in results:
        key = (row["corpus"], row["split"], row["task"])
        if previous is not None and key[0] != previous[0]:
            table.add_section()
        corpus = f"{row['corpus']} (zero-shot)" if row["corpus"] in zero_shot else row["corpus"]
        shown = (corpus, row["split"], row["task"]) if key != previous else ("", "", "")
        previous = key
        model = _percent(row["model"])
        table.add_row(
            *shown,
            SHORT_NAMES.get(row["metric"], row["metric"]),
            str(row["num_clips"]),
            f"[bold]{model}[/bold]",
            _percent(row["linear"]),
            _percent(row["chance"]),
        )
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"
