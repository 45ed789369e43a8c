"""The command `mmpsr report`: of a run, or of a study, whose tables, ranks and manifest become one HTML file.

A study is read from its folder: `manifest.json` names the cells, `table.json` holds the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmpsr.metrics.ranking import friedman_test, nemenyi_difference
from mmpsr.metrics.seeds import SeedSummary, seed_summary
from training.report.charts import Range, forest, rank_axis
from training.report.inputs import command_line
from training.report.page import Block, Card, Cards, Cell, Chart, Charts, Page, Section, Table, Text, Warning_
from training.report.run import run_page
from training.runs.directory import RunError, read_json
from tuning.study.config import load_study
from tuning.study.rendering import BESIDE, beside_cell, published_notes
from tuning.study.table import COSTS, LINEAR, StudyTable

__all__ = ["read_stored_table", "report_page", "study_page"]

FEWEST_SEEDS = 3


def report_page(path: Path, column: str | None, subsets: bool) -> tuple[Page, Path]:
    """Make the report of a run, or of a study.

    Args:
        path: a run's or a study's folder, or a study's TOML file.
        column: of a run's clip table, by whose values figures are told apart.
        subsets: whether to evaluate a run's model on every subset of its modalities.

    Returns:
        The page, and the folder of what it is about.

    Raises:
        RunError: there is nothing to report on.
        ConfigError: as `tuning.study.config.load_study`.
    """
    is_file = path.suffix == ".toml"
    folder = load_study(path).folder if is_file else path
    is_study = is_file or (folder / "table.csv").exists()
    if is_study and (subsets or column is not None):
        raise RunError("--by and --subsets are of clips, which a study's table does not have; name one of its runs")
    return study_page(folder) if is_study else run_page(folder, column, subsets), folder


def read_stored_table(folder: Path) -> StudyTable:
    """Read a study's `table.json`, without the rows that do not apply: they have no cells.

    Raises:
        RunError: it is missing or damaged.
    """
    path = folder / "table.json"
    try:
        table = StudyTable.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{folder} has no table.json, because its tables were written before there was one; `mmpsr study CONFIG` "
            "run again writes it without computing any cell again"
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} cannot be read ({error}); `mmpsr study` writes it") from None
    table.values = {row: figures for row, figures in table.values.items() if row not in table.inapplicable}
    return table


def study_page(folder: Path) -> Page:
    """Make the report of a study.

    Args:
        folder: where its cells and tables are.

    Raises:
        RunError: there is no table yet, or a file cannot be read.
    """
    if not (folder / "manifest.json").exists():
        raise RunError(f"{folder} has no manifest.json, so the study has no table yet; `mmpsr study` writes it")
    manifest = read_json(folder, "manifest.json")
    table = read_stored_table(folder)
    num_missing = sum(map(len, table.missing.values()))
    facts = [
        ("rows", str(len(table.values))),
        ("figures", str(len(table.columns))),
        ("seeds", ", ".join(map(str, manifest["seeds"]))),
        ("cells done", f"{len(manifest['cells']) - num_missing} of {len(manifest['cells'])}"),
    ]
    sections = [
        Section("ranks", "Ranks", _ranks(table)),
        Section("table", "Table", _table(table)),
        Section("figures", "Figures", _figures(table)),
        Section("differences", "Differences", _differences(table, manifest.get("compare_to"))),
        Section("published", "Printed figures", _published(table)),
        Section("cost", "Cost", _cost(table)),
        Section("settings", "What was run", _settings(manifest)),
    ]
    return Page("Study", manifest["study"], facts, _warnings(table, num_missing), sections)


def _warnings(table: StudyTable, num_missing: int) -> list[Warning_]:
    warnings = [Warning_("serious", text) for text in table.warnings]
    if num_missing:
        cells = [f"{row}, seed {seed}: {why}" for row, seeds in table.missing.items() for seed, why in seeds.items()]
        more = f"; and {num_missing - 5} more" if num_missing > 5 else ""
        is_missing = f"{num_missing} of the cells {'is' if num_missing == 1 else 'are'} missing"
        warnings.append(Warning_("serious", f"{is_missing}. {'; '.join(cells[:5])}{more}."))
    warnings += [Warning_("note", f"Row {row!r} does not apply: {why}.") for row, why in table.inapplicable.items()]
    if table.num_seeds < FEWEST_SEEDS:
        text = f"Fewer than {FEWEST_SEEDS} seeds: whether rows differ cannot be told from chance in training."
        warnings.append(Warning_("caution", text))
    below = []
    for column in table.columns:
        means = [mean.mean for row, mean in table.estimates(column).items() if row != LINEAR and mean.num_seeds]
        if column in table.linear and means and max(means) < table.linear[column]:
            below.append(column.title)
    if below:
        warnings.append(Warning_("caution", f"No row reaches the linear baseline: {', '.join(below)}."))
    return warnings


def _ranks(table: StudyTable) -> list[Block]:
    ranks = {row: rank for row, rank in table.ranks().items() if math.isfinite(rank)}
    means = table.means
    if len(ranks) < 2:
        return []
    best = min(ranks, key=lambda row: ranks[row])
    is_full = bool(np.isfinite(means).all())
    difference = nemenyi_difference(*means.shape) if is_full else None
    cards = [Card("Best mean rank", f"{ranks[best]:.2f}", notes=[best])]
    if difference is not None:
        notes = [f"{len(means)} rows over {means.shape[1]} figures"]
        cards.append(Card("Critical difference", f"{difference:.2f}", "ranks, Nemenyi, 95 %", notes))
    test = friedman_test(means)
    notes = [f"χ² {test.statistic:.2f}, {test.degrees} degrees"]
    cards.append(Card("Friedman test", f"p = {test.p:.3g}", notes=notes))
    if difference is None:
        caption = "Mean rank over figures. No critical difference is drawn: some cells are missing."
    else:
        caption = (
            "Critical-difference diagram (Demšar 2006): mean rank over figures. Rows that a bar joins are not told "
            "apart; two metrics of one corpus say less than two corpora, so the difference is rather too small."
        )
        if test.p >= 0.05:
            caption += " Friedman's test does not say that rows differ at all, so no two of them should be told apart."
    legend = [("dot", "mean rank"), *([("c2", "not told apart")] if difference is not None else [])]
    title = "Mean ranks" if difference is None else "Critical differences of mean ranks"
    return [Cards(cards), Charts([Chart(title, rank_axis(ranks, difference, "ranks"), caption, legend)])]


def _table(table: StudyTable) -> list[Block]:
    ranks = table.ranks()
    rows: list[list[str | Cell]] = []
    best = {column: table.best(column) for column in table.columns}
    estimates = {column: table.estimates(column) for column in table.columns}
    for row in (*table.values, LINEAR):
        done = table.num_seeds - len(table.missing.get(row, {}))
        rank = ranks.get(row, math.nan)
        cells = [_cell(estimates[column][row], row in best[column]) for column in table.columns]
        rows.append([row, *cells, "-" if math.isnan(rank) else f"{rank:.2f}", "-" if row == LINEAR else str(done)])
    return [Table(["row", *(column.title for column in table.columns), "rank", "n"], rows, table.note)]


def _figures(table: StudyTable) -> list[Block]:
    charts = []
    for index, column in enumerate(table.columns):
        estimates = table.estimates(column)
        linear = Range(LINEAR, None, linear=_finite(estimates.pop(LINEAR).mean))
        ranges = [Range(row, _finite(e.mean), _finite(e.low), _finite(e.high)) for row, e in estimates.items()]
        axes = [("dot", "mean over seeds, 95 % interval"), ("diamond", LINEAR)]
        metric = column.metric.replace("_", " ")
        caption = f"{column.task}, {metric}. Rows whose intervals overlap widely are not told apart."
        svg = forest([*ranges, linear], "%, higher is better", f"column{index}")
        charts.append(Chart(column.title, svg, caption, axes))
    return [Charts(charts)] if charts else []


def _differences(table: StudyTable, compare_to: str | None) -> list[Block]:
    blocks: list[Block] = []
    for other in table.compared_with(compare_to):
        rows: list[list[str | Cell]] = [
            [row, *(_cell(d, d.low > 0 or d.high < 0, sign="+") for d in differences)]
            for row, differences in table.differences(other).items()
        ]
        caption = (
            f"Percentage points more than {other!r}, paired by seed, with 95 % intervals; bold where the interval "
            "leaves out 0, which one in twenty does by chance."
        )
        blocks.append(Table(["row", *(column.title for column in table.columns)], rows, caption))
    return blocks


def _published(table: StudyTable) -> list[Block]:
    if table.published is None:
        return []
    columns, beside = table.beside()
    rows: list[list[str | Cell]] = []
    for row, each in beside.items():
        cells = []
        for own, printed in zip(each.own, each.printed, strict=True):
            text, _, note = beside_cell(own, printed).partition(", ")
            cells.append(Cell(text, note))
        ranks = ["-" if math.isnan(rank) else f"{rank:.2f}" for rank in (each.own_rank, each.printed_rank)]
        rows.append([row, *cells, *ranks])
    head = ["row", *(column.title for column in columns), "rank", "printed rank"]
    return [
        Text(f"Printed: {table.published.title}."),
        *(Text(f"{note}.") for note in published_notes(table)),
        Table(head, rows, BESIDE),
    ]


def _cost(table: StudyTable) -> list[Block]:
    rows = [
        [row, *(f"{seed_summary(costs[name]).mean:,.4g}" if costs.get(name) else "-" for name in COSTS)]
        for row, costs in table.cost.items()
    ]
    caption = "Means over seeds. Seconds are of the machine that computed the cells, and of what else it did."
    return [Table(["row", *COSTS.values()], rows, caption)] if rows else []


def _settings(manifest: Mapping[str, Any]) -> list[Block]:
    cells = []
    for name, cell in manifest["cells"].items():
        row, _, seed = name.rpartition("/")
        cells.append([row, seed, f"{cell['folder']}/", cell["configuration"], cell.get("missing", "done")])
    hashes = [[name, digest] for kind in ("files", "tables") for name, digest in manifest[kind].items()]
    return [
        Text("To repeat it, or to fill what is missing:"),
        Text(command_line(manifest["command"]), typed=True),
        Table(["row", "seed", "run's folder", "configuration", "state"], cells, "", 5, folded=f"{len(cells)} cells"),
        Table(["file", "SHA-256"], hashes, "", 2, folded="Sums of files"),
        Table(["package", "version"], list(manifest["versions"].items()), "", 2, folded="Versions"),
    ]


def _cell(figure: SeedSummary, is_strong: bool, sign: str = "") -> Cell:
    if not figure.num_seeds:
        return Cell("-")
    ends = (
        f"± {figure.deviation:.2f}\n[{figure.low:{sign}.2f}, {figure.high:{sign}.2f}]"
        if figure.num_seeds > 1
        else "one value"
    )
    return Cell(f"{figure.mean:{sign}.2f}", ends, is_strong)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
