"""Recordings and tables below a folder, and the template by which a column of a table names its recordings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from corpora.clips import SPLIT_NAMES, CorpusError, Split
from corpora.reading.paths import MEDIA_SUFFIXES, walk

__all__ = ["TABLE_SUFFIXES", "MediaTemplate", "Recordings", "kinds_of", "require_no_sheet", "splits_of_files"]

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
"""Files below a folder that count as tables; a text file that is named itself counts, too."""
NO_DATA = ("node_modules", "site-packages", "__pycache__")
SHEETS = (".xlsx", ".xls", ".ods")
SOUND = (".wav", ".flac", ".mp3", ".m4a", ".ogg")
MOST_PREFIXES = 0.9
"""Share of a column's cells that one template must find files of."""
_WORDS = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True)
class MediaTemplate:
    """How a table names its recordings.

    Attributes:
        selector: a column, or a template of columns, relative to the folder.
        columns: that it reads.
        num_found: rows whose recording is there.
        files: that were found, relative to the folder.
    """

    selector: str
    columns: tuple[str, ...]
    num_found: int
    files: tuple[str, ...]

    @property
    def reach(self) -> tuple[int, int]:
        """How many rows find a recording, and how many recordings these are."""
        return self.num_found, len(self.files)


@dataclass
class Recordings:
    """What lies below a folder.

    Attributes:
        folder: it.
        media: paths of its video and sound files relative to it, with `/`, sorted.
        tables: likewise of its tables.
        sheets: likewise of spreadsheets, which are not read.
    """

    folder: Path
    media: tuple[str, ...]
    tables: tuple[str, ...] = ()
    sheets: tuple[str, ...] = ()
    _ends: dict[str, list[tuple[str, str]]] = field(default_factory=dict, repr=False)

    @classmethod
    def below(cls, folder: Path) -> Recordings:
        """Look through a folder and all folders below it, but hidden ones and those of installed packages.

        Raises:
            CorpusError: there is no such folder.
        """
        files = walk(folder, folder, closed=lambda path: path.name.startswith(".") or path.name in NO_DATA).files

        def of(suffixes: Sequence[str]) -> tuple[str, ...]:
            return tuple(file for file in files if PurePosixPath(file).suffix.lower() in suffixes)

        return cls(folder, of(MEDIA_SUFFIXES), of(TABLE_SUFFIXES), of(SHEETS))

    @classmethod
    def named_in(cls, frame: pd.DataFrame, folder: Path) -> Recordings:
        """Find the recordings of a table: as a column names them, from its folder on, else all below that folder."""
        for column in frame.columns:
            cells = [cell for cell in frame[column].str.strip() if cell]
            if cells and _is_media(folder, cells[0]):
                return cls(folder, tuple(sorted({cell for cell in cells if _is_media(folder, cell)})))
        return cls.below(folder)

    def __post_init__(self) -> None:
        for file in self.media:
            parts = PurePosixPath(file).parts
            for begin in range(len(parts)):
                prefix, end = "/".join(parts[:begin]), "/".join(parts[begin:])
                for key in (end, end.rpartition(".")[0]):
                    self._ends.setdefault(key, []).append((f"{prefix}/" if prefix else "", file))

    def template(self, frame: pd.DataFrame, column: str) -> MediaTemplate | None:
        """Find how a column names recordings: as they are, below a folder, or below a folder that another column names.

        Args:
            frame: cells as text.
            column: of `frame`.

        Returns:
            None where fewer than half of its cells name a file.
        """
        if not self.media:
            return None
        cells = frame[column].str.strip()
        found = self._prefix(cells, f"{{{column}}}", (column,))
        is_unclear = any(len(self._ends.get(_plain(cell), ())) > 1 for cell in cells.unique())
        if found is not None and found.num_found >= MOST_PREFIXES * cells.ne("").sum() and not is_unclear:
            return found
        for other in frame.columns:
            if other != column and 1 < frame[other].nunique() <= max(2, len(frame) // 2):
                joined = frame[other].str.strip() + "/" + cells
                apart = self._prefix(joined, f"{{{other}}}/{{{column}}}", (str(other), column))
                if apart is not None and (found is None or apart.reach > found.reach):
                    found = apart
        return found if found is not None and 2 * found.num_found >= cells.ne("").sum() else None

    def _prefix(self, cells: pd.Series, template: str, columns: tuple[str, ...]) -> MediaTemplate | None:
        """Find the folder below which most of the cells name files."""
        found: dict[str, list[str]] = {}
        for cell in cells[cells.ne("")]:
            own = self._ends.get(_plain(cell), [])
            if not own and os.path.isabs(cell) and _is_media(self.folder, cell):
                own = [("", cell)]
            for prefix, file in own:
                found.setdefault(prefix, []).append(file)
        if not found:
            return None
        best = max(found, key=lambda prefix: (len(found[prefix]), -len(prefix)))
        selector = columns[0] if not best and len(columns) == 1 else f"{best}{template}"
        return MediaTemplate(selector, columns, len(found[best]), tuple(dict.fromkeys(found[best])))


def _plain(cell: str) -> str:
    """Write a path as those below a folder are written."""
    return cell.replace("\\", "/").removeprefix("./")


def _is_media(folder: Path, cell: str) -> bool:
    return PurePosixPath(cell).suffix.lower() in MEDIA_SUFFIXES and (folder / cell).is_file()


def _split_word(stem: str) -> Iterator[tuple[str, Split]]:
    """Yield the words of a file's name that name a split."""
    for word in _WORDS.split(stem):
        if word.casefold() in SPLIT_NAMES:
            yield word, SPLIT_NAMES[word.casefold()]


def splits_of_files(tables: Sequence[str]) -> dict[Split, str] | None:
    """Tell which of several tables is of which split, where their names differ in that word alone.

    Example:
        >>> splits_of_files(["dev_labels.csv", "train_labels.csv"])
        {'dev': 'dev_labels.csv', 'train': 'train_labels.csv'}
        >>> splits_of_files(["train.csv", "people.csv"])
    """
    splits: dict[Split, str] = {}
    rests = set()
    for table in tables:
        words = list(_split_word(PurePosixPath(table).stem))
        if len(words) != 1 or words[0][1] in splits:
            return None
        splits[words[0][1]] = table
        rests.add(table.replace(words[0][0], "*"))
    return splits if len(splits) > 1 and len(rests) == 1 else None


def kinds_of(files: Sequence[str]) -> tuple[bool, bool]:
    """Tell whether any file can have pictures, and whether any can have sound."""
    return any(PurePosixPath(file).suffix.lower() not in SOUND for file in files), bool(files)


def require_no_sheet(path: Path) -> None:
    """Refuse a spreadsheet.

    Raises:
        CorpusError: it is one.
    """
    if path.suffix.lower() in SHEETS:
        raise CorpusError(
            f"{path} is a spreadsheet, which is not read; save its sheet as CSV (UTF-8) and name that: "
            f"mmpsr init {path.with_suffix('.csv')}"
        )
