"""Tables of an evaluation: what there is nothing of has no table."""

from __future__ import annotations

from typing import Any

from training.scoring.tables import few_groups, tables


def test_tables_without_rows_are_left_out() -> None:
    names = ("figures", "classes", "presence", "subsets", "adapted", "by", "aggregated", "calibration", "confusion",
             "correlations")  # fmt: skip
    document: dict[str, Any] = {name: [] for name in names}
    document |= {
        "leakage": {"findings": [], "effects": [], "checked": False},
        "num_resamples": 2000,
        "column": None,
        "whole": None,
    }
    sentences = [part for part in tables(document) if isinstance(part, str)]
    assert not any(part.startswith(("Expected calibration error", "Outputs of different")) for part in sentences)
    row = {"corpus": "mine", "split": "test", "task": "emotion", "error": 0.125}
    parts = list(tables({**document, "calibration": [row]}))
    assert "Expected calibration error in percent, lower is better" in parts


def test_few_groups_are_named_once_and_no_more_than_eight() -> None:
    assert few_groups([("bah", "ambivalence", 30)]) is None
    text = few_groups([("bah", "ambivalence", 29), ("bah", "ambivalence", 29), ("fiv2", "personality", 99)])
    assert text == "Fewer than 30 groups: bah ambivalence (29). Intervals and p from so few are unsure themselves."
    assert "c7 t (5) and 2 more. " in str(few_groups((f"c{number}", "t", 5) for number in range(10)))
