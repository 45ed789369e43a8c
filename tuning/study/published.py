"""Printed tables of papers as data: `configs/published/<name>.csv`, or a file of one's own.

```csv
row,configuration,text,split,BAH MF1,BAH UAR
1,"text alone",FacebookAI/roberta-large,test,65.66,65.36
```

`row` names each row once. `video`, `audio`, `text` and `behavior` are encoders, by the names that
`features.encoders` takes, empty where a row has none or where it is not known; `split` is `test` where there is no such
column; what else is in `INFORMATION` is for readers. All other columns are figures in percent, empty where none was
printed, under the titles that a study's table gives them: corpus and metric, in any case.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmpsr.config import ConfigError, nearest, shipped_file

__all__ = ["ENCODED", "PublishedRow", "PublishedTables", "read_published"]

ENCODED = ("video", "audio", "text", "behavior")
"""Columns that name an encoder."""
INFORMATION = ("row", "configuration", "model", "level", "split", "printed rank", *ENCODED)
"""Columns that are no figures, and those that begin with `deviation`."""


@dataclass(frozen=True)
class PublishedRow:
    """A printed row.

    Attributes:
        split: that its figures are of.
        encoders: by modality, of those that are known.
        figures: in percent, by the column's head.
    """

    split: str
    encoders: Mapping[str, str]
    figures: Mapping[str, float]


@dataclass(frozen=True)
class PublishedTables:
    """Printed tables that a study's rows stand beside.

    Attributes:
        title: what is printed where.
        rows: by table and name.
        heads: of the columns that hold figures, in order.
    """

    title: str
    rows: Mapping[str, Mapping[str, PublishedRow]]
    heads: tuple[str, ...]

    def find(self, key: str) -> PublishedRow:
        """Find a row by its name, after the table's name and a colon where there are several tables.

        Raises:
            ConfigError: there is none.
        """
        if len(self.rows) == 1:
            table, name = next(iter(self.rows)), key
        else:
            table, _, name = key.partition(":")
        if table not in self.rows:
            raise ConfigError(
                f"published: {key!r} names no table; write table:row, as in '{next(iter(self.rows))}:1'; "
                f"{nearest(table, self.rows)}"
            )
        if name not in self.rows[table]:
            raise ConfigError(f"published: {table} has no row {name!r}; {nearest(name, self.rows[table])}")
        return self.rows[table][name]

    def joined(self, keys: Sequence[str]) -> list[PublishedRow]:
        """Find the printed rows that stand for one.

        Raises:
            ConfigError: a row is not there, or two have different figures of one head and split.
        """
        rows = [self.find(key) for key in keys]
        seen: dict[tuple[str, str], tuple[float, str]] = {}
        for key, row in zip(keys, rows, strict=True):
            for head, value in row.figures.items():
                other, first = seen.setdefault((row.split, head), (value, key))
                if other != value:
                    raise ConfigError(
                        f"published: rows {first!r} and {key!r} have different figures of {head} on {row.split}, "
                        f"{other} and {value}; name one of them"
                    )
        return rows


def read_published(names: Sequence[str], folder: Path) -> PublishedTables:
    """Read printed tables.

    Args:
        names: of tables that ship, or CSV files relative to a folder.
        folder: of the study.

    Raises:
        ConfigError: a table is not there, or a cell is wrong.
    """
    titles = _titles()
    rows: dict[str, Mapping[str, PublishedRow]] = {}
    heads: dict[str, None] = {}
    shown = []
    for name in names:
        if not name.endswith(".csv") and name not in titles:
            raise ConfigError(
                f"published: no printed table that ships is named {name!r}; {nearest(name, titles)}; "
                "the name of a file of your own ends in .csv"
            )
        path = folder / name if name.endswith(".csv") else shipped_file(f"published/{name}.csv")
        rows[name], found = _read(path)
        heads |= dict.fromkeys(found)
        shown.append(titles.get(name, path.name))
    return PublishedTables("; ".join(shown), rows, tuple(heads))


@cache
def _titles() -> dict[str, str]:
    """Read where each table that ships was printed."""
    with shipped_file("published/tables.csv").open(encoding="utf-8", newline="") as file:
        return {line["table"]: line["title"] for line in csv.DictReader(file)}


def _read(path: Path) -> tuple[dict[str, PublishedRow], tuple[str, ...]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *lines = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"published: {path} cannot be read: {error}") from None
    heads = tuple(name for name in head if name not in INFORMATION and not name.startswith("deviation"))
    if "row" not in head or not heads or len(set(head)) < len(head):
        raise ConfigError(f"{path}: expected the heads row and one for each figure, every one once; found {head}")
    rows: dict[str, PublishedRow] = {}
    for number, cells in enumerate(lines, start=2):
        if len(cells) != len(head):
            raise ConfigError(f"{path}, line {number}: {len(cells)} cells below {len(head)} heads")
        line = dict(zip(head, cells, strict=True))
        if not line["row"] or line["row"] in rows:
            raise ConfigError(f"{path}, line {number}: each row needs a name of its own; found {line['row']!r}")
        split = line.get("split", "test")
        if split not in ("dev", "test"):
            raise ConfigError(f"{path}, line {number}: split is dev or test; found {split!r}")
        figures = {name: _percent(line[name], path, number, name) for name in heads if line[name]}
        rows[line["row"]] = PublishedRow(split, {name: line[name] for name in ENCODED if line.get(name)}, figures)
    return rows, heads


def _percent(cell: str, path: Path, number: int, head: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not -100 <= value <= 100:  # NaN, too
        raise ConfigError(f"{path}, line {number}, {head}: expected a figure in percent, or nothing; found {cell!r}")
    return value
