"""Charts of a report as SVG: forests, lines, bars, ridges, heat maps, reliability diagrams, axes of ranks."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mmpsr.metrics.ranking import not_told_apart

__all__ = [
    "DASHES",
    "FAINT",
    "INK",
    "ROW",
    "SERIES",
    "Line",
    "Range",
    "bars",
    "figure_of",
    "forest",
    "heat",
    "legend",
    "lines",
    "rank_axis",
    "reliability",
    "ridges",
    "shortened",
    "styled",
    "svg_of",
]

WIDTH = 320  # units, which are points to matplotlib and pixels to a page 1:1
ROW = 19  # units that a line of labels takes
INK, FAINT = "#b00001", "#b00002"
SERIES = tuple(f"#a0000{number}" for number in range(1, 9))
DASHES = ("-", "--", "-.", ":")
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "mmpsr", "text.parse_math": False, "font.size": 10.5,
    "axes.edgecolor": FAINT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": FAINT, "ytick.color": FAINT,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "xtick.labelsize": 10,
    "ytick.labelsize": 10, "axes.labelsize": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": FAINT,
    "grid.linewidth": 0.6, "grid.alpha": 0.6, "axes.axisbelow": True, "lines.linewidth": 1.6,
    "axes.unicode_minus": True, "figure.constrained_layout.use": True, "xtick.major.size": 0, "ytick.major.size": 0,
}  # fmt: skip

styled = matplotlib.rc_context(_STYLE)
"""Decorator of a function that draws."""


def shortened(text: str, length: int = 24) -> str:
    """Shorten a name so that it fits beside a chart.

    Example:
        >>> shortened("a name that is much too long to fit")
        'a name that is much too…'
    """
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def figure_of(height: float) -> tuple[Figure, Axes]:
    """Make a figure of some height, in units, with axes that fill it."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), facecolor="none")
    return figure, figure.add_subplot(facecolor="none")


def _name_lines(axes: Axes, names: Sequence[str], unit: str) -> None:
    """Name lines from top to bottom, over an axis of some unit."""
    axes.set_yticks(range(len(names)), [shortened(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(unit)


def legend(names: Iterable[str]) -> list[tuple[str, str]]:
    """Name the style of each series of `lines` or `bars`, as classes of the page, beside its name."""
    return [
        (f"c{index % len(SERIES) + 1}{'' if index // 4 % len(DASHES) == 0 else ' dashed'}", name)
        for index, name in enumerate(names)
    ]


def svg_of(figure: Figure, chart: str) -> str:
    """Make the drawing an element of a page, with identifiers of its own."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    unwanted = (
        r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>",
        r'(?<=<g) id="[^"]*"| transform="rotate\(-0 [^"]*"|; font-family: [^;"]*',
        r' width="[\d.]+pt" height="[\d.]+pt"| xmlns(:xlink)?="[^"]*"',
    )
    svg = re.sub("|".join(unwanted), "", svg, flags=re.DOTALL).replace("xlink:href", "href")
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{chart}-", svg)
    svg = svg.replace(INK, "currentColor").replace(FAINT, "var(--faint)")
    for index, colour in enumerate(SERIES):
        svg = svg.replace(colour, f"var(--c{index + 1})")
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip())


@dataclass(frozen=True)
class Range:
    """A value with its interval, and what it is compared with; None where unknown.

    Attributes:
        label: of its line.
        value: a figure.
        low: lower end of the interval.
        high: upper end.
        linear: the linear baseline's.
        chance: the level of chance.
    """

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    linear: float | None = None
    chance: float | None = None


@dataclass(frozen=True)
class Line:
    """Points of a series; those that are no number leave a gap.

    Attributes:
        x: places.
        y: values.
    """

    x: Sequence[float]
    y: Sequence[float]


@styled
def forest(rows: Sequence[Range], unit: str, chart: str) -> str:
    """Draw values as dots with intervals, the baseline as a diamond and chance as a tick, a line each.

    Args:
        rows: from top to bottom.
        unit: of the values.
        chart: identifies the drawing within its page.
    """
    figure, axes = figure_of(len(rows) * ROW + 42)
    for place, row in enumerate(rows):
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], color=SERIES[0], linewidth=3.5, alpha=0.4)
        if row.chance is not None:
            axes.plot([row.chance], [place], marker="|", markersize=11, color=INK, linestyle="none")
        if row.linear is not None:
            axes.plot([row.linear], [place], marker="D", markersize=6.5, markerfacecolor="none", markeredgewidth=1.4,
                      color=SERIES[1], linestyle="none")  # fmt: skip
        if row.value is not None:
            axes.plot([row.value], [place], marker="o", markersize=5.5, color=SERIES[0], linestyle="none")
    _name_lines(axes, [row.label for row in rows], unit)
    return svg_of(figure, chart)


@styled
def lines(
    series: Mapping[str, Line], x_unit: str, y_unit: str, chart: str, mark: float | None = None,
    is_share: bool = False,
) -> str:  # fmt: skip
    """Draw lines over a common axis, in the order of the page's colours.

    Args:
        series: by name; names are the legend's, not the drawing's.
        x_unit: of the horizontal axis.
        y_unit: of the vertical axis.
        chart: identifies the drawing within its page.
        mark: where a vertical line is drawn.
        is_share: whether the vertical axis is all of 0 to 100 percent.
    """
    figure, axes = figure_of(200)
    for index, line in enumerate(series.values()):
        y = np.array(line.y, dtype=np.float64)
        axes.plot(
            line.x, y, color=SERIES[index % len(SERIES)], linestyle=DASHES[index // 4 % len(DASHES)],
            marker="o" if len(y) == 1 else "", markersize=4,
        )  # fmt: skip
    if mark is not None:
        axes.axvline(mark, color=INK, linewidth=1, linestyle=":")
    if is_share:
        axes.set_ylim(-4, 104)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(x_unit)
    axes.set_ylabel(y_unit)
    return svg_of(figure, chart)


@styled
def bars(groups: Mapping[str, Mapping[str, float]], unit: str, chart: str) -> str:
    """Draw horizontal bars by class, one colour for each group.

    Args:
        groups: by group the classes' values; all groups have the same classes.
        unit: of the values.
        chart: identifies the drawing within its page.
    """
    names = list(next(iter(groups.values())))
    thickness = 0.8 / len(groups)
    figure, axes = figure_of(len(names) * max(ROW, 9 * len(groups)) + 42)
    for index, values in enumerate(groups.values()):
        places = np.arange(len(names)) + (index - (len(groups) - 1) / 2) * thickness
        axes.barh(places, [values[name] for name in names], height=thickness * 0.9, color=SERIES[index % len(SERIES)])
    _name_lines(axes, names, unit)
    return svg_of(figure, chart)


@styled
def ridges(histograms: Mapping[str, Sequence[float]], unit: str, chart: str) -> str:
    """Draw histograms over [0, 1] one below the other, on one scale.

    Args:
        histograms: by name, the share in each bin of equal width.
        unit: of the horizontal axis.
        chart: identifies the drawing within its page.
    """
    highest = max(max(shares) for shares in histograms.values()) or 1.0
    figure, axes = figure_of(len(histograms) * 36 + 42)
    for place, shares in enumerate(histograms.values()):
        heights = np.array(shares) / highest * 0.85
        edges = np.linspace(0, 1, len(heights) + 1)
        axes.stairs(-heights + place + 0.45, edges, baseline=place + 0.45, fill=True, color=SERIES[2], alpha=0.75)
        axes.axhline(place + 0.45, color=FAINT, linewidth=0.8)
    axes.set_yticks(range(len(histograms)), [shortened(name) for name in histograms])
    axes.set_ylim(len(histograms) - 0.45, -0.55)
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(unit)
    return svg_of(figure, chart)


@styled
def heat(
    shades: Sequence[Sequence[float]], texts: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str],
    row_title: str, column_title: str, chart: str,
) -> str:  # fmt: skip
    """Draw a table of shaded cells: blue above zero, orange below.

    Args:
        shades: in [-1, 1]; NaN stays blank.
        texts: what is written into the cells.
        rows: names of the rows.
        columns: names of the columns.
        row_title: what rows are.
        column_title: what columns are.
        chart: identifies the drawing within its page.
    """
    upright = max(map(len, columns)) * len(columns) > 24
    names = [shortened(name) for name in columns]
    figure, axes = figure_of(
        len(rows) * (24 if len(rows) > 3 else 48) + (40 + 6.5 * max(map(len, names)) if upright else 52)
    )
    for y, line in enumerate(shades):
        for x, shade in enumerate(line):
            if math.isfinite(shade):
                colour = SERIES[0] if shade >= 0 else SERIES[1]
                axes.add_patch(Rectangle(
                    (x - 0.48, y - 0.46), 0.96, 0.92, color=colour, linewidth=0, alpha=0.06 + 0.54 * min(abs(shade), 1)
                ))  # fmt: skip
            axes.text(x, y, texts[y][x], ha="center", va="center_baseline", fontsize=9.5 if len(columns) > 5 else 11)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), names, rotation=90 if upright else 0)
    axes.set_yticks(range(len(rows)), [shortened(name) for name in rows])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(column_title)
    axes.set_ylabel(row_title)
    return svg_of(figure, chart)


@styled
def reliability(predicted: Sequence[float], observed: Sequence[float], counts: Sequence[int], chart: str) -> str:
    """Draw observed shares over predicted ones, a dot for each bin with an area by its count, and the diagonal.

    Args:
        predicted: mean probability of each bin.
        observed: share that came true.
        counts: predictions in each bin.
        chart: identifies the drawing within its page.
    """
    figure, axes = figure_of(250)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    axes.plot(predicted, observed, color=SERIES[0], alpha=0.5, linewidth=1.2)
    axes.scatter(predicted, observed, s=18 + 70 * np.array(counts) / max(counts), color=SERIES[0], linewidth=0)
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("share that came true")
    return svg_of(figure, chart)


@styled
def rank_axis(ranks: Mapping[str, float], difference: float | None, chart: str) -> str:
    """Draw a critical-difference diagram, turned so that names are lines: mean ranks, the best on top.

    Bars on the right join rows that are not told apart from one another; above the rows stands the critical difference.

    Args:
        ranks: by row, finite.
        difference: critical difference, None where there is none, and no bar then.
        chart: identifies the drawing within its page.

    References:
        Demsar: Statistical comparisons of classifiers over multiple data sets. JMLR 7, 2006.
    """
    ordered = sorted(ranks.items(), key=lambda pair: pair[1])
    values = [rank for _, rank in ordered]
    groups = [] if difference is None else not_told_apart(values, difference)
    top = 0 if difference is None else 1
    figure, axes = figure_of((len(ordered) + top) * ROW + 42)
    most = max(values[-1], values[0] + (difference or 0.0))
    step = 0.045 * max(most - values[0], 0.1)
    if difference is not None:
        axes.plot([values[0], values[0] + difference], [0, 0], marker="|", markersize=9, color=INK, linewidth=1.4)
    for place, rank in enumerate(values, start=top):
        axes.plot([values[0], rank], [place, place], color=FAINT, linewidth=1)
        axes.plot([rank], [place], marker="o", markersize=6, color=SERIES[0], linestyle="none")
    for number, group in enumerate(groups, start=1):
        ends = [group[0] + top - 0.25, group[-1] + top + 0.25]
        axes.plot([most + number * step] * 2, ends, color=SERIES[1], linewidth=4, solid_capstyle="butt")
    names = [name for name, _ in ordered]
    _name_lines(axes, names if difference is None else ["critical difference", *names], "mean rank, 1 is best")
    return svg_of(figure, chart)
