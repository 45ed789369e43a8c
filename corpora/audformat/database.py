"""What an audformat database holds: its header, read without trust, and its tables as text cells with their rows.

    db.yaml                          schemes, splits, tables and their columns
    db.<table>.parquet or .csv       file, or file, start, end; then a column per annotation

The files are read here and not by the library of that name, which prefers pickles that it once wrote beside them.

References:
    The specification of audformat, https://audeering.github.io/audformat/data-introduction.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from corpora.clips import CorpusError, Defects
from corpora.reading.cells import Cells, read_cells
from corpora.reading.paths import missing_path, shown_path
from corpora.reading.untrusted import read_yaml
from mmpsr.config import nearest

__all__ = ["FILE", "Database", "DatabaseTable", "read_database", "read_seconds", "read_table"]

HEADER = "db.yaml"
FILE = "file"
"""Name of the column that holds the media file, of every table."""
LONGEST = 1_000_000_000.0
"""Most seconds that a time may be; nanoseconds beyond do not fit."""


@dataclass(frozen=True)
class DatabaseTable:
    """A table as the header declares it.

    Attributes:
        segmented: whether its rows are segments of files; else they are files.
        split: type of its split (train, dev, test, other); None where it has none.
        schemes: scheme by column, None where a column has none.
    """

    segmented: bool
    split: str | None
    schemes: Mapping[str, str | None]

    def columns_of(self, name: str) -> list[str]:
        """List the columns that are meant by a name: the one of that name, else those of the scheme of that name."""
        if name in self.schemes:
            return [name]
        return [column for column, scheme in self.schemes.items() if scheme == name]


@dataclass(frozen=True)
class Database:
    """A header.

    Attributes:
        folder: where it lies, and the media below.
        root: `corpora.root`, for messages.
        tables: by name; those without files, which describe labels, are left out.
        ranges: lowest and highest value by scheme, of numbers whose scheme says both.
        languages: as the header names them.
    """

    folder: Path
    root: Path
    tables: Mapping[str, DatabaseTable]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    languages: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The header as messages name it."""
        return shown_path(self.folder / HEADER, self.root)

    def names(self) -> list[str]:
        """List columns and schemes, for messages about one that is not there."""
        names = (name for table in self.tables.values() for pair in table.schemes.items() for name in pair)
        return list(dict.fromkeys(name for name in names if name is not None))


def read_database(folder: Path, root: Path) -> Database:
    """Read the header of a database.

    Args:
        folder: that `db.yaml` lies in.
        root: `corpora.root`, for messages.

    Raises:
        CorpusError: there is none, it is damaged, or a part of it is not what the format says.
    """
    path = folder / HEADER
    if not path.is_file():
        raise missing_path("file", path, root)
    shown = shown_path(path, root)
    header = _mapping(read_yaml(path, shown), shown, "the document")
    splits = {name: _mapping(split, shown, f"splits.{name}").get("type", "other")
              for name, split in _part(header, "splits", shown).items()}  # fmt: skip
    ranges = {}
    schemes = _part(header, "schemes", shown)
    for name, scheme in schemes.items():
        own = _mapping(scheme, shown, f"schemes.{name}")
        span = tuple(float(own[end]) for end in ("minimum", "maximum") if _is_number(own.get(end)))
        if len(span) == 2 and span[0] < span[1]:
            ranges[name] = span
    tables = {}
    for name, table in _part(header, "tables", shown).items():
        own = _mapping(table, shown, f"tables.{name}")
        kind, split = own.get("type"), own.get("split_id")
        if kind not in ("filewise", "segmented"):
            raise CorpusError(f"{shown}: tables.{name}.type is {kind!r}; it must be filewise or segmented")
        if split is not None and split not in splits:
            raise CorpusError(f"{shown}: tables.{name}.split_id is {split!r}; {nearest(str(split), map(str, splits))}")
        columns = {}
        for column, declared in _part(own, "columns", shown, f"tables.{name}.").items():
            scheme = None if declared is None else _mapping(declared, shown, f"{name}.{column}").get("scheme_id")
            if scheme is not None and scheme not in schemes:
                known = nearest(str(scheme), map(str, schemes))
                raise CorpusError(f"{shown}: tables.{name}.columns.{column}.scheme_id is {scheme!r}; {known}")
            columns[column] = scheme
        tables[name] = DatabaseTable(kind == "segmented", None if split is None else str(splits[split]), columns)
    if not tables:
        raise CorpusError(f"{shown} declares no table of files or segments; such a database has no clips")
    languages = header.get("languages") or []
    languages = [languages] if isinstance(languages, str) else languages
    return Database(folder, root, tables, ranges, tuple(map(str, languages)))


def read_table(database: Database, name: str, defects: Defects) -> Cells:
    """Read a table; see `read_database`. Its cells are as they are found, times too.

    Args:
        database: the header.
        name: of the table.
        defects: notes rows that do not fit the head, and files that are left out.

    Raises:
        CorpusError: the table is not there, only as a pickle, or lacks a column that the header declares.
    """
    stem = f"{HEADER.removesuffix('.yaml')}.{name}"
    parquet, csv, pickle = (database.folder / f"{stem}.{suffix}" for suffix in ("parquet", "csv", "pkl"))
    path = parquet if parquet.is_file() else csv
    shown = shown_path(path, database.root)
    if not path.is_file() and pickle.is_file():
        raise CorpusError(
            f"{shown_path(pickle, database.root)}: a pickle can run what its author likes, and is not read; load the "
            'database where you trust it, and save it with storage_format="parquet"'
        )
    if not path.is_file():
        raise missing_path(f"file {stem}.csv or", parquet, database.root)
    if parquet.is_file() and csv.is_file():
        reason = f"{shown} is read instead, as audformat does; remove one of them"
        defects.add("ignored", shown_path(csv, database.root), reason)
    separator = None if path == parquet else "comma"
    cells = read_cells(path, database.root, separator, quoting=separator is not None or None, defects=defects)
    table = database.tables[name]
    levels = (FILE, "start", "end") if table.segmented else (FILE,)
    for column in (*levels, *table.schemes):
        cells.column(column)  # says that it is not there
    return cells


def read_seconds(cells: Cells, column: str, defects: Defects) -> pd.Series:
    """Read durations such as `0 days 00:00:01.5` as nanoseconds (Int64, missing where blank).

    A cell that is none is the error `bad_number`.
    """
    text = cells.column(column).str.strip()
    blank = text.isin(["", "NaT"])
    bare = text.str.fullmatch(r"[+-]?\d+(\.\d*)?")  # of which unit, nobody knows
    times = pd.to_timedelta(text.mask(blank | bare), errors="coerce")
    wrong = (times.isna() & ~blank) | (times.dt.total_seconds().abs() > LONGEST)
    for row in np.flatnonzero(wrong):
        reason = f"{text.iloc[row]!r} is no time; write 0 days 00:00:01.5 for one and a half seconds"
        defects.add("bad_number", f"{cells.where(int(row))}, column {column!r}", reason)
    nanoseconds = times.mask(wrong).astype("timedelta64[ns]")
    return nanoseconds.astype("int64").astype("Int64").mask(nanoseconds.isna())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mapping(value: object, shown: str, place: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise CorpusError(f"{shown}: {place} is {type(value).__name__}, expected a mapping; see the format's pages")
    return value


def _part(header: Mapping[Any, Any], name: str, shown: str, above: str = "") -> dict[str, Any]:
    part = _mapping(header.get(name) or {}, shown, above + name)
    return {str(key): value for key, value in part.items()}
