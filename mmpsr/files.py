"""Sums of files: what a content is told by, whoever wrote it."""

from __future__ import annotations

import hashlib

__all__ = ["sha256"]


def sha256(data: bytes) -> str:
    """The sum of a file's content, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
