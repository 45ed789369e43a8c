"""Files of the feature store: parts as they are listed and read, what compaction put where, leftovers of the killed.

Compaction writes rows of many parts into one and removes the many. Its record, `<folder>/.compacted/<uuid>.json`, names
them in the order of their rows, and is written before `part-<uuid>.parquet` (or `ledger-`), whose appearance decides:

    record -> rows of values in time -> part -> removal of the many -> `<uuid>.done.json`, the record's new name

Killed before the part appears, nothing has happened; killed later, those of the many that are still there are listed
no more. Records stay, so that readers who know a part by its old name find its rows (`find_rows`).
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from encoders.errors import StoreError
from mmpsr.files import TEMPORARY, write_whole

__all__ = [
    "COMPACTED",
    "STALE_SECONDS",
    "Compaction",
    "Moved",
    "clean",
    "compaction_into",
    "end_compaction",
    "find_rows",
    "list_parts",
    "open_compactions",
    "read_part",
    "record_compaction",
    "utc_now",
]

STALE_SECONDS = 600.0
"""Age after which a temporary file is taken for the leftover of a killed writer (writing a part takes far less)."""
COMPACTED = ".compacted"
"""Folder of the records of compaction, in an encoder's folder."""
_OPEN, _ENDED = ".json", ".done.json"
_SMALL = 2**20


@dataclass(frozen=True)
class Compaction:
    """Parts whose rows lie in one part, one after the other.

    Attributes:
        into: the one part.
        parts: names of the many.
        num_rows: rows (clips) of each.
        num_frames: rows of each one's file of values in time; zeros where there is none.
    """

    into: str
    parts: tuple[str, ...]
    num_rows: tuple[int, ...]
    num_frames: tuple[int, ...]


@dataclass(frozen=True)
class Moved:
    """Where the rows of a part lie now: in which part, from which row on, and from which frame of its rows in time."""

    part: str
    row: int = 0
    frame: int = 0


def clean(folder: Path, older_than: float = STALE_SECONDS) -> int:
    """Remove temporary files that killed writers left more than `older_than` seconds ago; returns their number."""
    removed = 0
    for path in folder.glob(f"{TEMPORARY}*"):
        try:
            if time.time() - path.stat().st_mtime > older_than:
                path.unlink()
                removed += 1
        except FileNotFoundError:  # another process cleans, or its writer has just finished
            continue
    return removed


def utc_now() -> str:
    """Return the time in UTC, ISO 8601 with microseconds, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def list_parts(folder: Path, *prefixes: str) -> list[str]:
    """List a folder's Parquet files that begin with one of the prefixes, in the order of names; it need not exist.

    Parts whose rows lie in another one are left out. A listing tells nothing certain of files that come and go
    meanwhile, so it is made again where compaction began or ended, or where the one part and some of the many were
    both missed.
    """
    before: tuple[tuple[str, ...], frozenset[str]] | None = None
    while True:
        records = _record_names(folder)
        try:
            with os.scandir(folder) as entries:
                files = (entry.name for entry in entries if entry.name.endswith(".parquet") and entry.is_file())
                names = frozenset(files)
        except FileNotFoundError:
            return []
        if _record_names(folder) != records:
            continue
        replaced: set[str] = set()
        is_whole = True
        try:
            for compaction in [_load(folder, name) for name in records if not name.endswith(_ENDED)]:
                if compaction.into in names:
                    replaced.update(compaction.parts)
                else:
                    is_whole &= names.issuperset(compaction.parts)
        except FileNotFoundError:  # ended meanwhile
            continue
        # two equal listings have missed nothing: somebody removed one of the many after compaction was killed
        if is_whole or before == (records, names):
            return sorted(name for name in names - replaced if name.startswith(prefixes))
        before = records, names


def _record_names(folder: Path) -> tuple[str, ...]:
    try:
        names = os.listdir(folder / COMPACTED)
    except FileNotFoundError:
        return ()
    return tuple(sorted(name for name in names if not name.startswith(TEMPORARY)))


def _load(folder: Path, name: str) -> Compaction:
    path = folder / COMPACTED / name
    try:
        record = json.loads(path.read_bytes())
        return Compaction(record["into"], *(tuple(record[key]) for key in ("parts", "num_rows", "num_frames")))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: not a record of compaction ({type(error).__name__}: {error}); restore it from a copy, or remove "
            "it once no part of its own name is there"
        ) from None


def _record(folder: Path, into: str, ending: str) -> Path:
    return folder / COMPACTED / f"{into.partition('-')[2].removesuffix('.parquet')}{ending}"


def record_compaction(folder: Path, compaction: Compaction) -> None:
    """Write down which parts are about to become one."""
    (folder / COMPACTED).mkdir(exist_ok=True)
    write_whole(_record(folder, compaction.into, _OPEN), json.dumps(asdict(compaction)))


def end_compaction(folder: Path, compaction: Compaction, *, is_done: bool) -> None:
    """Note that the many parts are gone, or forget a compaction of which there is nothing."""
    path = _record(folder, compaction.into, _OPEN)
    if is_done:
        path.replace(_record(folder, compaction.into, _ENDED))
    else:
        path.unlink()


def open_compactions(folder: Path) -> list[Compaction]:
    """List compactions that have not ended: under way, or killed."""
    return [_load(folder, name) for name in _record_names(folder) if not name.endswith(_ENDED)]


def compaction_into(folder: Path, name: str) -> Compaction | None:
    """Return what became a part; None of a part that was written as it is."""
    for ending in (_OPEN, _ENDED):
        path = _record(folder, name, ending)
        if path.exists():
            try:
                return _load(folder, path.name)
            except FileNotFoundError:  # ended between two looks
                continue
    return None


def find_rows(folder: Path, name: str) -> Moved | None:
    """Find the rows of a part that is no longer there; None where no compaction took it."""
    moves = _moves(folder, _record_names(folder))
    moved = Moved(name)
    while moved.part in moves and not (folder / moved.part).exists():
        step = moves[moved.part]
        moved = Moved(step.part, moved.row + step.row, moved.frame + step.frame)
    return moved if moved.part != name and (folder / moved.part).exists() else None


@lru_cache(maxsize=8)
def _moves(folder: Path, records: tuple[str, ...]) -> dict[str, Moved]:
    moves = {}
    for name in records:
        try:
            compaction = _load(folder, name)
        except FileNotFoundError:  # ended meanwhile, so its record has another name
            compaction = _load(folder, name.removesuffix(_OPEN) + _ENDED)
        row = frame = 0
        for part, num_rows, num_frames in zip(
            compaction.parts, compaction.num_rows, compaction.num_frames, strict=True
        ):
            moves[part] = Moved(compaction.into, row, frame)
            row, frame = row + num_rows, frame + num_frames
    return moves


def read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a part or ledger: some columns, those that it lacks left out, or all.

    Raises:
        StoreError: the file cannot be read.
        FileNotFoundError: the file is not there; compaction may have put its rows elsewhere.
    """
    try:
        if path.stat().st_size > _SMALL:
            with pq.ParquetFile(path) as file:
                return file.read(columns=columns)
        # of a small file bytes are read faster than columns, and without the threads that columns are shared among
        with pq.ParquetFile(pa.BufferReader(path.read_bytes()), pre_buffer=False) as file:
            return file.read(columns=columns, use_threads=False)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"{path}: not a readable part ({error}); delete it and its clips are extracted again"
        ) from None
