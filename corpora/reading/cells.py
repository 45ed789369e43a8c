"""Table files (CSV, TSV, Parquet, JSON lines, folders of datasets) as text cells that know their file and row."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AfterValidator

from corpora.clips import CorpusError, Defects
from corpora.reading.hugging_face import is_dataset, read_dataset
from corpora.reading.numbers import Decimal, read_numbers
from corpora.reading.paths import missing_path, shown_path
from mmpsr.config import Config, nearest
from mmpsr.delimited import TableError, decode_table, read_text_table, separator_of

__all__ = ["Cells", "ColumnPattern", "RawCells", "Selector", "plain_numbers", "read_cells"]

USUAL_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
"""Suffix of a text table -> its separator where the head tells none."""


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"the pattern must have exactly one capture group (...), it has {groups}")
    return pattern


class ColumnPattern(Config):
    """Part of a column's cells."""

    column: str
    """Column that holds the text."""
    pattern: Annotated[str, AfterValidator(_one_group)]
    """Regular expression searched in each cell; its one capture group is the value."""


Selector = str | ColumnPattern
"""Where values come from: a column, a template of columns such as `"videos/{name}.mp4"`, or a part of a column."""


def plain_numbers(text: pd.Series) -> pd.Series:
    """The text with whole numbers written without decimals, since tables with gaps are often saved with them.

    Example:
        >>> plain_numbers(pd.Series(["5.0", "-1.00", "0.5", "v1.0"])).tolist()
        ['5', '-1', '0.5', 'v1.0']
    """
    return text.str.replace(r"^([+-]?\d+)\.0+$", r"\1", regex=True)


@dataclass(frozen=True)
class Cells:
    """Cells of one file as text.

    Attributes:
        file: the file's path as a user knows it.
        frame: the cells; an empty cell is `""`, wholly blank rows are left out.
        rows: number of each row as a spreadsheet or editor shows it.
        decimal: the sign before the decimals of numbers, where it is known.
        told: what separates the cells, where the head told that and not the suffix; for messages.
        repeated: names that several columns have.
    """

    file: str
    frame: pd.DataFrame
    rows: list[int]
    decimal: Decimal | None = None
    told: str = ""
    repeated: tuple[str, ...] = ()

    def where(self, row: int) -> str:
        """Name of a row, counted from 0, for messages."""
        return f"{self.file}, row {self.rows[row]}"

    def places(self) -> pd.Series:
        """Names of all rows."""
        return pd.Series([self.where(row) for row in range(len(self.frame))], dtype="string")

    def column(self, name: str) -> pd.Series:
        """The cells of a column.

        Raises:
            CorpusError: there is no such column (the nearest and all existing ones are named), or several.
        """
        if name in self.repeated:
            raise CorpusError(f"{self.file} has several columns {name!r}; rename all but the one that is meant")
        if name not in self.frame:
            columns = list(self.frame.columns)
            near = nearest(name, columns)
            known = f"; columns are {', '.join(columns)}" if near.startswith("did") else ""
            raise CorpusError(f"{self.file} has no column {name!r}; {near}{known}{self.told}")
        return self.frame[name]

    def select(self, source: Selector, **fields: pd.Series) -> pd.Series:
        """Text by row, missing where a cell is blank, a template's field is blank, or a pattern does not match.

        Args:
            source: column, template, or pattern.
            **fields: what templates may name besides the columns, by row; a column of that name goes first.
        """
        if isinstance(source, ColumnPattern):
            text = self.column(source.column).str.extract(source.pattern, expand=False)
        elif "{" in source:
            text = self._fill(source, fields)
        else:
            text = self.column(source)
        text = text.astype("string")
        return text.mask(text.str.strip().eq("").fillna(True).astype(bool))

    def _fill(self, template: str, fields: Mapping[str, pd.Series]) -> pd.Series:
        known: dict[str, pd.Series] = {**fields, **{str(name): self.frame[name] for name in self.frame}}
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise CorpusError(f"template {template!r}: {error}") from None
        text = pd.Series("", index=self.frame.index, dtype="string")
        for literal, field, specification, conversion in parts:
            text = text + literal
            if field is None:
                continue
            if specification or conversion:
                raise CorpusError(f"template {template!r}: write {{{field}}} alone, formats are not supported")
            if field not in known:
                hint = nearest(field, known)
                raise CorpusError(f"template {template!r} names {field!r}, which is no column of {self.file}; {hint}")
            if field in self.repeated:
                self.column(field)  # says that there are several
            text = text + known[field].where(known[field].str.strip().ne(""))
        return text

    def missing(self, text: pd.Series, missing: Collection[str]) -> pd.Series:
        """Which rows of `text` are blank or one of `missing`; a whole number may be written with decimals (-1.0)."""
        plain = plain_numbers(text.fillna("").str.strip())
        return plain.isin(["", *plain_numbers(pd.Series(list(missing), dtype="string"))])

    def numbers(
        self,
        text: pd.Series,
        origin: str,
        missing: Collection[str],
        defects: Defects,
        kind: str = "bad_number",
        clock: bool = False,
    ) -> NDArray[np.float64]:
        """Finite numbers of `text` by row, NaN where it is blank or one of `missing`; `origin` names where it stands.

        A cell that is no number is a defect of the given kind, and NaN. Decimals may stand behind a comma; with `clock`
        the numbers are seconds, and times such as `1:02:03.5` are read, too; see `read_numbers`.
        """
        stripped = text.fillna("").str.strip()
        unknown = self.missing(text, missing).to_numpy(dtype=bool)
        numbers, reasons = read_numbers(stripped.mask(unknown), self.decimal, clock, missing)
        for row, reason in reasons.items():
            defects.add(kind, f"{self.where(row)}, {origin}", reason)
        for sign, what in {",": "decimal commas are read as decimal points", ":": "times are read as seconds"}.items():
            rows = np.flatnonzero(stripped.str.contains(sign, regex=False).fillna(False) & np.isfinite(numbers))
            if len(rows):
                example = f"{stripped.iloc[rows[0]]!r} as {numbers[rows[0]]:g}"
                defects.add("mended", f"{self.where(int(rows[0]))}, {origin}", f"{len(rows)} {what} ({example})")
        return numbers


@dataclass(frozen=True)
class RawCells(Cells):
    """The `raw.` columns of clips that were read already; `rows` holds the place of each."""

    rows: list[str]  # type: ignore[assignment]

    def where(self, row: int) -> str:
        """Place of a row."""
        return self.rows[row]


def read_cells(
    path: Path,
    root: Path,
    separator: str | None = None,
    encoding: str = "utf-8-sig",
    *,
    quoting: bool | None = None,
    decimal: Decimal | None = None,
    setting: str | None = None,
    defects: Defects | None = None,
) -> Cells:
    """Read a table file, its kind told by its suffix.

    Args:
        path: `.csv`, `.tsv`, `.txt` (tab-separated), `.parquet`, or `.jsonl` / `.ndjson`; or a folder that Hugging
            Face's `save_to_disk` wrote.
        root: `corpora.root`, for messages.
        separator: what separates the cells of a text table; left out, told from its head.
        encoding: of text files.
        quoting: whether a quotation mark at the beginning of a cell quotes it, see `read_text_table`.
        decimal: the sign before the decimals of numbers, where it is known.
        setting: the setting of the corpus under which `quoting` stands; None where a user cannot set it.
        defects: notes rows that do not fit the head; None raises for the first of them.

    Raises:
        CorpusError: the file is not there, of an unknown kind, or cannot be parsed.
    """
    shown, suffix = shown_path(path, root), path.suffix.lower()
    if is_dataset(path):
        return _as_text(shown, _text_frame(read_dataset(path, shown)), decimal)
    if not path.is_file():
        raise missing_path("file", path, root)
    try:
        if suffix == ".parquet":
            return _as_text(shown, _text_frame(_read_parquet(path)), decimal)
        if suffix in (".jsonl", ".ndjson"):
            return _as_text(shown, _text_frame(_read_json_lines(path, encoding)), decimal)
        if suffix not in USUAL_SEPARATORS:
            kinds = ", ".join([*USUAL_SEPARATORS, ".parquet", ".jsonl", ".ndjson"])
            raise CorpusError(f"{shown} is not a table file; kinds are {kinds}")
        settings = (f"{setting}.quoting = true", f"{setting}.quoting = false") if setting else None
        given = None if separator is None else separator_of(separator)
        text = decode_table(path.read_bytes(), encoding)
        table = read_text_table(text, USUAL_SEPARATORS[suffix], given, quoting, settings)
    except UnicodeDecodeError as error:
        raise CorpusError(f"{shown} is not {encoding} at byte {error.start}; set the corpus' `encoding`") from None
    except CorpusError:
        raise
    except TableError as error:
        raise CorpusError(
            f"{shown}: {error}" if str(error).startswith("row ") else f"{shown} cannot be read as a table: {error}"
        ) from None
    except Exception as error:  # the parsers' own errors are of many kinds
        raise CorpusError(f"{shown} cannot be read as a table: {error}") from None
    for number, reason in table.faults:
        if defects is None:
            raise CorpusError(f"{shown}, row {number}: {reason}")
        defects.add("bad_row", f"{shown}, row {number}", reason)
    if defects is not None:
        for number, reason in table.short:
            defects.add("short_row", f"{shown}, row {number}", reason)
        for number, reason in table.notes:
            defects.add("mended", shown if number == 1 else f"{shown}, row {number}", reason)
    told = f"; {table.notes[0][1]}" if table.notes and table.notes[0][0] == 1 else ""
    frame = pd.DataFrame(table.rows, columns=_distinct(table.head), dtype="string")
    repeated = tuple(name for name, count in Counter(table.head).items() if count > 1)
    written = (frame != "").any(axis=1).to_numpy(dtype=bool)
    rows = [number for number, some in zip(table.numbers, written, strict=True) if some]
    return Cells(shown, frame[written].reset_index(drop=True), rows, decimal, told, repeated)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of columns, a number behind those that stood before."""
    counts: Counter[str] = Counter()
    distinct = []
    for name in names:
        distinct.append(f"{name}.{counts[name]}" if counts[name] else name)
        counts[name] += 1
    return distinct


def _read_parquet(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise ValueError(f"column {repeated[0]!r} occurs twice")
    return frame if frame.index.name is None else frame.reset_index()  # ids that were written as the index


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of its pairs.

    Raises:
        ValueError: a name occurs twice.
    """
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"{repeated[0]!r} occurs twice")
    return dict(pairs)


def _read_json_lines(path: Path, encoding: str) -> pd.DataFrame:
    rows = []
    with path.open(encoding=encoding) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line, object_pairs_hook=_without_repeats) if line.strip() else {}
            except (ValueError, RecursionError) as error:
                raise ValueError(f"row {number} is not JSON ({error}); it begins {line[:24]!r}") from None
            if not isinstance(row, dict):
                raise ValueError(f"row {number} is not a JSON object")
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def _text_frame(frame: pd.DataFrame) -> pd.DataFrame:
    def text(cell: Any) -> str:
        return "" if pd.api.types.is_scalar(cell) and pd.isna(cell) else str(cell)

    return pd.DataFrame({str(name): [text(cell) for cell in frame[name]] for name in frame}, dtype="string")


def _as_text(file: str, cells: pd.DataFrame, decimal: Decimal | None) -> Cells:
    """The cells of a table whose rows are counted from 1, without its blank rows."""
    written = (cells != "").any(axis=1)
    rows = [1 + int(row) for row in np.flatnonzero(written)]
    return Cells(file, cells[written].reset_index(drop=True), rows, decimal)
