"""Sections of a run's report about what came out: figures, classes, confusion, calibration, subgroups.

All of it is drawn from the document of `training.detailed_evaluation.evaluate_run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from training.evaluation_tables import between, metric_name, number
from training.html_report import Block, Card, Cards, Cell, Chart, Charts, Section, Table
from training.report_charts import Range, forest, heat, reliability

__all__ = [
    "calibration_section",
    "classes_section",
    "confusion_section",
    "correlations_section",
    "figures_section",
    "leakage_section",
    "subgroups_section",
    "subsets_section",
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
FEWEST = 5
"""Clips of a subgroup that a chart shows."""
AXES = [("dot", "model, 95 % interval"), ("diamond", "linear baseline"), ("tick", "chance")]


def figures_section(
    rows: Sequence[Row], results: Sequence[Row], zero_shot: Sequence[str], adapted: Table | None = None
) -> Section:
    """Figures with intervals beside the linear baseline and chance.

    Args:
        rows: `figures` of the document.
        results: `results.json`, for chance and the dev figures.
        zero_shot: corpora that were never trained on.
        adapted: of `training.report_adapted`.
    """
    chance = {_key(row): row["chance"] for row in results}
    cards, charts, table = [], [], []
    for index, (place, found) in enumerate(_by_place(rows).items()):
        title = _title(place, zero_shot)
        first = found[0]
        counts = f"{first['num_clips']:,} clips, {first['num_groups']:,} groups"
        notes = [f"chance {number(_finite(chance.get(_key(first))))}", counts]
        if "over_linear" in first:
            notes.insert(0, _beside_linear(first["over_linear"]["value"]))
        cards.append(Card(f"{title}: {metric_name(first['metric'])}", number(first["value"]), between(first), notes))
        ranges = [
            Range(
                metric_name(row["metric"]), row["value"], row["low"], row["high"],
                row["linear"]["value"] if "linear" in row else None, _finite(chance.get(_key(row))),
            )
            for row in found
        ]  # fmt: skip
        caption = f"{counts}. A model earns its name where the dot and its interval lie right of the diamond."
        charts.append(Chart(title, forest(ranges, UNIT, f"figures{index}"), caption, AXES))
        table += [_figure_cells(row, title, chance.get(_key(row))) for row in found]
    caption = (
        "Percent, higher is better. Small: 95 % intervals over groups (participants, videos or dialogues), which say "
        "how far other clips would give other figures; another seed gives others, too. p is corrected over all rows "
        "(Holm)."
    )
    head = ["data and task", "metric", "model", "linear", "model - linear", "corrected p", "chance", "clips", "groups"]
    blocks: list[Block] = [Cards(cards), Charts(charts), Table(head, table, caption, 2)]
    if adapted is not None:
        blocks.append(adapted)
    metrics = dict.fromkeys(str(row["metric"]) for row in rows)
    names = [[metric_name(name), LONG_NAMES[name]] for name in metrics if name in LONG_NAMES]
    if names:
        blocks.append(Table(["metric", "what it is"], names, "", 2, folded="What the metrics are"))
    dev = [row for row in results if row["split"] == "dev"]
    if dev:
        cells = [
            [row["corpus"], row["task"], metric_name(row["metric"]), f"{row['num_clips']:,}",
             *(number(_finite(row[name])) for name in ("model", "linear", "chance"))]
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


def _figure_cells(row: Row, title: str, chance: float | None) -> list[str | Cell]:
    cells: list[str | Cell] = [title, metric_name(row["metric"]), Cell(number(row["value"]), between(row), strong=True)]
    if "over_linear" in row:
        over = row["over_linear"]
        p = "-" if over["corrected_p"] is None else f"{over['corrected_p']:.3f}"
        cells.append(Cell(number(row["linear"]["value"]), between(row["linear"])))
        cells += [Cell(number(over["value"], True), between(over, True)), p]
    else:
        cells += ["-", "-", "-"]
    return [*cells, number(_finite(chance)), f"{row['num_clips']:,}", f"{row['num_groups']:,}"]


def classes_section(rows: Sequence[Row], zero_shot: Sequence[str]) -> Section:
    """Figures by class or trait."""
    charts, table = [], []
    for index, (place, found) in enumerate(_by_place(rows, "metric").items()):
        title = f"{_title(place, zero_shot)}: {metric_name(place[3])}"
        ranges = [Range(row["class"], row["value"], row["low"], row["high"]) for row in found]
        caption = f"{metric_name(place[3])} is the mean of these. A wide bar belongs to few clips."
        charts.append(Chart(title, forest(ranges, UNIT, f"classes{index}"), caption, AXES[:1]))
        for row in found:
            cells = [Cell(number(row["value"]), between(row))]
            table.append(
                [_title(place, zero_shot), metric_name(place[3]), row["class"], *cells, f"{row['num_clips']:,}"]
            )
    head = ["data and task", "metric", "class or trait", "model", "clips"]
    blocks: list[Block] = [Charts(charts), Table(head, table, "", 3, folded="As a table")] if charts else []
    return Section("classes", "Classes", blocks)


def confusion_section(rows: Sequence[Row], zero_shot: Sequence[str]) -> Section:
    """Clips by actual and decided class."""
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
        charts.append(Chart(_title(_place(row), zero_shot), svg, caption))
    return Section("confusion", "Confusion", [Charts(charts)] if charts else [])


def calibration_section(rows: Sequence[Row], zero_shot: Sequence[str]) -> Section:
    """Reliability curves."""
    charts = []
    for index, row in enumerate(rows):
        bins = row["bins"]
        predicted, observed, counts = ([each[name] for each in bins] for name in ("predicted", "observed", "count"))
        caption = (
            f"Expected calibration error {100 * row['error']:.1f} % (15 bins of equal mass). Dots on the dotted line: "
            "probabilities mean what they say; below it the model is too sure of itself."
        )
        svg = reliability(predicted, observed, counts, f"calibration{index}")
        charts.append(Chart(_title(_place(row), zero_shot), svg, caption))
    return Section("calibration", "Calibration", [Charts(charts)] if charts else [])


def subgroups_section(document: Mapping[str, Any], zero_shot: Sequence[str]) -> Section:
    """Figures by the modalities that clips have, and by the column that the document was made with."""
    blocks: list[Block] = []
    for key, name, what in (("presence", "modalities", "modalities"), ("by", "value_of_column", document["column"])):
        charts, table = [], []
        for index, (place, found) in enumerate(_by_place(document[key]).items()):
            metric, title = found[0]["metric"], _title(place, zero_shot)
            some = [row for row in found if row["metric"] == metric and row["num_clips"] >= FEWEST][:16]
            ranges = [Range(f"{_shown(row[name], key)} (n={row['num_clips']})", *_interval(row)) for row in some]
            letters = "the modalities that clips have (first letters)" if key == "presence" else what
            caption = (
                f"{metric_name(metric)} by {letters}, of {FEWEST} clips or more. Intervals that overlap tell nothing "
                "apart: other clips may be harder."
            )
            if len(ranges) > 1:
                charts.append(Chart(f"{title}: by {what}", forest(ranges, UNIT, f"{key}{index}"), caption, AXES[:1]))
            table += [
                [
                    title,
                    metric_name(row["metric"]),
                    row[name],
                    Cell(number(row["value"]), between(row)),
                    f"{row['num_clips']:,}",
                ]
                for row in found
            ]
        blocks += [Charts(charts)] if charts else []
        if table:
            head = ["data and task", "metric", str(what), "model", "clips"]
            blocks.append(Table(head, table, "", 3, folded=f"All figures by {what}"))
    return Section("subgroups", "Subgroups", blocks)


def subsets_section(rows: Sequence[Row], zero_shot: Sequence[str]) -> Section:
    """Figures of the model when it is given some of the modalities only."""
    charts = []
    for index, (place, found) in enumerate(_by_place(rows, "metric").items()):
        ordered = sorted((row for row in found if row["value"] is not None), key=lambda row: -row["value"])
        ranges = [Range(_shown(row["modalities"], "presence"), *_interval(row)) for row in ordered]
        title = f"{_title(place, zero_shot)}: {metric_name(place[3])}"
        caption = (
            "The same clips with only these modalities (first letters), best on top. A modality helps where the rows "
            "that lack it are far down."
        )
        if ranges:
            charts.append(Chart(title, forest(ranges, UNIT, f"subsets{index}"), caption, AXES[:1]))
    return Section("subsets", "Modality subsets", [Charts(charts)] if charts else [])


def correlations_section(rows: Sequence[Row]) -> Section:
    """Rank correlations between the outputs of tasks."""
    charts, table = [], []
    for index, row in enumerate(rows):
        found, outputs = row["spearman"], row["outputs"]
        names = [output.partition(".")[2] for output in outputs]
        shades = [[float("nan") if each is None else each for each in line] for line in found["value"]]
        texts = [[""] * len(names) for _ in names]
        svg = heat(shades, texts, names, names, "", "", f"correlations{index}")
        title = f"{row['corpus']} {row['split']}"
        caption = (
            f"Spearman's correlation between predictions over {row['num_clips']:,} clips: blue where they rise "
            "together, orange where one falls. Shades between classes of different tasks are what tasks share."
        )
        charts.append(Chart(title, svg, caption))
        for i, j in combinations(range(len(names)), 2):
            if outputs[i].partition(".")[0] != outputs[j].partition(".")[0]:
                value, low, high = (found[name][i][j] for name in ("value", "low", "high"))
                ends = "" if low is None else f"[{number(low)}, {number(high)}]"
                table.append([title, outputs[i], outputs[j], Cell(number(value), ends)])
    head = ["data", "output", "output of another task", "Spearman"]
    blocks: list[Block] = [Charts(charts), Table(head, table, "", 3, folded="All pairs of tasks")] if charts else []
    return Section("correlations", "Correlations", blocks)


def leakage_section(rows: Sequence[Row], zero_shot: Sequence[str]) -> Section:
    """Figures of all clips beside those of clips that share nothing with training."""
    table: list[list[str | Cell]] = []
    for row in rows:
        unseen = row["unseen"]
        cells = [
            Cell(number(each["value"]), f"{between(each)}\n{each['num_clips']:,} clips")
            for each in (row, unseen)
            if each
        ]
        place = [_title(_place(row), zero_shot), metric_name(row["metric"]), row["kind"]]
        table.append([*place, *cells, *([] if unseen else ["no such clip"])])
    head = ["data and task", "metric", "shared", "all clips", "clips that share nothing"]
    caption = "Percent. Where the second is lower, part of the first is recognition of what was seen in training."
    return Section("leakage", "Shared with training", [Table(head, table, caption, 3)] if table else [])


def _by_place(rows: Sequence[Row], *more: str) -> dict[tuple[str, ...], list[Row]]:
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault((*_place(row), *(row[name] for name in more)), []).append(row)
    return found


def _place(row: Row) -> tuple[str, ...]:
    return row["corpus"], row["split"], row["task"]


def _key(row: Row) -> tuple[str, ...]:
    return (*_place(row), row["metric"])


def _title(place: Sequence[str], zero_shot: Sequence[str]) -> str:
    corpus, split, task, *_ = place
    marks = [*(["dev"] if split == "dev" else []), *(["zero-shot"] if corpus in zero_shot else [])]
    return f"{corpus} {task}" + (f" ({', '.join(marks)})" if marks else "")


def _interval(row: Row) -> Iterator[float | None]:
    return (row.get(name) for name in ("value", "low", "high"))


def _shown(value: str, key: str) -> str:
    """`video+audio` as `V+A`, which fits beside a chart."""
    return "+".join(name[:1].upper() for name in value.split("+")) if key == "presence" and value != "none" else value


def _finite(value: float | None) -> float | None:
    return value if value is not None and value == value else None
