"""The table of a run's report about corpora that were not trained on, fitted to their clips without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.evaluation_tables import between, metric_name, number
from training.html_report import Cell, Table

__all__ = ["adapted_table"]


def adapted_table(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """Zero-shot figures beside those after a label shift, None where no corpus was fitted.

    Args:
        rows: `adapted` of the document of `training.full_evaluation.evaluate`.
    """
    cells: list[list[str | Cell]] = []
    for row in rows:
        if "reason" in row:
            continue
        beside = Cell(number(row["linear"]["value"]), between(row["linear"])) if "linear" in row else "-"
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in row["shares"].items())
        place = f"{row['corpus']} {row['split']}, {row['task']}"
        fitted = Cell(number(row["value"]), between(row), strong=True)
        cells.append([place, metric_name(row["metric"]), number(row["before"]), fitted, beside, shares])
    if not cells:
        return None
    caption = (
        "Not zero-shot: each class' logits standardised over the very clips that are evaluated, and weighted by the "
        "shares of classes that make these clips most likely. No label was read. One class per clip."
    )
    head = ["data and task", "metric", "zero-shot", "fitted", "linear, fitted", "shares, as estimated"]
    return Table(head, cells, caption, 2, folded="Unseen corpora, fitted to their clips without labels")
