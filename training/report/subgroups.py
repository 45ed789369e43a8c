"""Sections of a report on parts of the clips: leakage, subgroups, subsets of modalities, correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from itertools import combinations
from typing import Any

from mmpsr.calibration.novelty import NOTABLE
from mmpsr.config import base_of
from training.report.charts import Range, forest, heat
from training.report.page import Block, Cell, Chart, Charts, Section, Table
from training.report.performance import (
    AXES,
    UNIT,
    Row,
    estimate_cell,
    part_cells,
    rows_by_place,
    title_of,
)
from training.scoring.rows import Estimate, LeakageEffect, MetricRow
from training.scoring.tables import between, metric_name, number

__all__ = ["correlations_section", "leakage_section", "subgroups_section", "subsets_section"]

_LETTERS = {
    "presence": "the modalities that clips have (first letters)",
    "novelty": f"novelty (any modality more out of line than {NOTABLE:.0%} of the dev clips, or none)",
}
FEWEST = 5
"""Clips of a subgroup that a chart shows."""


def subgroups_section(document: Mapping[str, Any], zero_shot: Sequence[str]) -> Section:
    """Show figures by the modalities that clips have, by their novelty, and by the column of the document."""
    blocks: list[Block] = []
    for key, what in (("presence", "modalities"), ("novelty", "novelty"), ("by", document["column"])):
        charts, table = [], []
        for index, (place, of_place) in enumerate(rows_by_place(document.get(key, ())).items()):
            metric, title = of_place[0].metric, title_of(place, zero_shot)
            some = [row for row in of_place if row.metric == metric and row.num_clips >= FEWEST][:16]
            ranges = [Range(f"{_shown(row.part, key)} (n={row.num_clips})", *astuple(row.model)) for row in some]
            letters = _LETTERS.get(key, what)
            caption = (
                f"{metric_name(metric)} by {letters}, of {FEWEST} clips or more. Intervals that overlap tell nothing "
                "apart: other clips may be harder."
            )
            if len(ranges) > 1:
                charts.append(Chart(f"{title}: by {what}", forest(ranges, UNIT, f"{key}{index}"), caption, AXES[:1]))
            table += part_cells(of_place, zero_shot)
        blocks += [Charts(charts)] if charts else []
        if table:
            head = ["data and task", "metric", str(what), "model", "clips"]
            blocks.append(Table(head, table, "", 3, folded=f"All figures by {what}"))
    return Section("subgroups", "Subgroups", blocks)


def subsets_section(rows: Sequence[MetricRow], zero_shot: Sequence[str]) -> Section:
    """Show figures of the model when it is given some of the modalities only."""
    charts = []
    for index, (place, of_place) in enumerate(rows_by_place(rows, by_metric=True).items()):
        known = [row for row in of_place if row.model.value is not None]
        ordered = sorted(known, key=lambda row: -(row.model.value or 0.0))
        ranges = [Range(_shown(row.part, "presence"), *astuple(row.model)) for row in ordered]
        title = f"{title_of(place, zero_shot)}: {metric_name(place[3])}"
        caption = (
            "The same clips with only these modalities (first letters), best on top. A modality helps where the rows "
            "that lack it are far down."
        )
        if ranges:
            charts.append(Chart(title, forest(ranges, UNIT, f"subsets{index}"), caption, AXES[:1]))
    return Section("subsets", "Modality subsets", [Charts(charts)] if charts else [])


def correlations_section(rows: Sequence[Row]) -> Section:
    """Show rank correlations between the outputs of tasks."""
    charts, table = [], []
    for index, row in enumerate(rows):
        matrices, outputs = row["spearman"], row["outputs"]
        names = [output.partition(".")[2] for output in outputs]
        shades = [[float("nan") if value is None else value for value in line] for line in matrices["value"]]
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
                value, low, high = (matrices[name][i][j] for name in ("value", "low", "high"))
                table.append([title, outputs[i], outputs[j], estimate_cell(Estimate(value, low, high))])
    head = ["data", "output", "output of another task", "Spearman"]
    blocks: list[Block] = [Charts(charts), Table(head, table, "", 3, folded="All pairs of tasks")] if charts else []
    return Section("correlations", "Correlations", blocks)


def leakage_section(effects: Sequence[LeakageEffect], zero_shot: Sequence[str]) -> Section:
    """Show figures of all clips beside those of clips that share nothing with training."""
    table: list[list[str | Cell]] = []
    for effect in effects:
        cells = [
            Cell(number(row.model.value), f"{between(row.model)}\n{row.num_clips:,} clips") if row else "no such clip"
            for row in (effect.row, effect.unseen)
        ]
        row = effect.row
        table.append([title_of(row.place, zero_shot), metric_name(row.metric), effect.kind, *cells])
    head = ["data and task", "metric", "shared", "all clips", "clips that share nothing"]
    caption = "Percent. Where the second is lower, part of the first is recognition of what was seen in training."
    return Section("leakage", "Shared with training", [Table(head, table, caption, 3)] if table else [])


def _shown(value: str, key: str) -> str:
    """Shorten `video+text+text.lexica` to `V+T+T.lexica`, which fits beside a chart."""
    if key != "presence" or value == "none":
        return value
    return "+".join(name[:1].upper() + name[len(base_of(name)) :] for name in value.split("+"))
