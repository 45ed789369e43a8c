"""The clips of an audformat database, and what its columns say of each: tables joined by file, start and end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from corpora.audformat.database import FILE, Database, read_seconds, read_table
from corpora.clips import CorpusError, Defects
from corpora.reading.cells import Cells, RawCells
from mmpsr.config import nearest

__all__ = ["View", "find_columns"]


@dataclass
class View:
    """The clips of a database, and what its columns say of them.

    Attributes:
        database: the header.
        tables: whose rows are clips.
        place: the corpus' place in the configuration, for messages.
        defects: notes what contradicts and what is not used.
    """

    database: Database
    tables: tuple[str, ...]
    place: str
    defects: Defects
    _read: dict[str, tuple[Cells, pd.DataFrame]] = field(default_factory=dict)
    _values: dict[str, pd.Series] = field(default_factory=dict)

    @cached_property
    def clips(self) -> pd.DataFrame:
        """Columns `clip_id`, `file`, `start` and `end` (nanoseconds), `where`; a clip of several tables stands once."""
        parts = [self._table(table)[1].assign(table=table) for table in self.tables]
        rows = pd.concat(parts, ignore_index=True)
        repeated = rows.duplicated(["clip_id", "table"])
        for clip, where in rows.loc[repeated, ["clip_id", "where"]].itertuples(index=False):
            reason = f"{clip!r} occurs already in this table; a file or segment must have one row"
            self.defects.add("duplicate_id", where, reason, clip)
        nameless = rows[FILE].eq("")
        self.defects.add_rows("unusable_row", rows, nameless, "names no file; the row is not used")
        return rows[~nameless].drop_duplicates("clip_id").drop(columns="table").reset_index(drop=True)

    @property
    def files(self) -> pd.Series:
        """Media file by clip, relative to the database."""
        return self.clips[FILE]

    def inside(self, *tables: str) -> pd.Series:
        """Tell which clips stand in one of the tables."""
        ids = [self._table(table)[1]["clip_id"] for table in tables]
        return self.clips["clip_id"].isin(pd.concat(ids) if ids else [])

    def text(self, name: str | None, setting: str) -> pd.Series:
        """Read a column as text by clip, missing where blank, or everywhere where there is no such setting."""
        if name is None:
            return pd.Series(pd.NA, index=self.clips.index, dtype="string")
        values = self.values(name, setting)
        return values.mask(values.str.strip().eq(""))

    def cells(self, columns: Mapping[str, str]) -> Cells:
        """Read columns, by name the setting that asks for them, as cells whose rows are clips."""
        frame = pd.DataFrame({name: self.values(name, setting) for name, setting in columns.items()})
        return RawCells(self.database.shown, frame, self.clips["where"].tolist())

    def values(self, name: str, setting: str) -> pd.Series:
        """Read a column as text by clip, blank where nothing says it; what contradicts is noted, and blank."""
        if name not in self._values:
            self._values[name] = self._joined(name, self._sources(name, setting))
        return self._values[name]

    def ranges_of(self, name: str, setting: str) -> list[tuple[float, float]]:
        """List the ranges that the schemes of a column say, table by table without repetition."""
        schemes = (self.database.tables[table].schemes[column] or "" for table, column in self._sources(name, setting))
        ranges = dict.fromkeys(map(self.database.ranges.get, schemes))
        return [span for span in ranges if span is not None]

    def note_spread(self, names: Iterable[str], setting: str) -> None:
        """Note labels of files that are given to segments of them."""
        for name in names:
            table, _ = self._sources(name, setting)[0]
            if self.database.tables[self.tables[0]].segmented and not self.database.tables[table].segmented:
                reason = f"{name!r} of whole files (table {table!r}) is the label of each of their segments"
                self.defects.add("mended", self.database.shown, reason)

    def note_unused(self) -> None:
        """Note tables that nothing was read from."""
        for table in self.database.tables:
            if table not in self._read:
                reason = f"table {table!r} is not read: no setting names it or a column of it"
                self.defects.add("ignored", self.database.shown, reason)

    def _sources(self, name: str, setting: str) -> list[tuple[str, str]]:
        """Find the tables and columns that are meant: of the clips' tables, else of those that can tell of a clip."""
        places = find_columns(self.database, name, setting)
        own = [place for place in places if place[0] in self.tables]
        if own:
            return own
        segmented = self.database.tables[self.tables[0]].segmented
        usable = [place for place in places if segmented or not self.database.tables[place[0]].segmented]
        if not usable:
            tables = ", ".join(table for table, _ in places)
            raise CorpusError(
                f"{setting}: {name!r} is of segments (table {tables}), but clips are whole files (of "
                f"{', '.join(self.tables)}); name tables of segments in {self.place}.tables"
            )
        return usable

    def _joined(self, name: str, sources: list[tuple[str, str]]) -> pd.Series:
        joined = pd.Series("", index=self.clips.index, dtype="string")
        said = pd.Series("", index=self.clips.index, dtype="string")
        torn = pd.Series(False, index=self.clips.index)
        for table, column in sources:
            cells, rows = self._table(table)
            key = "clip_id" if self.database.tables[table].segmented else FILE
            written = pd.DataFrame({"key": rows[key], "text": cells.column(column), "where": rows["where"]})
            written = written[written["text"].str.strip().ne("")]
            self._note_strangers(table, column, written, key)
            distinct = written.drop_duplicates(["key", "text"])
            others = distinct[distinct.duplicated("key", keep=False)]
            first = distinct.drop_duplicates("key").set_index("key")
            own, where = (self.clips[key].map(first[part]).fillna("").astype("string") for part in ("text", "where"))
            inner = self.clips[key].isin(others["key"])
            both = (joined.ne("") & own.ne("") & joined.ne(own)) | inner
            for row in np.flatnonzero(both & ~torn):
                clip = self.clips["clip_id"].iloc[row]
                values = (
                    " and ".join(map(repr, others.loc[others["key"].eq(self.clips[key].iloc[row]), "text"]))
                    if inner.iloc[row]
                    else f"{joined.iloc[row]!r} ({said.iloc[row]}) and {own.iloc[row]!r} ({where.iloc[row]})"
                )
                hint = "say which table is meant: `table/column`" if len(sources) > 1 else "correct one of them"
                self.defects.add("bad_label", where.iloc[row], f"{name!r} is {values}; {hint}", clip)
            torn |= both
            said = said.mask(joined.eq(""), where)
            joined = joined.mask(joined.eq(""), own)
        return joined.mask(torn, "")

    def _note_strangers(self, table: str, column: str, written: pd.DataFrame, key: str) -> None:
        """Note rows that are of no clip, and refuse a table none of whose rows is."""
        stranger = ~written["key"].isin(self.clips[key])
        if table in self.tables or not stranger.any():
            return
        where = written.loc[stranger, "where"].iloc[0]
        count = f"{int(stranger.sum())} of {len(stranger)} values of {column!r}"
        if stranger.all():
            raise CorpusError(
                f"{where}: all {count} are of no clip, whose tables are {', '.join(self.tables)}; name tables of the "
                f"same files and segments, see {self.place}.tables"
            )
        self.defects.add("ignored", where, f"{count} are of no clip; they are not used")

    def _table(self, table: str) -> tuple[Cells, pd.DataFrame]:
        """Read a table once: its cells, and by row `clip_id`, `file`, `start`, `end`, `where`."""
        if table not in self._read:
            cells = read_table(self.database, table, self.defects)
            rows = pd.DataFrame({"clip_id": cells.column(FILE).str.strip()})
            rows[FILE] = rows["clip_id"]
            blank = pd.Series(pd.NA, index=rows.index, dtype="Int64")
            rows["start"], rows["end"] = blank, blank
            if self.database.tables[table].segmented:
                rows["start"], rows["end"] = (read_seconds(cells, part, self.defects) for part in ("start", "end"))
                spans = zip(rows[FILE], rows["start"], rows["end"], strict=True)
                rows["clip_id"] = pd.Series([_segment_name(*span) for span in spans], dtype="string")
            self._read[table] = cells, rows.assign(where=cells.places())
        return self._read[table]


def find_columns(database: Database, name: str, setting: str) -> list[tuple[str, str]]:
    """List tables and columns that a name means.

    Raises:
        CorpusError: there is none, or a table has several columns of the scheme.
    """
    table, slash, column = name.rpartition("/")
    if slash and table not in database.tables:
        raise CorpusError(
            f"{setting}: {name!r}: no table of {database.shown} is named {table!r}; {nearest(table, database.tables)}"
        )
    places = []
    for other, declared in database.tables.items():
        columns = declared.columns_of(column) if table in ("", other) else []
        if len(columns) > 1:
            shown = " and ".join(repr(f"{other}/{each}") for each in columns)
            raise CorpusError(
                f"{setting}: {name!r} is the scheme of several columns, {shown}; name the one that is meant"
            )
        places += [(other, each) for each in columns]
    if not places:
        inside = list(database.tables[table].schemes) if slash else database.names()
        raise CorpusError(f"{setting}: {database.shown} has no column or scheme {name!r}; {nearest(column, inside)}")
    return places


def _segment_name(file: str, start: int | None, end: int | None) -> str:
    """Name a segment by its file and seconds, exactly.

    Example:
        >>> _segment_name("a.wav", 1_500_000_000, pd.NA)
        'a.wav#1.5-'
    """

    def seconds(nanoseconds: int | None) -> str:
        if pd.isna(nanoseconds):
            return ""
        whole, rest = divmod(abs(int(nanoseconds)), 1_000_000_000)
        return f"{'-' * (nanoseconds < 0)}{whole}" + f".{rest:09d}".rstrip("0").rstrip(".")

    return f"{file}#{seconds(start) or 0}-{seconds(end)}"
