"""Table files (CSV, TSV, Parquet, JSON lines) as text cells that know their file and row."""

from __future__ import annotations

import json
import re
import string
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AfterValidator

from corpora.clips import CorpusError
from corpora.source import missing_path
from mmpsr.config import Config, nearest

__all__ = ["Cells", "ColumnPattern", "Selector", "read_cells", "shown_path"]

SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


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


@dataclass(frozen=True)
class Cells:
    """Cells of one file as text.

    Attributes:
        file: the file's path as a user knows it.
        frame: the cells; an empty cell is `""`, wholly blank rows are left out.
        rows: number of each row as a spreadsheet or editor shows it.
    """

    file: str
    frame: pd.DataFrame
    rows: list[int]

    def where(self, row: int) -> str:
        """Name of a row, counted from 0, for messages."""
        return f"{self.file}, row {self.rows[row]}"

    def places(self) -> pd.Series:
        """Names of all rows."""
        return pd.Series([self.where(row) for row in range(len(self.frame))], dtype="string")

    def column(self, name: str) -> pd.Series:
        """The cells of a column.

        Raises:
            CorpusError: there is no such column; the nearest and all existing ones are named.
        """
        if name not in self.frame:
            columns = list(self.frame.columns)
            near = nearest(name, columns)
            known = f"; columns are {', '.join(columns)}" if near.startswith("did") else ""
            raise CorpusError(f"{self.file} has no column {name!r}; {near}{known}")
        return self.frame[name]

    def select(self, source: Selector) -> pd.Series:
        """Text by row, missing where a cell is blank, a template's field is blank, or a pattern does not match."""
        if isinstance(source, ColumnPattern):
            text = self.column(source.column).str.extract(source.pattern, expand=False)
        elif "{" in source:
            text = self._fill(source)
        else:
            text = self.column(source)
        text = text.astype("string")
        return text.mask(text.str.strip().eq("").fillna(True).astype(bool))

    def _fill(self, template: str) -> pd.Series:
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
            if field not in self.frame:
                hint = nearest(field, self.frame.columns)
                raise CorpusError(f"template {template!r} names {field!r}, which is no column of {self.file}; {hint}")
            text = text + self.frame[field].where(self.frame[field].str.strip().ne(""))
        return text

    def numbers(self, text: pd.Series, origin: str, missing: Collection[str]) -> NDArray[np.float64]:
        """Numbers of `text` by row, NaN where it is blank or one of `missing`; `origin` names where it stands.

        Raises:
            CorpusError: a cell is not a number; file, row, column and cell are named.
        """
        numbers = np.full(len(text), np.nan)
        for row, cell in enumerate(text.fillna("")):
            if not cell.strip() or cell.strip() in missing:
                continue
            try:
                numbers[row] = float(cell)
            except ValueError:
                raise CorpusError(
                    f"{self.where(row)}, {origin}: {cell!r} is not a number; "
                    "list cells that mean 'unknown' under `missing`"
                ) from None
        return numbers


def shown_path(path: Path, root: Path) -> str:
    """A path as a user of `corpora.root` recognises it: relative to the root where it lies below."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def read_cells(path: Path, root: Path, separator: str | None = None, encoding: str = "utf-8-sig") -> Cells:
    """Read a table file, its kind told by its suffix.

    Args:
        path: `.csv`, `.tsv`, `.txt` (tab-separated), `.parquet`, or `.jsonl` / `.ndjson`.
        root: `corpora.root`, for messages.
        separator: what separates the cells of a text table, where it is not the suffix' usual.
        encoding: of text files.

    Raises:
        CorpusError: the file is not there, of an unknown kind, or cannot be parsed.
    """
    if not path.is_file():
        raise missing_path("file", path, root)
    shown, suffix = shown_path(path, root), path.suffix.lower()
    try:
        if suffix == ".parquet":
            return _as_text(shown, pd.read_parquet(path, dtype_backend="numpy_nullable"), first_row=1)
        if suffix in (".jsonl", ".ndjson"):
            return _as_text(shown, _read_json_lines(path, encoding), first_row=1)
        if suffix not in SEPARATORS:
            kinds = ", ".join([*SEPARATORS, ".parquet", ".jsonl", ".ndjson"])
            raise CorpusError(f"{shown} is not a table file; kinds are {kinds}")
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header would lose cells
            frame = pd.read_csv(
                path, sep=separator or SEPARATORS[suffix], encoding=encoding, dtype=str, keep_default_na=False,
                index_col=False, skip_blank_lines=False,
            )  # fmt: skip
    except UnicodeDecodeError as error:
        raise CorpusError(f"{shown} is not {encoding} at byte {error.start}; set the corpus' `encoding`") from None
    except CorpusError:
        raise
    except (ValueError, pd.errors.ParserWarning) as error:
        raise CorpusError(f"{shown} cannot be read as a table: {error}") from None
    return _as_text(shown, frame, first_row=2)


def _read_json_lines(path: Path, encoding: str) -> pd.DataFrame:
    rows = []
    with path.open(encoding=encoding) as lines:
        for number, line in enumerate(lines, start=1):
            row = json.loads(line) if line.strip() else {}
            if not isinstance(row, dict):
                raise ValueError(f"row {number} is not a JSON object")
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def _as_text(file: str, frame: pd.DataFrame, first_row: int) -> Cells:
    def text(cell: Any) -> str:
        return "" if pd.api.types.is_scalar(cell) and pd.isna(cell) else str(cell)

    cells = pd.DataFrame({str(name): [text(cell) for cell in frame[name]] for name in frame}, dtype="string")
    written = (cells != "").any(axis=1)
    return Cells(file, cells[written].reset_index(drop=True), [first_row + int(row) for row in np.flatnonzero(written)])
