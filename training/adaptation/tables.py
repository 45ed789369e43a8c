"""What `mmpsr adapt` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from training.adaptation.figures import FIGURES
from training.scoring.rows import Estimate
from training.scoring.tables import between, number, table_of

__all__ = ["tables"]

SKIPPED_SHOWN = 5
LABELS_READ = {"oracle": "oracle (reads labels)"}


def tables(document: Mapping[str, Any]) -> Iterator[Table | str]:
    """Lay out figures over participants, differences from the source network, who is left out, and where files are."""
    settings = document["settings"]["protocol"]
    people = len({row["participant"] for row in document["participants"]})
    seeds = len(settings["seeds"])
    yield (
        f"{document['corpus']}, {document['task']}: {people} test participants, {seeds} seed(s); "
        "mean and sample standard deviation over participants, in percent"
    )
    yield _means(document)
    yield "Difference from source only on the same participants, percentage points; p corrected over all rows (Holm)"
    yield _differences(document)
    skipped = document["skipped"]
    for row in skipped[:SKIPPED_SHOWN]:
        yield escape(f"left out: {row['participant']}: {row['reason']}")
    if len(skipped) > SKIPPED_SHOWN:
        yield f"left out: {len(skipped) - SKIPPED_SHOWN} more participants, see adaptation.json"
    for note in document["notes"]:
        yield escape(note)
    if settings["select"] == "labelled":
        yield "Epochs were chosen by labels of each participant's validation part: not unsupervised"
    adapted = "a bottleneck and a classifier upon stored vectors (form features); the encoder stays as it is"
    if document["form"] == "network":
        head = document["settings"]["network"]["head"]
        adapted = f"{' and '.join(document['encoders'].values())} with a {head} upon it (form network)"
    yield escape(f"Adapted is {adapted}. Files: {document['folder']}")


def _means(document: Mapping[str, Any]) -> Table:
    columns = {**FIGURES, "share_predicted": "predicted present"}
    table = table_of(("method",), ("participants", *columns.values(), "present"))
    cells = {(row["method"], row["figure"]): row for row in document["methods"]}
    for method in dict.fromkeys(method for method, _ in cells):
        values = [_spread(cells[method, figure]) for figure in columns]
        people = str(cells[method, "average_f1"]["num_participants"])
        table.add_row(LABELS_READ.get(method, method), people, *values, number(cells[method, "share_present"]["mean"]))
    return table


def _spread(row: Mapping[str, Any]) -> str:
    of = f" (of {row['num_participants']})" if row["num_without"] else ""
    return f"{number(row['mean'])} ± {number(row['deviation'])}{of}"


def _differences(document: Mapping[str, Any]) -> Table:
    table = table_of(
        ("method", "figure"),
        ("participants", "difference", "95 % interval", "p", "corrected p", "Wilcoxon p", "better", "worse"),
    )
    for row in document["comparisons"]:
        difference = Estimate(**(row["difference"] or {"value": None, "low": None, "high": None}))
        ps = ["-" if p is None else f"{p:.3f}" for p in (row["p"], row["corrected_p"], row["wilcoxon_p"])]
        table.add_row(
            LABELS_READ.get(row["method"], row["method"]), FIGURES[row["figure"]], str(row["num_participants"]),
            number(difference.value, True), escape(between(difference, True)), *ps, str(row["better"]),
            str(row["worse"]),
        )  # fmt: skip
    return table
