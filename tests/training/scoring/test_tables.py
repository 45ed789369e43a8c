"""Tables of an evaluation: what there is nothing of has no table."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from training.scoring.rows import Estimate, MetricRow
from training.scoring.tables import few_groups, tables


def bare() -> dict[str, Any]:
    names = ("figures", "classes", "presence", "subsets", "adapted", "by", "aggregated", "calibration", "confusion",
             "correlations")  # fmt: skip
    document: dict[str, Any] = {name: [] for name in names}
    document |= {
        "leakage": {"findings": [], "effects": [], "checked": False},
        "num_resamples": 2000,
        "column": None,
        "whole": None,
    }
    return document


def test_tables_without_rows_are_left_out() -> None:
    document = bare()
    sentences = [part for part in tables(document) if isinstance(part, str)]
    assert not any(part.startswith(("Expected calibration error", "Outputs of different")) for part in sentences)
    row = {"corpus": "mine", "split": "test", "task": "emotion", "error": 0.125}
    parts = list(tables({**document, "calibration": [row]}))
    assert "Expected calibration error in percent, lower is better" in parts


@pytest.mark.parametrize(
    ("estimate", "titles"),
    [(Estimate(50.0), ["clips", "model"]), (Estimate(50.0, 40.0, 60.0), ["clips", "model", ""])],
)
def test_a_column_of_intervals_stands_only_where_there_is_one(estimate: Estimate, titles: list[str]) -> None:
    row = MetricRow("mine", "test", "emotion", "uar", 7, 1, estimate, part="Anger")
    of_classes = next(each for each in tables({**bare(), "classes": [row]}) if isinstance(each, Table) and each.rows)
    assert [str(column.header) for column in of_classes.columns][5:] == titles
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(of_classes)
    shown = console.export_text()
    assert "50.00" in shown
    assert ("[40.00, 60.00]" in shown) == (estimate.low is not None)


def test_few_groups_are_named_once_and_no_more_than_eight() -> None:
    assert few_groups([("bah", "ambivalence", 30)]) is None
    text = few_groups([("bah", "ambivalence", 29), ("bah", "ambivalence", 29), ("fiv2", "personality", 99)])
    assert text == "Fewer than 30 groups: bah ambivalence (29). Intervals and p from so few are unsure themselves."
    assert "c7 t (5) and 2 more. " in str(few_groups((f"c{number}", "t", 5) for number in range(10)))
