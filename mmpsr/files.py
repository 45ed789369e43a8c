"""Files that appear whole or not at all, and sums of contents.

A file is written under another name beside its place, flushed to the disk, and renamed (`os.replace`): whoever reads,
also after a kill or a loss of power, finds the file of before or the new one, never half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["TEMPORARY", "replacing", "sha256_of", "write_json", "write_whole"]

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


def sha256_of(content: str | bytes | Path) -> str:
    """Sum up a text (UTF-8), bytes or the content of a file as SHA-256, 64 hexadecimal digits."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
