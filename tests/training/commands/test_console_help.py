"""`--help` of every command, word for word: options, their defaults and what is said of them."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tuning.console import app

FOLDER = Path(__file__).parent / "help"
GROUP: Any = typer.main.get_command(app)
PLAIN = {"COLUMNS": "120", "TERM": "dumb", "NO_COLOR": "1", "FORCE_COLOR": None, "GITHUB_ACTIONS": None}


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"], prog_name="mmpsr", env=PLAIN)
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.output.strip("\n").splitlines()) + "\n"


def is_pinned(package: str) -> bool:
    pins = Path(__file__).parents[3] / "constraints.txt"
    lines = pins.read_text(encoding="utf-8").splitlines() if pins.exists() else []
    return any(line.split(";")[0].strip() == f"{package}=={version(package)}" for line in lines)


@pytest.mark.skipif(
    not (is_pinned("typer") and is_pinned("rich")), reason="other versions of Typer and Rich draw another frame"
)
@pytest.mark.parametrize("name", ["mmpsr", *GROUP.commands])
def test_the_help_is_as_it_was(name: str) -> None:
    expected = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert help_of(*([] if name == "mmpsr" else [name])) == expected


def test_every_command_has_its_text() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {"mmpsr", *GROUP.commands}
