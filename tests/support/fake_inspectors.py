"""What stands for `inspect_there` in worker processes; importable by them, and light."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def mortal(chunk: Any) -> list[list[tuple[str, str]] | None]:
    """A clip whose media is called `die` ends the process; others are found black, with the size of their chunk."""
    if any(row["media"] == "die" for row in chunk.records):
        os._exit(11)
    return [[("black", f"{row['media']} in {len(chunk.records)}")] for row in chunk.records]


def unfit(chunk: Any) -> None:
    """Lacks a library."""
    raise ModuleNotFoundError("No module named 'mediapipe'")


def slow(chunk: Any) -> None:
    """Writes its process id to the first clip's media and takes a minute."""
    Path(str(chunk.records[0]["media"])).write_text(str(os.getpid()))
    time.sleep(60)
