"""Sections of a report on performance: figures, classes, confusion, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from training.report.charts import Range, forest, heat, reliability
from training.report.page import Block, Card, Cards, Cell, Chart, Charts, Section, Table, Text
from training.scoring.rows import AdaptedRow, Estimate, MetricRow, NotAdapted
from training.scoring.tables import between, metric_name, number

__all__ = [
    "AXES",
    "UNIT",
    "Row",
    "adapted_table",
    "calibration_section",
    "classes_section",
    "confusion_section",
    "coverage_section",
    "estimate_cell",
    "figures_section",
    "part_cells",
    "place_of",
    "rows_by_place",
    "title_of",
]

Row = Mapping[str, Any]
UNIT = "%, higher is better"
LONG_NAMES: Mapping[str, str] = {
    "multilabel_macro_f1": "macro F1 of each emotion's presence, averaged over emotions",
    "multilabel_weighted_accuracy": "weighted accuracy of each emotion's presence, averaged over emotions",
    "multilabel_weighted_f1": "weighted F1 of each emotion's presence, averaged over emotions",
    "macro_f1": "F1 averaged over classes",
    "weighted_f1": "F1 averaged over clips",
    "uar": "recall averaged over classes (unweighted average recall)",
    "positive_f1": "F1 of the last class",
    "negative_f1": "F1 of the first class",
    "average_precision": "average precision of the last class",
    "bah_average_precision": "average precision of the last class as BAH defines it",
    "mean_accuracy": "1 - mean absolute error, averaged over traits",
    "mean_ccc": "concordance correlation coefficient, averaged over traits",
}
AXES = [("dot", "model, 95 % interval"), ("diamond", "linear baseline"), ("tick", "chance")]


def figures_section(
    rows: Sequence[MetricRow], results: Sequence[Row], zero_shot: Sequence[str], adapted: Table | None = None
) -> Section:
    """Show figures with intervals beside the linear baseline and chance.

    Args:
        rows: `figures` of the document.
        results: `results.json`, for chance and the dev figures.
        zero_shot: corpora that were never trained on.
        adapted: of `adapted_table`.
    """
    chance = {(*place_of(row), row["metric"]): _finite(row["chance"]) for row in results}
    cards, charts, table = [], [], []
    for index, (place, of_place) in enumerate(rows_by_place(rows).items()):
        title = title_of(place, zero_shot)
        first = of_place[0]
        counts = f"{first.num_clips:,} clips, {first.num_groups:,} groups"
        notes = [f"chance {number(chance.get(first.key))}", counts]
        if first.over_linear is not None:
            notes.insert(0, _beside_linear(first.over_linear.value))
        cards.append(
            Card(f"{title}: {metric_name(first.metric)}", number(first.model.value), between(first.model), notes)
        )
        ranges = [
            Range(
                metric_name(row.metric),
                row.model.value,
                row.model.low,
                row.model.high,
                linear=row.linear.value if row.linear else None,
                chance=chance.get(row.key),
            )
            for row in of_place
        ]
        caption = f"{counts}. A model earns its name where the dot and its interval lie right of the diamond."
        charts.append(Chart(title, forest(ranges, UNIT, f"figures{index}"), caption, AXES))
        table += [_figure_cells(row, title, chance.get(row.key)) for row in of_place]
    caption = (
        "Percent, higher is better. Small: 95 % intervals over groups (participants, videos or dialogues), which say "
        "how far other clips would give other figures; another seed gives others, too. p is of the same resamples as "
        "the interval of model - linear: below 0.05 where that leaves out 0. Corrected p is so for all rows (Holm)."
    )
    head = [
        "data and task",
        "metric",
        "model",
        "linear",
        "model - linear",
        "p",
        "corrected p",
        "chance",
        "clips",
        "groups",
    ]
    blocks: list[Block] = [Cards(cards), Charts(charts), Table(head, table, caption, 2)]
    if adapted is not None:
        blocks.append(adapted)
    metrics = dict.fromkeys(row.metric for row in rows)
    names = [[metric_name(name), LONG_NAMES[name]] for name in metrics if name in LONG_NAMES]
    if names:
        blocks.append(Table(["metric", "what it is"], names, "", 2, folded="What the metrics are"))
    dev = [row for row in results if row["split"] == "dev"]
    if dev:
        cells = [
            [row["corpus"], row["task"], metric_name(row["metric"]), f"{row['num_clips']:,}",
             *(number(row[name]) for name in ("model", "linear", "chance"))]
            for row in dev
        ]  # fmt: skip
        head = ["corpus", "task", "metric", "clips", "model", "linear", "chance"]
        caption = "Weights and calibration were chosen on dev: its figures are too good to compare."
        blocks.append(Table(head, cells, caption, 3, folded="Figures on dev"))
    return Section("figures", "Figures", blocks)


def _beside_linear(over: float | None) -> str:
    if over is None or abs(over) < 0.005:
        return "not comparable with the linear baseline" if over is None else "the same as the linear baseline"
    return f"{number(abs(over))} {'above' if over > 0 else 'below'} the linear baseline"


def _figure_cells(row: MetricRow, title: str, chance: float | None) -> list[str | Cell]:
    cells: list[str | Cell] = [title, metric_name(row.metric), estimate_cell(row.model, strong=True)]
    over = row.over_linear
    if row.linear is not None and over is not None:
        ps = ["-" if p is None else f"{p:.3f}" for p in (over.p, over.corrected_p)]
        cells += [estimate_cell(row.linear), Cell(number(over.value, True), between(over, True)), *ps]
    else:
        cells += ["-", "-", "-", "-"]
    return [*cells, number(chance), f"{row.num_clips:,}", f"{row.num_groups:,}"]


def estimate_cell(estimate: Estimate, strong: bool = False) -> Cell:
    """Lay out a value above its interval."""
    return Cell(number(estimate.value), between(estimate), strong)


def classes_section(rows: Sequence[MetricRow], zero_shot: Sequence[str]) -> Section:
    """Show figures by class or trait."""
    charts, table = [], []
    for index, (place, of_place) in enumerate(rows_by_place(rows, by_metric=True).items()):
        title = f"{title_of(place, zero_shot)}: {metric_name(place[3])}"
        ranges = [Range(row.part, *astuple(row.model)) for row in of_place]
        caption = f"{metric_name(place[3])} is the mean of these. A wide bar belongs to few clips."
        charts.append(Chart(title, forest(ranges, UNIT, f"classes{index}"), caption, AXES[:1]))
        table += part_cells(of_place, zero_shot)
    head = ["data and task", "metric", "class or trait", "model", "clips"]
    blocks: list[Block] = [Charts(charts), Table(head, table, "", 3, folded="As a table")] if charts else []
    return Section("classes", "Classes", blocks)


def confusion_section(rows: Sequence[Row], zero_shot: Sequence[str]) -> Section:
    """Show clips by actual and decided class."""
    charts = []
    for index, row in enumerate(rows):
        totals = [max(sum(line), 1) for line in row["counts"]]
        shades = [[n / total for n in line] for line, total in zip(row["counts"], totals, strict=True)]
        texts = [[str(n) if n else "·" for n in line] for line in row["counts"]]
        svg = heat(shades, texts, row["classes"], row["classes"], "actual", "decided", f"confusion{index}")
        caption = (
            "Clips by actual (rows) and decided class; of several labels the strongest of each. Shade: share of the "
            "row. A good model is dark on the diagonal; a dark column is a class that it decides too often."
        )
        charts.append(Chart(title_of(place_of(row), zero_shot), svg, caption))
    return Section("confusion", "Confusion", [Charts(charts)] if charts else [])


def calibration_section(rows: Sequence[Row], zero_shot: Sequence[str]) -> Section:
    """Show reliability curves."""
    charts = []
    for index, row in enumerate(rows):
        bins = row["bins"]
        predicted, observed, counts = ([mass[name] for mass in bins] for name in ("predicted", "observed", "count"))
        caption = (
            f"Expected calibration error {100 * row['error']:.1f} % (15 bins of equal mass). Dots on the dotted line: "
            "probabilities mean what they say; below it the model is too sure of itself."
        )
        svg = reliability(predicted, observed, counts, f"calibration{index}")
        charts.append(Chart(title_of(place_of(row), zero_shot), svg, caption))
    return Section("calibration", "Calibration", [Charts(charts)] if charts else [])


def coverage_section(coverage: Mapping[str, Any] | None, zero_shot: Sequence[str]) -> Section:
    """Show how often sets and intervals held the truth beside what was asked; nothing of runs that store none."""
    if coverage is None:
        return Section("coverage", "Coverage", [])
    asked = f"{100 * coverage['level']:g}"
    table: list[list[str | Cell]] = [
        [
            title_of(place_of(row), zero_shot), row["part"] or "all classes", "yes" if row["promised"] else "no", asked,
            estimate_cell(Estimate(row["value"], row["low"], row["high"])), f"{row['size']:.2f} of {row['of']}",
            f"{row['num_groups']:,}",
        ]
        for row in coverage["rows"] if row["value"] is not None
    ]  # fmt: skip
    head = ["data and task", "of", "promised", "asked", "observed", "mean size", "groups"]
    caption = (
        "Percent; every group counts the same. Size in classes, of a label in absent and present, of a score in width. "
        f"{coverage['means']}."
    )
    sentences = {title_of(place_of(row), zero_shot): row["sentence"] for row in coverage["rows"]}
    told = [Text(f"{title}: {sentence}.") for title, sentence in sentences.items()]
    return Section("coverage", "Coverage", [*([Table(head, table, caption, 3)] if table else []), *told])


def part_cells(rows: Sequence[MetricRow], zero_shot: Sequence[str]) -> list[list[str | Cell]]:
    """Lay out rows of a table of classes or subgroups."""
    return [
        [title_of(row.place, zero_shot), metric_name(row.metric), row.part, estimate_cell(row.model),
         f"{row.num_clips:,}"]
        for row in rows
    ]  # fmt: skip


def rows_by_place(rows: Sequence[MetricRow], by_metric: bool = False) -> dict[tuple[str, ...], list[MetricRow]]:
    """Group rows by corpus, split, task and, where this is asked for, metric."""
    places: dict[tuple[str, ...], list[MetricRow]] = {}
    for row in rows:
        places.setdefault(row.key if by_metric else row.place, []).append(row)
    return places


def place_of(row: Row) -> tuple[str, ...]:
    """Name corpus, split and task."""
    return row["corpus"], row["split"], row["task"]


def title_of(place: Sequence[str], zero_shot: Sequence[str]) -> str:
    """Write a place as the title of a chart, marked where it is of dev or zero-shot."""
    corpus, split, task, *_ = place
    marks = [*(["dev"] if split == "dev" else []), *(["zero-shot"] if corpus in zero_shot else [])]
    return f"{corpus} {task}" + (f" ({', '.join(marks)})" if marks else "")


def _finite(value: float | None) -> float | None:
    return value if value is not None and value == value else None


def adapted_table(rows: Sequence[AdaptedRow | NotAdapted]) -> Table | None:
    """Show zero-shot figures beside those after label-shift adaptation, None where no corpus was adapted to.

    Args:
        rows: `adapted` of the document of `training.evaluation.evaluate.evaluate`.
    """
    cells: list[list[str | Cell]] = []
    for row in (row for row in rows if isinstance(row, AdaptedRow)):
        linear = "-" if row.linear is None else estimate_cell(row.linear)
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in row.shares.items())
        place = f"{row.corpus} {row.split}, {row.task}"
        adapted = estimate_cell(row.model, strong=True)
        cells.append([place, metric_name(row.metric), number(row.before), adapted, linear, shares])
    if not cells:
        return None
    caption = (
        "Not zero-shot: each class' logits standardised over the very clips that are evaluated, and weighted by the "
        "shares of classes that make these clips most likely. No label was read. One class per clip."
    )
    head = ["data and task", "metric", "zero-shot", "fitted", "linear, fitted", "shares, as estimated"]
    return Table(head, cells, caption, 2, folded="Unseen corpora, fitted to their clips without labels")
