"""A study's table as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from rich.markup import escape
from rich.table import Table as RichTable
from scipy.stats import spearmanr

from mmpsr.metrics.ranking import friedman_test, nemenyi_difference, not_told_apart
from mmpsr.metrics.seeds import SeedSummary, seed_summary
from training.scoring.tables import table_of
from tuning.study.table import COSTS, LINEAR, Published, StudyTable

__all__ = ["BESIDE", "beside_cell", "published_notes", "to_console", "to_csv", "to_latex", "to_markdown"]

MOST_SIDE_BY_SIDE = 6
"""Columns of a table in a terminal."""

BESIDE = (
    "Own mean, printed figure (own minus printed), in percent; the ranks are those of the figures that both have, "
    "among these rows."
)
"""What the table of own and printed figures shows."""

_TEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
})  # fmt: skip


def to_markdown(table: StudyTable, title: str, compare_to: str | None) -> str:
    """Write the table, differences from a row where one is named, and what is missing."""
    lines = [f"# {title}", "", table.note, "", *_pipes(_grid(table, _markdown_cell, str))]
    lines += ["", *(f"- {note}" for note in _notes(table))]
    for other in table.compared_with(compare_to):
        grid = [["row", *(column.title for column in table.columns)]]
        for row, differences in table.differences(other).items():
            grid.append([row, *(f"{d.mean:+.2f}{_interval(d)}" if d.num_seeds else "-" for d in differences)])
        lines += ["", f"## Difference from {other}, paired by seed", "", *_pipes(grid)]
    if table.published is not None:
        lines += ["", f"## Beside the printed figures: {table.published.title}", "", BESIDE, ""]
        lines += [*_pipes(_beside(table, str)), "", *(f"- {note}" for note in published_notes(table))]
    return "\n".join(lines) + "\n"


def to_console(table: StudyTable) -> Iterator[RichTable | str]:
    """Lay out the table for a terminal, a few figures at a time: means and deviations, ranks, and what they tell."""
    head, *body = _grid(table, _console_cell, escape)
    for start in range(1, len(head), MOST_SIDE_BY_SIDE):
        part = slice(start, start + MOST_SIDE_BY_SIDE)
        shown = table_of(("row",), head[part])
        for name, *cells in body:
            shown.add_row(name, *cells[start - 1 : start - 1 + MOST_SIDE_BY_SIDE])
        yield shown
    spread = "standard deviation over folds and seeds" if table.folds else "standard deviation over seeds"
    yield f"Percent, higher is better: mean ± {spread}, best in bold; rank is the mean rank over figures."
    yield from _ranking_notes(table)


def to_latex(table: StudyTable, title: str) -> str:
    """Write a `tabular` with booktabs' rules; notes are comments."""
    head, *body = [" & ".join(cells) + r" \\" for cells in _grid(table, _latex_cell, lambda text: text.translate(_TEX))]
    lines = [*(f"% {line}" for line in (title, table.note, *_notes(table))), r"\begin{tabular}{l"]
    lines[-1] += "r" * (head.count(" & ")) + "}"
    lines += [r"\toprule", head, r"\midrule", *body[:-1], r"\midrule", body[-1], r"\bottomrule", r"\end{tabular}"]
    lines += [] if table.published is None else _latex_beside(table, table.published)
    return "\n".join(lines) + "\n"


def _latex_beside(table: StudyTable, published: Published) -> list[str]:
    """Write the table of own and printed figures."""
    head, *body = [" & ".join(cells) + r" \\" for cells in _beside(table, lambda text: text.translate(_TEX))]
    notes = [f"% {line}" for line in (f"Printed: {published.title}", BESIDE, *published_notes(table))]
    columns = r"\begin{tabular}{l" + "r" * head.count(" & ") + "}"
    return ["", *notes, columns, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]


def to_csv(table: StudyTable, compare_to: str | None) -> str:
    """Write one line per row and figure, unrounded; empty cells where there is no number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("n", "mean", "sd", "low", "high")
    compared = [] if compare_to is None else [f"difference_{name}" for name in names]
    beside = [] if table.published is None else ["printed", "own_minus_printed"]
    compared_and_printed = [*compared, *beside]
    writer.writerow(["row", "corpus", "split", "task", "metric", *names, "best", "mean_rank", *compared_and_printed])
    ranks = table.ranks()
    for row, costs in table.cost.items():
        for name, values in costs.items():
            writer.writerow(
                [row, "", "", "cost", name, *_numbers(seed_summary(values)), "", "", *[""] * len(compared_and_printed)]
            )
    for row in (*table.values, LINEAR):
        for column in table.columns:
            cells = [*_numbers(table.estimates(column)[row]), str(int(row in table.best(column)))]
            cells.append(_number(ranks.get(row, math.nan)))
            if compare_to is not None:
                is_other = row not in (compare_to, LINEAR)
                cells += _numbers(table.difference(row, compare_to, column) if is_other else seed_summary([]))
            if table.published is not None:
                printed = table.published.values.get(row, {}).get(column, math.nan)
                cells += [_number(printed), _number(table.estimates(column)[row].mean - printed)]
            writer.writerow([row, column.corpus, column.split, column.task, column.metric, *cells])
    return text.getvalue()


def _grid(table: StudyTable, show: Callable[[SeedSummary, bool], str], escape: Callable[[str], str]) -> list[list[str]]:
    """Lay out header, a line per row, and the baseline's line, as cells."""
    lines = [
        [escape(text) for text in ("row", *(column.title for column in table.columns), "rank", "n", *_costs(table))]
    ]
    ranks = table.ranks()
    for row in (*table.values, LINEAR):
        cells = [escape(row)]
        done = table.num_seeds - len(table.missing.get(row, {}))
        for column in table.columns:
            estimate = table.estimates(column)[row]
            fewer = f" (n = {estimate.num_seeds})" if row != LINEAR and 0 < estimate.num_seeds < done else ""
            cells.append(show(estimate, row in table.best(column)) + fewer if estimate.num_seeds else "-")
        rank = ranks.get(row, math.nan)
        cells.append(_rank(rank))
        cells.append("-" if row == LINEAR or row in table.inapplicable else str(done))
        lines.append([*cells, *(_cost_cell(table.cost.get(row, {}).get(name, [])) for name in _costs(table).values())])
    return lines


def _beside(table: StudyTable, escape: Callable[[str], str]) -> list[list[str]]:
    """Lay out own and printed figures, and the ranks of both, as cells."""
    columns, rows = table.beside()
    lines = [[escape(text) for text in ("row", *(column.title for column in columns), "rank", "printed rank")]]
    for row, each in rows.items():
        cells = [beside_cell(own, printed) for own, printed in zip(each.own, each.printed, strict=True)]
        ranks = [_rank(each.own_rank), _rank(each.printed_rank)]
        lines.append([escape(row), *(escape(cell) for cell in cells), *ranks])
    return lines


def beside_cell(own: float, printed: float) -> str:
    """Word a figure, the printed one and their difference; a dash where there is none.

    Example:
        >>> beside_cell(53.0, 63.14), beside_cell(53.0, math.nan), beside_cell(math.nan, math.nan)
        ('53.00, 63.14 (-10.14)', '53.00, -', '-')
    """
    if math.isnan(own) and math.isnan(printed):
        return "-"
    texts = ["-" if math.isnan(value) else f"{value:.2f}" for value in (own, printed)]
    difference = "" if math.isnan(own - printed) else f" ({own - printed:+.2f})"
    return ", ".join(texts) + difference


def published_notes(table: StudyTable) -> list[str]:
    """Say how far the order of the rows is the printed one, and what the printed figures are of."""
    assert table.published is not None
    ranks = [(each.own_rank, each.printed_rank) for each in table.beside()[1].values()]
    known = [pair for pair in ranks if np.isfinite(pair).all()]
    notes = [*table.published.notes]
    if len(known) > 2 and all(len(set(side)) > 1 for side in zip(*known, strict=True)):
        found = spearmanr(*zip(*known, strict=True)).statistic
        notes.append(f"Rank correlation (Spearman) of the two orders: {found:.2f} over {len(known)} rows")
    return notes


def _rank(rank: float) -> str:
    return "-" if math.isnan(rank) else f"{rank:.2f}"


def _costs(table: StudyTable) -> dict[str, str]:
    """List the names of what is told of the rows' cost, by title."""
    return {title: name for name, title in COSTS.items()} if table.cost else {}


def _cost_cell(values: Sequence[float]) -> str:
    mean = float(np.mean(values)) if values else math.nan
    return "-" if not values else f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}"


def _console_cell(figure: SeedSummary, is_best: bool) -> str:
    mean = f"[bold]{figure.mean:.2f}[/bold]" if is_best else f"{figure.mean:.2f}"
    return mean if figure.num_seeds < 2 else f"{mean} ± {figure.deviation:.2f}"


def _markdown_cell(figure: SeedSummary, is_best: bool) -> str:
    mean = f"**{figure.mean:.2f}**" if is_best else f"{figure.mean:.2f}"
    return mean if figure.num_seeds < 2 else f"{mean} ± {figure.deviation:.2f}{_interval(figure)}"


def _latex_cell(figure: SeedSummary, is_best: bool) -> str:
    mean = rf"\textbf{{{figure.mean:.2f}}}" if is_best else f"{figure.mean:.2f}"
    return mean if figure.num_seeds < 2 else rf"{mean} $\pm$ {figure.deviation:.2f} {{\scriptsize{_interval(figure)}}}"


def _interval(figure: SeedSummary) -> str:
    return "" if figure.num_seeds < 2 else f" [{figure.low:.2f}, {figure.high:.2f}]"


def _pipes(grid: Sequence[Sequence[str]]) -> list[str]:
    head, *body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in grid]
    return [head, "|---|" + "---:|" * (len(grid[0]) - 1), *body]


def _notes(table: StudyTable) -> list[str]:
    notes = [*table.warnings]
    if table.linear_row is not None:
        notes.append(
            f"The linear baseline is that of row {table.linear_row!r}: other features, tasks or linear models give "
            "another."
        )
    notes += _ranking_notes(table)
    notes += [f"Row {row!r} does not apply: {reason}" for row, reason in table.inapplicable.items()]
    for row, seeds in table.missing.items():
        for reason in dict.fromkeys(seeds.values()):
            concerned = [str(seed) for seed, other in seeds.items() if other == reason]
            notes.append(f"Row {row!r}, seed {', '.join(concerned)}: {reason}")
    return notes


def _ranking_notes(table: StudyTable) -> list[str]:
    """Say whether rows differ at all, and which of them are not told apart."""
    notes, means = [], table.means
    if min(means.shape) > 1:
        test = friedman_test(means)
        notes.append(
            f"Friedman test over figures as if they were independent: chi squared {test.statistic:.2f} with "
            f"{test.degrees} degrees of freedom, p = {test.p:.3g}."
        )
        if np.isfinite(means).all():
            difference = nemenyi_difference(*means.shape)
            ranks = table.ranks()
            rows, mean_ranks = zip(*ranks.items(), strict=True)
            groups = not_told_apart(mean_ranks, difference)
            joined = "; ".join(", ".join(repr(rows[place]) for place in group) for group in groups)
            told = f"are not told apart (Nemenyi, 95 %): {joined}" if groups else "would not be told apart; no two do"
            notes.append(f"Mean ranks that differ by less than {difference:.2f} {told}.")
    return notes


def _numbers(figure: SeedSummary) -> list[str]:
    return [str(figure.num_seeds), *map(_number, (figure.mean, figure.deviation, figure.low, figure.high))]


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
