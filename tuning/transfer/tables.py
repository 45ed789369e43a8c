"""Tables of transfer between tasks: who helps whom, cosines between gradients, weights, pseudo-labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from training.scoring.rows import Estimate
from training.scoring.tables import between, metric_name, number, table_of

__all__ = ["transfer_tables"]


def transfer_tables(report: Mapping[str, Any]) -> Iterator[Table | str]:
    """Lay out a report of `tuning.transfer.analysis.transfer_report` for a terminal."""
    yield (
        "Joint - alone on the same clips (in so many groups), percentage points, means over seeds (joint / alone), "
        "intervals over groups"
    )
    yield _figures(report["figures"])
    yield "Who helps whom: mean difference over a task's figures, beside the task alone"
    yield _matrix(report)
    if report["conflicts"]:
        yield "Cosine between gradients over shared parameters: below 0 the losses pull against each other"
        yield _spans(report["conflicts"], ("first", "second"), counts_negative=True)
    else:
        yield "No run logged cosines between gradients."
    joint = [row for row in report["weights"] if len(row["tasks"]) > 1]
    moved = [row for row in joint if np.ptp(row["values"]) > 0]
    yield "Weights of losses" if moved else "Weights of losses did not move."
    if moved:
        yield _spans(joint, ("term",))
    if report["accepted"]:
        yield "Share of candidates for pseudo-labels that counted"
        yield _spans(report["accepted"], ("task",))


def _figures(rows: Sequence[Mapping[str, Any]]) -> Table:
    figures = ("clips", "seeds", "alone", "joint", "difference [95 %]", "corr. p", "verdict")
    table = table_of(("task", "with", "corpus", "metric"), figures)
    for row in rows:
        p, difference = row["corrected_p"], Estimate(**row["difference"])
        seeds = f"{row['num_seeds']}"
        if row["num_seeds"] != row["num_seeds_alone"]:
            seeds += f" / {row['num_seeds_alone']}"
        table.add_row(
            row["task"], _others(row), f"{row['corpus']} {row['split']}", metric_name(row["metric"]),
            f"{row['num_clips']} in {row['num_groups']}", seeds, number(row["alone"]), number(row["joint"]),
            f"{number(difference.value, True)} {between(difference, True)}", "-" if p is None else f"{p:.3f}",
            row["verdict"],
        )  # fmt: skip
    return table


def _others(row: Mapping[str, Any]) -> str:
    return ", ".join(task for task in row["tasks"] if task != row["task"])


def _matrix(report: Mapping[str, Any]) -> Table:
    """A row per task, a column per set of others that it was trained with."""
    cells: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in report["figures"]:
        cells.setdefault(row["task"], {}).setdefault(_others(row), []).append(row)
    columns = list(dict.fromkeys(others for found in cells.values() for others in found))
    table = table_of(("task",), [f"with {others}" for others in columns])
    for task, found in cells.items():
        table.add_row(task, *(_summary(found.get(others, [])) for others in columns))
    return table


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    known = [row["difference"]["value"] for row in rows if row["difference"]["value"] is not None]
    if not known:
        return "-"
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("helped", "hurt")}
    told = ", ".join(f"{count} of {len(rows)} {verdict}" for verdict, count in counts.items() if count)
    return f"{np.mean(known):+.2f}" + (f" ({told})" if told else "")


def _spans(rows: Sequence[Mapping[str, Any]], names: Sequence[str], counts_negative: bool = False) -> Table:
    """A row per trajectory: its first, middle and last value, its mean."""
    table = table_of(("trained", *names), ("first", "middle", "last", "mean", *(["epochs below 0"] * counts_negative)))
    for row in rows:
        values = row["values"]
        shown = [values[0], values[len(values) // 2], values[-1], float(np.mean(values))]
        below = sum(value < 0 for value in values)
        table.add_row(
            ", ".join(row["tasks"]), *(row[name] for name in names), *(f"{value:.3f}" for value in shown),
            *([f"{below} of {len(values)}"] * counts_negative),
        )  # fmt: skip
    return table
