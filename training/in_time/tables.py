"""Tables of a run of a model in time for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from training.scoring.tables import metric_name, number, table_of

__all__ = ["result_table"]


def result_table(results: Sequence[Mapping[str, Any]], splits: Sequence[str] = ("test",), num_seeds: int = 1) -> Table:
    """Lay out a row by corpus, split, level and metric.

    Args:
        results: of `training.in_time.figures.results_of`.
        splits: that are shown; dev stands in for corpora without test.
        num_seeds: runs that the figures are means of.
    """
    tested = {row["corpus"] for row in results if row["split"] in splits}
    shown = [
        row for row in results if row["split"] in splits or (row["corpus"] not in tested and row["split"] == "dev")
    ]
    table = table_of(
        ("corpus", "split", "of", "metric"), ("model", "95 %", "linear", "model - linear", "all absent", "all present")
    )
    over = (
        f"means and t intervals over {num_seeds} seeds" if num_seeds > 1 else "intervals over groups, as participants"
    )
    table.title = f"Results in percent, higher is better; best dev epoch; {over}"
    table.title_justify = "left"
    previous = None
    for row in shown:
        key = row["corpus"], row["split"], row["level"]
        if previous is not None and key != previous:
            table.add_section()
        count = f"{row['num_frames']:,} frames" if row["level"] == "frame" else f"{row['num_clips']:,} clips"
        place = (row["corpus"], row["split"], count) if key != previous else ("", "", "")
        previous = key
        table.add_row(
            *place, metric_name(row["metric"]), f"[bold]{number(row['model'])}[/bold]", _ends(row, ""),
            number(row["linear"]), f"{number(row['over_linear'], sign=True)} {_ends(row, 'over_linear_', True)}",
            number(row["absent"]), number(row["present"]),
        )  # fmt: skip
    return table


def _ends(row: Mapping[str, Any], prefix: str, sign: bool = False) -> str:
    low, high = row[f"{prefix}low"], row[f"{prefix}high"]
    return "" if low is None else f"[{number(low, sign)}, {number(high, sign)}]"
