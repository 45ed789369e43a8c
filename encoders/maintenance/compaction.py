"""Many small parts of a feature store put together into few large ones, beside processes that read and write.

Extraction writes a part for every few clips, so that a kill costs little; whoever reads a million clips afterwards
opens sixty thousand files. Compaction copies rows as they are, in the order in which parts were written, and drops
none. In which order files come and go, so that a kill at any moment loses and doubles nothing, and readers find what
they know by its old place, is told in `encoders.store.parts`. One process at a time compacts a folder: it has a claim
on it, which ends with the process.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from encoders.errors import StoreError
from encoders.spec import rate_of
from encoders.store.claims import Claims, Item
from encoders.store.index import FIGURES
from encoders.store.parts import (
    Compaction,
    clean,
    end_compaction,
    list_parts,
    open_compactions,
    read_part,
    record_compaction,
)
from encoders.store.timed_store import rows_of
from encoders.store.vector_store import write_table
from mmpsr.files import write_whole

__all__ = ["CompactionReport", "compact", "find_compactable"]

MOST_BYTES = 128 * 2**20
"""About as large as a part becomes; it is held in memory while it is written."""
MOST_BYTES_IN_TIME = 2**30
"""The same of values in time, whose rows are copied and not held."""
_KINDS = ("part-", "ledger-")
_ROWS_AT_A_TIME = 4096


@dataclass
class CompactionReport:
    """What compaction does, or would do, in one folder.

    Attributes:
        folder: below the store's root.
        parts_before: parts and ledgers that were there.
        parts_after: those that are there then.
        num_bytes: of those that are put together, with rows of values in time.
        left: by part, or empty for the whole folder, why it was left as it is.
    """

    folder: str
    parts_before: int = 0
    parts_after: int = 0
    num_bytes: int = 0
    left: dict[str, str] = field(default_factory=dict)


def find_compactable(root: Path, most_bytes: int | None = None) -> list[CompactionReport]:
    """List folders of which parts could be put together, with what would come of it; nothing is written.

    Args:
        root: folder of the store; it need not exist.
        most_bytes: about as large as a part may become; left out, `MOST_BYTES`, or `MOST_BYTES_IN_TIME`.
    """
    reports = []
    for path in _folders(root):
        report = CompactionReport(path.relative_to(root).as_posix())
        for kind in _KINDS:
            names = list_parts(path, kind)
            groups = _groups(path, names, most_bytes)
            report.parts_before += len(names)
            report.parts_after += len(names) - sum(len(group) - 1 for group in groups)
            report.num_bytes += sum(_size(path / name) for group in groups for name in group)
        if report.parts_after < report.parts_before or open_compactions(path):
            reports.append(report)
    return reports


def compact(root: Path, most_bytes: int | None = None) -> Iterator[CompactionReport]:
    """Put small parts of every folder together, folder by folder, and finish what a killed compaction left.

    Args:
        root: folder of the store.
        most_bytes: about as large as a part may become, see `find_compactable`.

    Yields:
        What was done, of folders in which there was something to do.

    Raises:
        StoreError: there is no such folder, or a record of compaction cannot be read.
        OSError: the disk is full; what there was is there.
    """
    if not root.is_dir():
        raise StoreError(f"{root}: there is no such folder, so no feature store to compact")
    with Claims(root) as claims:
        for plan in find_compactable(root, most_bytes):
            item = Item(plan.folder, "", "compaction")
            with claims.exclusive:
                holder = claims.others().get(item)
                if holder is None:
                    claims.add([item])
            if holder is not None:
                left = {"": f"{holder} compacts it"}
                yield CompactionReport(plan.folder, plan.parts_before, plan.parts_before, left=left)
                continue
            try:
                yield _compact_folder(root / plan.folder, plan.folder, most_bytes)
            finally:
                claims.drop([item])


def _folders(root: Path) -> Iterator[Path]:
    """List encoders' folders; not those that are linked from elsewhere, where others may compact them."""
    for path in sorted(root.glob("*/*/*")):
        relative = path.relative_to(root)
        is_own = path.resolve() == root.resolve() / relative
        if path.is_dir() and is_own and not any(part.startswith(".") for part in relative.parts):
            yield path


def _groups(folder: Path, names: Sequence[str], most_bytes: int | None) -> list[list[str]]:
    """Choose which parts become one: those below half of what one may hold, oldest first."""
    if most_bytes is None:
        most_bytes = MOST_BYTES if rate_of(folder.name) is None else MOST_BYTES_IN_TIME
    sizes = {}
    for name in names:
        try:
            sizes[name] = (folder / name).stat().st_mtime_ns, _size(folder / name)
        except FileNotFoundError:  # another process compacts; this one will not get the folder
            return []
    groups: list[list[str]] = []
    room = 0
    for name in sorted(sizes, key=lambda name: (sizes[name][0], name)):
        size = sizes[name][1]
        if size >= most_bytes / 2:
            continue
        if not groups or size > room:
            groups.append([])
            room = most_bytes
        groups[-1].append(name)
        room -= size
    return [group for group in groups if len(group) > 1]


def _size(path: Path) -> int:
    """Return the bytes of a part, with those of its rows in time."""
    rows = rows_of(path)
    return path.stat().st_size + (rows.stat().st_size if rate_of(path.parent.name) and rows.exists() else 0)


def _compact_folder(path: Path, folder: str, most_bytes: int | None) -> CompactionReport:
    """Do the work of one folder that this process has a claim on."""
    clean(path)
    for compaction in open_compactions(path):  # of processes that are dead, since this one has the folder
        _end_killed(path, compaction)
    report = CompactionReport(folder)
    for kind in _KINDS:
        names = list_parts(path, kind)
        report.parts_before += len(names)
        for group in _groups(path, names, most_bytes):
            report.num_bytes += _put_together(path, kind, group, report)
        report.parts_after += len(list_parts(path, kind))
    return report


def _end_killed(folder: Path, compaction: Compaction) -> None:
    if (folder / compaction.into).exists():
        _remove(folder, compaction.parts)
    else:
        rows_of(folder / compaction.into).unlink(missing_ok=True)
    end_compaction(folder, compaction, is_done=(folder / compaction.into).exists())


def _put_together(folder: Path, kind: str, names: Sequence[str], report: CompactionReport) -> int:
    """Make one part of several; returns the bytes of those that it was made of."""
    tables: dict[str, pa.Table] = {}
    frames: dict[str, np.ndarray] = {}
    for name in names:
        try:
            table, rows = _read(folder, kind, name)
            if tables and (why := _difference(next(iter(tables.values())), table)) is not None:
                raise ValueError(why)
            if frames and rows.shape[1] != next(iter(frames.values())).shape[1]:
                raise ValueError(f"its rows in time are {rows.shape[1]} wide, those of others are not")
        except (OSError, ValueError) as error:
            report.left[name] = str(error).strip().partition("\n")[0]
            continue
        tables[name], frames[name] = table, rows
    if len(tables) < 2:
        return 0
    num_bytes = sum(_size(folder / name) for name in tables)
    newest = max((folder / name).stat().st_mtime_ns for name in tables)
    num_frames = [len(rows) for rows in frames.values()]
    compaction = Compaction(
        f"{kind}{uuid.uuid4().hex}.parquet", tuple(tables), tuple(map(len, tables.values())), tuple(num_frames)
    )
    whole = pa.concat_tables(_placed(tables, num_frames), promote_options="default")
    record_compaction(folder, compaction)
    try:
        if any(num_frames):
            write_whole(rows_of(folder / compaction.into), lambda path: _write_rows(path, list(frames.values())))

        def write(path: Path) -> None:
            write_table(whole, path)
            os.utime(path, ns=(newest, newest))

        write_whole(folder / compaction.into, write)
    except BaseException:
        _end_killed(folder, compaction)
        raise
    _flush_names(folder)
    _remove(folder, compaction.parts)
    end_compaction(folder, compaction, is_done=True)
    return num_bytes


def _read(folder: Path, kind: str, name: str) -> tuple[pa.Table, np.ndarray]:
    """Read a part, and map its rows in time; no rows where its folder has none."""
    table = read_part(folder / name)
    if kind != "part-" or rate_of(folder.name) is None:
        return table, np.zeros((0, 0), np.float16)
    path = rows_of(folder / name)
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    if rows.ndim != 2 or rows.dtype != np.dtype("<f2"):
        raise ValueError(f"{path.name} holds {rows.dtype} {rows.shape}, expected float16 [rows, width]")
    return table, rows


def _difference(first: pa.Table, other: pa.Table) -> str | None:
    """Say what keeps two tables from being one; figures may be there or not."""
    kinds = [
        {field.name: str(field.type) for field in table.schema if field.name != FIGURES} for table in (first, other)
    ]
    return None if kinds[0] == kinds[1] else f"its columns are {kinds[1]}, those of older parts {kinds[0]}"


def _placed(tables: dict[str, pa.Table], num_frames: Sequence[int]) -> list[pa.Table]:
    """Move places of rows in time behind those of the parts before."""
    placed, begin = [], 0
    for table, num in zip(tables.values(), num_frames, strict=True):
        if num:
            column = table.schema.get_field_index("offset")
            moved = pa.array(table["offset"].to_numpy() + begin, pa.int64())
            table = table.set_column(column, table.schema.field(column), moved)
        placed.append(table)
        begin += num
    return placed


def _write_rows(path: Path, parts: Sequence[np.ndarray]) -> None:
    shape = (sum(map(len, parts)), parts[0].shape[1])
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        for rows in parts:
            for begin in range(0, len(rows), _ROWS_AT_A_TIME):
                file.write(np.ascontiguousarray(rows[begin : begin + _ROWS_AT_A_TIME]).data)


def _flush_names(folder: Path) -> None:
    """Put the one part's name on the disk before those of the many go, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path, names: Sequence[str]) -> None:
    """Remove the many; a part before its rows, so that rows are never missed of a part that is there."""
    in_time = rate_of(folder.name) is not None
    for name in names:
        (folder / name).unlink(missing_ok=True)
        if in_time:
            rows_of(folder / name).unlink(missing_ok=True)
