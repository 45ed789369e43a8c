"""Which libraries commands have imported when they end, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HEAVY = (
    "torch", "sklearn", "transformers", "mediapipe", "opensmile", "accelerate", "cv2", "av", "matplotlib",
    "scipy.stats", "scipy.signal", "scipy.optimize",
)  # fmt: skip
_PROGRAM = """
import contextlib, io, json, sys
from tuning.console import app
heavy, found = {heavy!r}, []
for command in {commands!r}:
    said, status = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            app(command)
        except SystemExit as end:
            status = end.code or 0
    found.append([status, said.getvalue(), [name for name in heavy if name in sys.modules]])
print(json.dumps(found))
"""


def run_in_turn(commands: Sequence[Sequence[str]], folder: Path) -> list[tuple[int, str, list[str]]]:
    """Run commands one after the other in one new process.

    Returns:
        Of each its status, what it said, and which of `HEAVY` are imported when it ends.
    """
    program = _PROGRAM.format(heavy=HEAVY, commands=[list(command) for command in commands])
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [(status, said, names) for status, said, names in json.loads(done.stdout)]


def after_first_line(stderr: str) -> str:
    """What a command says after the line on what it reads, if that comes first, as one line."""
    first, _, others = stderr.partition("\n")
    return " ".join((others if first.startswith("reading ") else stderr).split())
