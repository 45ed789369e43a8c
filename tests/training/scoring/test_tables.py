"""Tables of an evaluation: what there is nothing of has no table."""

from __future__ import annotations

from typing import Any

from training.scoring.tables import tables


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
