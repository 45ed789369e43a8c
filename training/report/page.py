"""A report as one HTML file: sections of cards, tables and charts, with warnings on top.

Nothing is fetched: the style is inline, charts are inline SVG, and there is no script. All text is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

__all__ = [
    "Block",
    "Card",
    "Cards",
    "Cell",
    "Chart",
    "Charts",
    "Page",
    "Section",
    "Table",
    "Text",
    "Warning_",
    "render",
]

Level = Literal["serious", "caution", "note"]
LEVELS: tuple[Level, ...] = ("serious", "caution", "note")


@dataclass(frozen=True)
class Cell:
    """What a table shows in one place.

    Attributes:
        text: the value.
        note: in small letters below it, such as an interval; it may have lines.
        strong: whether it stands out.
    """

    text: str
    note: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells; it scrolls by itself where the page is narrow.

    Attributes:
        head: titles of the columns.
        rows: as many cells each; text is a cell without a note.
        caption: what to see in it.
        num_left: columns that are words and stand left; the others are numbers.
        folded: title behind which the table is hidden at first; empty where it is shown.
    """

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""
    num_left: int = 1
    folded: str = ""

    @property
    def cells(self) -> list[list[Cell]]:
        """All rows as cells."""
        return [[each if isinstance(each, Cell) else Cell(each) for each in row] for row in self.rows]


@dataclass(frozen=True)
class Chart:
    """A drawing of `training.report.charts`.

    Attributes:
        title: what it is of.
        svg: the drawing.
        caption: what to see in it.
        legend: class of the page's style (`c1` to `c8`, `dot`, `diamond`, `tick`, `band`) and name of each series.
    """

    title: str
    svg: str
    caption: str
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Charts:
    """Charts side by side."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]


@dataclass(frozen=True)
class Card:
    """One number in large letters.

    Attributes:
        title: what it is of.
        value: the number.
        interval: its interval.
        notes: short remarks.
    """

    title: str
    value: str
    interval: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Cards:
    """Cards side by side."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]


@dataclass(frozen=True)
class Text:
    """A paragraph, or what was typed.

    Attributes:
        text: plain.
        typed: whether it is shown as a command.
    """

    kind: ClassVar[str] = "text"
    text: str
    typed: bool = False


Block = Table | Charts | Cards | Text


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: for links to it, letters and dashes.
        title: heading.
        blocks: in order; a section without any is left out.
    """

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Warning_:  # noqa: N801  `Warning` is Python's
    """What a reader must know before believing a figure."""

    level: Level
    text: str


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        kind: of what, such as `Training run`.
        title: its name.
        facts: name and value, shown below the title.
        warnings: shown above everything else.
        sections: in order.
    """

    kind: str
    title: str
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[Warning_] = field(default_factory=list)
    sections: Sequence[Section] = field(default_factory=list)


def render(page: Page) -> str:
    """Render the page as HTML; the same page gives the same text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    icon = base64.b64encode((Path(__file__).parents[1] / "templates" / "icon.svg").read_bytes()).decode()
    return environment.get_template("report.html").render(
        page=page,
        icon=icon,
        warnings=sorted(page.warnings, key=lambda warning: LEVELS.index(warning.level)),
        sections=[section for section in page.sections if section.blocks],
    )
