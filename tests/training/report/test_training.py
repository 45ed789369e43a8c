"""What a report tells of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.report.page import Cards, Charts
from training.report.training import best_epoch, cost_section, read_metrics, training_section


def record(epoch: int, **more: Any) -> dict[str, Any]:
    """As `training.fit.progress.epoch_record` writes it."""
    names = [f"{branch}/{task}" for branch in ("supervised", "pseudo") for task in ("emotion", "personality")]
    terms = {name: {"loss": 0.5 / epoch, "count": 9.0, "weight": 1.0} for name in names}
    dev = {"mosei/emotion/multilabel_macro_f1": 50.0 + epoch, "fiv2/personality/mean_ccc": 10.0}
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "lr": 1e-3,
        "dev_figure": 30.0 + epoch,
        "dev": dev,
        "terms": terms,
        **more,
    }


def titles(records: list[dict[str, Any]]) -> list[str]:
    blocks = training_section(records, "mean").blocks
    return [chart.title for block in blocks if isinstance(block, Charts) for chart in block.charts]


CURVES = [
    "Dev figure: mean", "Dev figures of emotion", "Dev figures of personality", "Losses, supervised branch",
    "Losses, pseudo branch", "Weights, supervised branch", "Weights, pseudo branch",
]  # fmt: skip


def test_curves_of_every_kind_of_record() -> None:
    assert titles([record(1), record(2)]) == CURVES
    pseudo = {
        "accepted": {"emotion": {"Anger": 0.5}},
        "pseudo_label_quality": {"emotion": {"acceptance": 0.5, "accuracy": 0.9}},
    }
    assert titles([record(1), record(2, **pseudo)]) == [
        *CURVES, "Accepted pseudo-labels of emotion", "Accuracy of accepted pseudo-labels"
    ]  # fmt: skip
    cosines = {"supervised/emotion": {"supervised/personality": -0.5, "pseudo/emotion": 0.25}}
    assert titles([record(1, gradient_cosines=cosines), record(2)]) == [
        *CURVES, "Gradient conflict", "Cosines of supervised gradients"
    ]  # fmt: skip


def test_no_record_no_section() -> None:
    assert training_section([], "mean").blocks == []
    assert cost_section([], {}).blocks == []


def test_the_conflict_matrix_is_the_mean_over_epochs_and_symmetric() -> None:
    records = [record(1, gradient_cosines={"supervised/a": {"supervised/b": 0.5}})]
    records.append(record(2, gradient_cosines={"supervised/a": {"supervised/b": -0.1}}))
    charts = [
        chart
        for block in training_section(records, "mean").blocks
        if isinstance(block, Charts)
        for chart in block.charts
    ]
    [matrix] = [chart.svg for chart in charts if chart.title == "Gradient conflict"]
    assert matrix.count(">0.20<") == 2  # (0.5 - 0.1) / 2, above and below the diagonal


@pytest.mark.parametrize(
    ("figures", "best"), [([1.0, 3.0, 2.0], 2), ([2.0, 2.0], 1), ([float("nan"), 1.0], 2), ([float("nan")], None)]
)
def test_the_best_epoch_is_the_first_of_the_highest(figures: list[float], best: int | None) -> None:
    assert best_epoch([{"epoch": n, "dev_figure": value} for n, value in enumerate(figures, start=1)]) == best


def test_cost() -> None:
    measured = {
        "num_parameters": 1234, "num_epochs": 2, "num_steps": 20, "seconds_per_epoch": 3.456, "seconds_per_step": 0.1,
        "peak_megabytes": 1500.5, "device": "cpu", "num_threads": 2,
    }  # fmt: skip
    [cards] = cost_section([record(1), record(2)], measured).blocks
    assert isinstance(cards, Cards)
    assert [(card.title, card.value) for card in cards.cards] == [
        ("Parameters", "1,234"), ("Seconds an epoch", "3.46"), ("Peak memory, MB", "1,500"), ("Epochs", "2")
    ]  # fmt: skip
    assert cards.cards[1].notes == ["on cpu with 2 threads, dev figures included"]
    assert cards.cards[3].notes == ["20 optimizer steps", "weights are of epoch 2"]
    [cards] = cost_section([], {**measured, "seconds_per_epoch": None, "peak_megabytes": None}).blocks
    assert isinstance(cards, Cards)
    assert [card.title for card in cards.cards] == ["Parameters"]


def test_metrics_are_read_as_they_were_logged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    path.write_text("".join(json.dumps(record(n)) + "\n" for n in (1, 2)), encoding="utf-8")
    assert read_metrics(path) == [record(1), record(2)]
