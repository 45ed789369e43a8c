"""Files of the feature store: parts that are read with errors that say what to do, and leftovers of killed writers."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from encoders.errors import StoreError
from mmpsr.files import TEMPORARY

__all__ = ["STALE_SECONDS", "clean", "list_parts", "read_part", "utc_now"]

STALE_SECONDS = 600.0
"""Age after which a temporary file is taken for the leftover of a killed writer (writing a part takes far less)."""


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


def list_parts(folder: Path, prefix: str) -> list[str]:
    """List the names of a folder's Parquet files that begin with `prefix`; the folder need not exist."""
    return [path.name for path in folder.glob(f"{prefix}*.parquet")]


def read_part(path: Path, columns: list[str]) -> pa.Table:
    """Columns of a part or ledger.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"{path}: not a readable part ({error}); delete it and its clips are extracted again"
        ) from None
