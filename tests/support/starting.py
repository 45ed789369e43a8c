"""How a command starts in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "transformers", "mediapipe", "accelerate", "cv2", "av", "opensmile")


def assert_starts_light(command: str, folder: Path) -> None:
    """`mmpsr <command> --json` in an empty folder prints a document without importing a heavy library."""
    program = (
        f"import sys; from training.commands.console import app\ntry: app([{command!r}, '--json'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"found = set({HEAVY!r}) & set(sys.modules)\n"
        "assert not found, found"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
