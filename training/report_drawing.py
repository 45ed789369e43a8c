"""What the charts of a report have in common: their style, and how a drawing becomes part of a page.

Every chart is 320 units wide, so that its letters stay legible on a phone; a page places several side by side. Text
stays text, ink is `currentColor`, and series are the page's `--c1` to `--c8`: one drawing serves light and dark. The
same values give the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["DASHES", "FAINT", "INK", "ROW", "SERIES", "figure_of", "legend", "shortened", "styled", "svg_of"]

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
    """A name that fits beside a chart.

    Example:
        >>> shortened("a name that is much too long to fit")
        'a name that is much too…'
    """
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def figure_of(height: float) -> tuple[Figure, Axes]:
    """A figure of some height, in units, with axes that fill it."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), facecolor="none")
    return figure, figure.add_subplot(facecolor="none")


def legend(names: Iterable[str]) -> list[tuple[str, str]]:
    """The style of each series of `lines` or `bars`, as classes of the page, and its name."""
    return [
        (f"c{index % len(SERIES) + 1}{'' if index // 4 % len(DASHES) == 0 else ' dashed'}", name)
        for index, name in enumerate(names)
    ]


def svg_of(figure: Figure, chart: str) -> str:
    """The drawing as an element of a page, with identifiers of its own."""
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
