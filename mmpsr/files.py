"""Files that appear whole or not at all, and sums of contents.

A file is written under another name beside its place, flushed to the disk, and renamed (`os.replace`): whoever reads,
also after a kill or a loss of power, finds the file of before or the new one, never half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmpsr.errors import UserError

__all__ = ["TEMPORARY", "json_lines", "read_json_lines", "replacing", "sha256_of", "write_json", "write_whole"]

TEMPORARY = ".temporary-"
"""Begins the names of files that are being written; a killed writer leaves one behind."""


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Name a file beside `path` that takes its place when the block ends well, and vanishes when an error comes.

    Args:
        path: the place; its folder is there.
        durable: flush the content to the disk before.
    """
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        yield temporary
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes | Callable[[Path], object], durable: bool = True) -> None:
    """Write a file whole.

    Args:
        path: the place; its folder is there.
        content: text (UTF-8), bytes, or a function that writes to the path it is given.
        durable: flush the content to the disk.
    """
    with replacing(path, durable) as temporary:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON values whole, indented by two."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def json_lines(content: bytes, path: Path) -> tuple[list[dict[str, Any]], int]:
    r"""Read records that stand one a line, as far as they are whole.

    A full disk or a kill takes the end of the last line, or leaves zeros in its place. A record without the end of its
    line is whole.

    Args:
        content: of the file.
        path: of the file, for messages.

    Returns:
        The records, and how many bytes they take; more bytes are a last line that is not whole.

    Raises:
        UserError: a line before the last is no record; file and line are named.

    Example:
        >>> json_lines(b'{"a": 1}\n{"a"', Path("log.jsonl"))
        ([{'a': 1}], 9)
    """
    lines = content.split(b"\n")
    records: list[dict[str, Any]] = []
    size = 0
    for number, line in enumerate(lines, start=1):
        record = _record(line) if line.strip(b"\0 \t\r") else None
        if record is None and line.strip():
            if any(other.strip(b"\0 \t\r") for other in lines[number:]):
                raise UserError(
                    f"{path}, line {number}: is no whole record, it begins {line[:40].decode(errors='replace')!r}; "
                    "restore the file from a copy, or remove the line if what it says may be lost"
                )
            return records, size
        if record is not None:
            records.append(record)
        size += len(line) + (number < len(lines))
    return records, size


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of records, one a line; a last line that is not whole is left out with a warning.

    Raises:
        UserError: a line before the last is no record.
    """
    content = path.read_bytes()
    records, size = json_lines(content, path)
    if size < len(content):
        warnings.warn(f"{path}: its last line is not whole and is left out", stacklevel=2)
    return records


def sha256_of(content: str | bytes | Path) -> str:
    """Sum up a text (UTF-8), bytes or the content of a file as SHA-256, 64 hexadecimal digits."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
