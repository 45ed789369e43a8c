"""Warnings of a report: each appears when it should, and a sound run has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from corpora.checks.findings import Case, Finding
from mmpsr.calibration.calibration import Calibration, TaskCalibration
from tests.support import joined as small
from training.report.warnings import run_warnings
from training.scoring.rows import Difference, Estimate, MetricRow

FITTED = Calibration(tasks={"emotion": TaskCalibration(form="softmax", num_clips=50)})


def figure(**changes: Any) -> MetricRow:
    """A sound figure: many groups, a narrow interval, clearly above the baseline."""
    row = MetricRow(
        "mosei", "test", "emotion", "macro_f1", 900, 300, Estimate(60.0, 57.0, 63.0),
        over_linear=Difference(2.0, 1.0, 3.0, corrected_p=0.01),
    )  # fmt: skip
    return replace(row, **changes)


def record(epoch: int, dev_figure: float, loss: float = 0.1) -> dict[str, Any]:
    return {"epoch": epoch, "dev_figure": dev_figure, "terms": {"supervised/emotion": {"loss": loss}}}


def found(**changes: Any) -> list[tuple[str, str]]:
    """Warnings of a sound run of which something is changed."""
    sound: dict[str, Any] = {
        "config": small.config(),
        "figures": [figure()],
        "findings": [],
        "data": {
            "clips": [{"corpus": "mosei", "split": "test"}],
            "labels": [{"corpus": "mosei", "split": "test", "task": "emotion"}],
        },
        "records": [record(1, 50.0), record(2, 60.0), record(3, 55.0)],
        "calibration": FITTED,
        "defects": pd.DataFrame({"kind": pd.Series(["mended"], dtype="string")}),
        "ledger": pd.DataFrame({"status": ["absent"], "modality": ["text"]}, dtype="string"),
    }
    return [(warning.level, warning.text) for warning in run_warnings(**{**sound, **changes})]


def over(value: float | None, p: float | None = 0.2) -> MetricRow:
    return figure(over_linear=Difference(value, corrected_p=p))


def test_a_sound_run_has_none() -> None:
    assert found() == []


def test_generated_clips_tell_nothing_about_people() -> None:
    data = {"clips": [], "labels": [], "generated": ["mosei", "meld"]}
    text = "A program made the clips of mosei, meld: their figures tell nothing about people."
    assert found(data=data) == [("serious", text)]


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({"figures": [figure(num_groups=29)]}, "caution", "Fewer than 30 groups: mosei emotion (29)."),
        ({"figures": [figure(model=Estimate(60.0, 57.0, 67.5))]}, "caution",
         "wider than 10 percentage points: mosei emotion MF1 (10)."),
        ({"figures": [figure(model=Estimate(60.0))]}, "caution", "No interval can be given: mosei emotion MF1."),
        ({"figures": [figure(corpus="meld")]}, "note", "Zero-shot, never trained on: meld."),
        ({"figures": [figure(split="dev")]}, "serious", "mosei: there is no labelled test clip"),
        ({"records": [record(1, 50.0), record(2, float("nan"))]}, "serious", "loss or dev figure of epoch 2 is"),
        ({"records": [record(1, 50.0, float("inf"))]}, "serious", "of epoch 1 is"),
        ({"records": [record(n, n) for n in range(1, 5)]}, "caution", "The last epoch was the best"),
        ({"config": small.config(training={"calibration": "none"})}, "caution", "Nothing was calibrated"),
        ({"defects": pd.DataFrame({"kind": ["missing_text"] * 2})}, "note", "defects: 2 missing_text; see"),
        ({"ledger": pd.DataFrame({"status": ["failed"], "modality": ["audio"]})}, "note", "not be made: 1 audio;"),
        ({"data": {"clips": [{"corpus": "a", "split": "dev"}], "labels": []}}, "note", "Without any label: a dev."),
        ({"findings": [{"kind": "group", "message": "3 test clips share a group"}]}, "serious", "3 test clips share a"),
        ({"findings": [{"kind": "unchecked", "message": "the run has no file"}]}, "note", "The run has no file."),
    ],
)  # fmt: skip
def test_each_alone(changes: dict[str, Any], level: str, text: str) -> None:
    [(found_level, found_text)] = found(**changes)
    assert (found_level, text in found_text) == (level, True), found_text


def test_beside_the_linear_baseline() -> None:
    none_above = "No figure is clearly above the linear baseline's (p below 0.05, corrected over all figures)."
    assert found(figures=[over(-1.0, 0.01)]) == [
        ("serious", "The model is clearly below the linear baseline on the same features: mosei emotion MF1 (-1.00)."),
        ("caution", none_above),
    ]
    assert found(figures=[over(-1.0), figure()]) == [
        ("caution", "The model is below the linear baseline on the same features: mosei emotion MF1 (-1.00).")
    ]
    assert found(figures=[over(1.0)]) == [("caution", none_above)]
    assert found(figures=[over(None, None)]) == [("caution", none_above)]
    without = figure(over_linear=None)  # a run that did not store the baseline's predictions
    assert found(figures=[without]) == []


def test_dev_that_cannot_choose() -> None:
    finding = Finding("bah", "weak_dev", "warning", "dev cannot choose", (Case(None, "dev", "task 'a': 3 clips"),))
    assert found(choice=[finding]) == [("caution", "bah: dev cannot choose: task 'a': 3 clips.")]


def test_zero_shot_dev_is_no_dev() -> None:
    assert [level for level, _ in found(figures=[figure(corpus="meld", split="dev")])] == ["note"]


def test_dev_that_chose_is_told_once() -> None:
    finding = {"kind": "chosen_by", "message": "dev of mosei chose the model's epoch"}
    assert len(found(figures=[figure(split="dev")], findings=[finding])) == 1


def test_what_calibration_could_not_fit() -> None:
    task = TaskCalibration(form="softmax", num_clips=3, notes=("too few clips",))
    [(level, text)] = found(calibration=Calibration(tasks={"emotion": task}))
    assert (level, text) == ("note", "Calibration was fitted in part. emotion: too few clips.")


def test_many_names_are_counted() -> None:
    [(_, text)] = found(figures=[figure(corpus=f"c{n}", num_groups=2) for n in range(11)])
    assert "c7 emotion (2) and 3 more." in text
    assert "c8" not in text


def test_the_last_epoch_may_be_the_best_where_patience_ended_training() -> None:
    assert found(config=small.config(training={"num_epochs": 9}), records=[record(1, 1.0), record(2, 2.0)]) == []
