"""What stands for `inspect_clips` in worker processes; importable by them, and light."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def mortal(rows: Sequence[Mapping[str, object]]) -> list[list[tuple[str, str]] | None]:
    """A clip whose media is called `die` ends the process; others are found black, with the size of their chunk."""
    if any(row["media"] == "die" for row in rows):
        os._exit(11)
    return [[("black", f"{row['media']} in {len(rows)}")] for row in rows]


def unfit(rows: Sequence[Mapping[str, object]]) -> None:
    """Lacks a library."""
    raise ModuleNotFoundError("No module named 'mediapipe'")


def slow(rows: Sequence[Mapping[str, object]]) -> None:
    """Writes its process id to the first clip's media and takes a minute."""
    Path(str(rows[0]["media"])).write_text(str(os.getpid()))
    time.sleep(60)
