"""What a report tells of a run's figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from training.report.page import Cards, Charts, Section, Table
from training.report.performance import calibration_section, classes_section, confusion_section, figures_section
from training.report.subgroups import correlations_section, leakage_section, subgroups_section, subsets_section
from training.scoring.rows import Difference, Estimate, LeakageEffect, MetricRow

PLACE = {"corpus": "meld", "split": "test", "task": "emotion"}
OVER = Difference(4.613, -1.0, 9.0, p=0.02, corrected_p=0.04)
ROW = MetricRow(
    **PLACE, metric="macro_f1", num_clips=1200, num_groups=30, model=Estimate(54.613, 45.0, 63.5),
    linear=Estimate(50.0, 40.0, 60.0), over_linear=OVER,
)  # fmt: skip
RESULT = {**PLACE, "metric": "macro_f1", "num_clips": 1200, "model": 54.613, "linear": 50.0, "chance": 14.5}


def tables(section: Section) -> list[list[list[str]]]:
    found = [block for block in section.blocks if isinstance(block, Table)]
    return [[[f"{cell.text} {cell.note}".strip() for cell in row] for row in table.cells] for table in found]


def svgs(section: Section) -> list[str]:
    return [chart.svg for block in section.blocks if isinstance(block, Charts) for chart in block.charts]


def test_figures() -> None:
    section = figures_section([ROW], [RESULT, {**RESULT, "split": "dev", "model": float("nan")}], ["meld"])
    [cards] = [block for block in section.blocks if isinstance(block, Cards)]
    [card] = cards.cards
    assert (card.title, card.value, card.interval) == ("meld emotion (zero-shot): MF1", "54.61", "[45.00, 63.50]")
    assert list(card.notes) == ["4.61 above the linear baseline", "chance 14.50", "1,200 clips, 30 groups"]
    figures, metrics, dev = tables(section)
    assert figures == [
        ["meld emotion (zero-shot)", "MF1", "54.61 [45.00, 63.50]", "50.00 [40.00, 60.00]", "+4.61 [-1.00, +9.00]",
         "0.020", "0.040", "14.50", "1,200", "30"]
    ]  # fmt: skip
    assert metrics == [["MF1", "F1 averaged over classes"]]
    assert dev == [["meld", "emotion", "MF1", "1,200", "-", "50.00", "14.50"]]


@pytest.mark.parametrize(
    ("over", "note"),
    [(-0.2, "0.20 below the linear baseline"), (0.001, "the same as the linear baseline"), (None, "not comparable")],
)
def test_how_the_model_stands_beside_the_baseline(over: float | None, note: str) -> None:
    row = replace(ROW, over_linear=replace(OVER, value=over))
    [cards] = [block for block in figures_section([row], [], []).blocks if isinstance(block, Cards)]
    assert note in cards.cards[0].notes[0]


def test_without_a_stored_baseline_there_is_none_beside() -> None:
    row = replace(ROW, linear=None, over_linear=None)
    [[cells], _] = tables(figures_section([row], [RESULT], []))
    assert cells[3:7] == ["-", "-", "-", "-"]


def test_classes_are_drawn_by_metric_and_hostile_names_stay_names() -> None:
    rows = [replace(ROW, part=name, num_clips=3) for name in ("<i>", "Anger")]
    section = classes_section([*rows, replace(rows[0], metric="uar")], [])
    first, second = svgs(section)
    assert "&lt;i&gt;" in first
    assert "Anger" not in second
    assert tables(section)[0][1] == ["meld emotion", "MF1", "Anger", "54.61 [45.00, 63.50]", "3"]


def test_confusion_shades_are_shares_of_rows() -> None:
    row = {**PLACE, "classes": ["a", "b"], "counts": [[3, 1], [0, 0]]}
    [svg] = svgs(confusion_section([row], []))
    for opacity in (0.06 + 0.54 * 0.75, 0.06 + 0.54 * 0.25):
        assert f"opacity: {opacity:.3f}".rstrip("0") in svg
    assert svg.count(">·<") == 2


def test_calibration_tells_the_error() -> None:
    bins = [{"count": 3, "predicted": 0.2, "observed": 0.4}]
    [charts] = calibration_section([{**PLACE, "error": 0.123, "bins": bins}], []).blocks
    assert isinstance(charts, Charts)
    assert "12.3 %" in charts.charts[0].caption


def test_subgroups_that_are_small_are_in_the_table_alone() -> None:
    values = {"video+text": 700, "text": 500, "audio": 4}
    rows = [replace(ROW, part=name, num_clips=count) for name, count in values.items()]
    section = subgroups_section({"presence": rows, "by": [], "column": None}, [])
    [svg] = svgs(section)
    assert ">V+T (n=700)<" in svg
    assert ">T (n=500)<" in svg
    assert "n=4)" not in svg
    assert [row[2:] for row in tables(section)[0]] == [
        [name, "54.61 [45.00, 63.50]", f"{count}"] for name, count in values.items()
    ]
    by = [replace(ROW, part=name) for name in ("en", "fr")]
    [svg] = svgs(subgroups_section({"presence": [], "by": by, "column": "language"}, []))
    assert ">en (n=1200)<" in svg


def test_subsets_stand_by_value() -> None:
    values = {"text": 60.0, "video+text": 70.0, "audio": None, "text+text.lexica": 50.0}
    rows = [replace(ROW, part=name, model=replace(ROW.model, value=value)) for name, value in values.items()]
    [svg] = svgs(subsets_section(rows, []))
    assert svg.index(">V+T<") < svg.index(">T<") < svg.index(">T+T.lexica<")
    assert ">A<" not in svg


def test_correlations_between_tasks() -> None:
    value = [[1.0, 0.5, None], [0.5, 1.0, -0.25], [None, -0.25, 1.0]]
    matrices = {"value": value, "low": [[None, 0.1, None]] * 3, "high": [[None, 0.9, None]] * 3}
    row = {"corpus": "bah", "split": "test", "num_clips": 9, "outputs": ["a.x", "a.y", "b.z"], "spearman": matrices}
    section = correlations_section([row])
    assert [cells[1:] for cells in tables(section)[0]] == [["a.x", "b.z", "-"], ["a.y", "b.z", "-0.25"]]
    assert svgs(section)[0].count("var(--c2); opacity") == 2  # the negative pair, above and below the diagonal


def test_what_is_shared_with_training_stands_beside_what_is_not() -> None:
    unseen = replace(ROW, model=Estimate(40.0, 30.0, 50.0), num_clips=7)
    rows = [LeakageEffect("group", ROW, unseen), LeakageEffect("text", ROW, None)]
    first, second = tables(leakage_section(rows, []))[0]
    assert first[2:] == ["group", "54.61 [45.00, 63.50]\n1,200 clips", "40.00 [30.00, 50.00]\n7 clips"]
    assert second[-1] == "no such clip"


def test_without_rows_there_are_no_sections() -> None:
    for section in (
        classes_section([], []), confusion_section([], []), calibration_section([], []), subsets_section([], []),
        correlations_section([]), leakage_section([], []),
        subgroups_section({"presence": [], "by": [], "column": None}, []),
    ):  # fmt: skip
        assert not section.blocks, section.title
