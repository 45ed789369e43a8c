"""Text tables (CSV, TSV): cells between separators, read whole, or refused with the row that stands against it.

A quotation mark at the beginning of a cell opens a quoted cell, in which separators, line breaks and doubled marks are
content (RFC 4180). Files that were written without quoting hold marks that open nothing; taken as quoting they swallow
the rows up to the next mark. So every record is one line and the breaks inside its quoted cells, and where its lines
could as well be rows of their own, the writer's intent has to be said.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mmpsr.errors import UserError

__all__ = ["SEPARATORS", "TableError", "TextTable", "decode_table", "read_text_table", "separator_of", "text_lines"]

SEPARATORS: Mapping[str, str] = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
"""Separators that are told from the head of a table -> what they are called."""

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # a spreadsheet program's first line
_BREAK = re.compile(r"[\t\r\n]")
_HOW: Mapping[bool | None, Literal[0, 3]] = {None: csv.QUOTE_MINIMAL, True: csv.QUOTE_MINIMAL, False: csv.QUOTE_NONE}
_SHOWN = 24  # characters of a cell in a message
_SAMPLE = 50  # lines by which separators are compared


class TableError(UserError):
    """A text table that cannot be read; the message names the row, the column and the beginning of the cell."""


@dataclass(frozen=True)
class TextTable:
    """Cells of a text table.

    Attributes:
        head: names of the columns, as written.
        rows: by row as many cells as the head has; blank lines are left out.
        numbers: of each row as a spreadsheet shows it: the first line is 1, a record counts once.
        separator: what separates the cells.
        faults: number and reason of rows that are not among `rows`, since their cells do not fit the head.
        short: number and reason of rows whose last cells are not there.
        notes: number and reason of rows that were put right, 1 where it is about the whole table.
    """

    head: list[str]
    rows: list[list[str]]
    numbers: list[int]
    separator: str
    faults: list[tuple[int, str]] = field(default_factory=list)
    short: list[tuple[int, str]] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)


def text_lines(text: str) -> list[str]:
    r"""Split a text at CR LF, LF and CR only, line ends kept; other breaks of Unicode are content.

    Example:
        >>> text_lines("a\r\nb\rc\u2028d")
        ['a\r\n', 'b\r', 'c\u2028d']
    """
    return _LINE.findall(text)


def decode_table(data: bytes, encoding: str = "utf-8-sig") -> str:
    """Decode a table without its byte order mark; one of UTF-16 is believed over an encoding of UTF-8.

    Raises:
        UnicodeDecodeError: the bytes are not of the encoding.
        LookupError: there is no such encoding.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and codecs.lookup(encoding).name.startswith("utf-8"):
        encoding = "utf-16"
    return data.decode(encoding).removeprefix("\ufeff")


def separator_of(given: str) -> str:
    r"""Read a separator as people write it: one character, its name, or `\t`.

    Raises:
        ValueError: it is something else.

    Example:
        >>> separator_of("semicolon"), separator_of(r"\t")
        (';', '\t')
    """
    separator = {name: sign for sign, name in SEPARATORS.items()}.get(given.lower(), "\t" if given == r"\t" else given)
    if len(separator) != 1 or separator in '"\r\n':
        raise ValueError(f"a separator is one character, {', '.join(SEPARATORS.values())} or \\t, found {given!r}")
    return separator


def read_text_table(
    text: str,
    usual: str = ",",
    separator: str | None = None,
    quoting: bool | None = None,
    settings: tuple[str, str] | None = None,
) -> TextTable:
    r"""Read a text table.

    Args:
        text: the whole of it.
        usual: the separator where the head holds none of `SEPARATORS`.
        separator: one character; None tells it from the head and the first lines.
        quoting: whether a mark at the beginning of a cell quotes it (True) or is content (False); None takes it as
            quoting unless the lines of a record could be rows of their own.
        settings: how a user sets `quoting` to True and to False, for messages; None where it cannot be set.

    Raises:
        TableError: there is no head, a quoted cell does not close, its lines could be rows, or two separators are
            equally likely.

    Example:
        >>> table = read_text_table("id;score\na;0,5\n")
        >>> table.separator, table.rows
        (';', [['a', '0,5']])
    """
    lines, skipped = text_lines(text), 0
    named = _SEPARATOR_LINE.fullmatch(lines[0]) if lines else None
    if named and separator is None:
        separator, lines, skipped = separator_of(named[1]), lines[1:], 1
    blank = next((place for place, line in enumerate(lines) if line.strip()), len(lines))
    lines, skipped = lines[blank:], skipped + blank
    if not lines:
        raise TableError("it is empty; its first line names the columns")
    told = separator is None
    separator = separator or _told_separator(lines, usual, quoting)
    head, *records = _records(lines, skipped, separator, quoting, settings)
    table = TextTable(head[1], [], [], separator)
    if told and separator != usual:
        table.notes.append(
            (1, f"its cells are separated by {SEPARATORS.get(separator, repr(separator))}, as its head says")
        )
    _fit(table, records, quoting is not False)
    return table


def _told_separator(lines: Sequence[str], usual: str, quoting: bool | None) -> str:
    """The separator that divides the head and as many cells in the first rows; of several, that of most columns."""
    head = lines[0] if quoting is False else _QUOTED.sub("", lines[0])
    likely = [separator for separator in SEPARATORS if separator in head]
    if len(likely) < 2:
        return likely[0] if likely else usual
    csv.field_size_limit(max(csv.field_size_limit(), sum(map(len, lines[:_SAMPLE])) + 1))
    columns = {}
    for separator in likely:
        how = _HOW[quoting]
        first, *rows = [len(row) for row in csv.reader(lines[:_SAMPLE], delimiter=separator, quoting=how) if row]
        rows = rows[:-1] if len(lines) > _SAMPLE else rows  # the last may go on
        if sum(row == first for row in rows) >= 0.9 * len(rows):
            columns[separator] = first if rows else 0
    best = [separator for separator in columns if columns[separator] == max(columns.values())]
    if len(best) > 1 and max(columns.values()):
        names = " or ".join(SEPARATORS[separator] for separator in best)
        raise TableError(f"its cells could be separated by {names}, both divide every row alike; set the separator")
    return best[0] if len(best) == 1 else usual if usual in likely else likely[0]


def _records(
    lines: Sequence[str], skipped: int, separator: str, quoting: bool | None, settings: tuple[str, str] | None
) -> list[tuple[int, list[str]]]:
    """Number and cells of every record that is not blank, the head first."""
    how = _HOW[quoting]
    csv.field_size_limit(max(csv.field_size_limit(), sum(map(len, lines)) + 1))
    reader = csv.reader(lines, delimiter=separator, quoting=how, strict=True)
    records: list[tuple[int, list[str]]] = []
    quotes = quoting is True or lines[0].startswith('"')  # who quotes the head quotes
    begin, number = 0, skipped
    while begin < len(lines):
        number += 1
        try:
            cells = next(reader)
        except csv.Error:
            raise _unclosed(lines, begin, reader.line_num, skipped, number, separator, records, settings) from None
        end = reader.line_num
        if records and not quotes and '"' in lines[begin]:
            _require_one_reading(lines[begin:end], begin + skipped + 1, number, separator, cells, records, settings)
        if len(cells) > 1 or (cells and cells[0].strip()) or not records:
            records.append((number, cells))
        begin = end
    return records


def _unclosed(
    lines: Sequence[str], begin: int, end: int, skipped: int, number: int, separator: str,
    records: Sequence[tuple[int, list[str]]], settings: tuple[str, str] | None,
) -> TableError:  # fmt: skip
    """The error of a record in which a quoted cell does not close, or goes on behind the mark that closes it."""
    sign = re.escape(separator)
    cell = re.compile(rf'(?:"(?:[^"]|"")*"|(?!")[^{sign}\r\n]*)(?:({sign})|(?=[\r\n]|\Z))')
    record, place, column = "".join(lines[begin:end]), 0, 0
    while (match := cell.match(record, place)) and match[1]:
        place, column = match.end(), column + 1
    where = _where(number, begin + skipped + 1, end + skipped, column, records)
    advice = f"; if the file was written without quoting, set {settings[1]}" if settings else ""
    return TableError(
        f"{where}: the quotation mark that begins {_beginning(record[place:])} opens a cell that does not close where "
        f'a cell ends; a cell that holds a mark is written in marks, the mark itself twice ("He said ""no"""){advice}'
    )


def _require_one_reading(
    lines: Sequence[str], first: int, number: int, separator: str, cells: Sequence[str],
    records: Sequence[tuple[int, list[str]]], settings: tuple[str, str] | None,
) -> None:  # fmt: skip
    """Refuse a record that fits the head as well, or better, where its marks are content.

    Raises:
        TableError: of several lines, at least nine in ten have as many cells as the head; or the only line has, and
            its marks joined some of them.
    """
    width = len(records[0][1])
    parts = [line.rstrip("\r\n").split(separator) for line in lines if line.strip()]
    fitting = sum(len(part) == width for part in parts)
    if fitting < 0.9 * len(parts) or (len(lines) == 1 and len(cells) >= width):
        return
    breaks = [place for place, cell in enumerate(cells) if "\n" in cell or "\r" in cell or separator in cell]
    column = breaks[0] if breaks else 0
    if len(lines) > 1:
        what = f"one cell of {len(lines)} lines, or {len(lines)} rows written without quoting"
    else:
        what = f"{len(cells)} cells, or the {width} of the head written without quoting"
    advice = (
        f"set {settings[1]} if the marks are content, {settings[0]} if they quote" if settings else
        'write a cell that holds a mark in marks, the mark itself twice ("")'
    )  # fmt: skip
    raise TableError(
        f"{_where(number, first, first + len(lines) - 1, column, records)}: a quotation mark begins "
        f"{_beginning(cells[column])} and that could be {what}; {advice}"
    )


def _where(number: int, first: int, last: int, column: int, records: Sequence[tuple[int, list[str]]]) -> str:
    name = repr(records[0][1][column]) if records and column < len(records[0][1]) else str(column + 1)
    lines = f"line {first}" if first == last else f"lines {first} to {last}"
    return f"row {number} ({lines}), column {name}"


def _beginning(cell: str) -> str:
    shown = _BREAK.split(cell.lstrip(' "'), maxsplit=1)[0][:_SHOWN]
    return f"{shown!r} ..."


def _fit(table: TextTable, records: Sequence[tuple[int, list[str]]], has_quoting: bool) -> None:
    """Sort the records into rows, faults and notes by how many cells they have."""
    width, name = len(table.head), SEPARATORS.get(table.separator, repr(table.separator))
    for number, cells in records:
        beyond = [cell for cell in cells[width:] if cell.strip()]
        if beyond:
            blanks = any(cell.lstrip() != cell and '"' in cell for cell in cells)
            blank = " without a blank before them" if blanks else ""
            advice = f'a cell that holds a {name} is written in quotation marks{blank}: "yes{table.separator} no"'
            advice = advice if has_quoting else f"without quoting no cell can hold a {name}"
            shown = _beginning(beyond[0])
            reason = f"has {len(cells)} cells, the head has {width}; beyond it stands {shown} ({advice})"
            table.faults.append((number, reason))
        elif cells == table.head:
            table.notes.append((number, "repeats the head; left out"))
        elif len(cells) == 1 < width:
            reason = (
                f"has {len(cells)} of {width} cells and begins {_beginning(cells[0])} (a text with a line break is "
                f"written in quotation marks; for empty cells write the {name})"
            )
            table.faults.append((number, reason))
        else:
            if len(cells) < width:
                reason = f"has {len(cells)} of {width} cells; the others are empty, unless they are in the next row"
                table.short.append((number, reason))
            table.rows.append([*cells, *[""] * (width - len(cells))][:width])
            table.numbers.append(number)
