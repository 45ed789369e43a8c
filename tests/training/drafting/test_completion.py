"""What a shell offers after Tab, asked as bash asks it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.drafting.completion import complete_configs, complete_inputs, complete_runs, complete_settings
from tuning.console import app


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in (
        "runs/demo/2026/results.json",
        "runs/mine/2026/config.json",
        "talk.mp4",
        "mine.toml",
        "set/a.mp4",
        ".x",
    ):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()


def test_runs_that_are_finished_and_files_are_offered() -> None:
    assert complete_runs("") == ["runs/demo", "runs/demo/2026"]
    assert complete_runs("runs/m") == []
    assert complete_inputs("") == ["mine.toml", "runs/", "runs/demo", "runs/demo/2026", "set/", "talk.mp4"]
    assert complete_inputs("set/") == ["set/a.mp4"]
    assert complete_inputs(".") == [".x"]


def test_configurations_and_settings_are_offered() -> None:
    assert complete_configs("de") == ["default", "demo"]
    assert complete_configs("m") == ["mine.toml"]
    assert complete_settings("training.l") == ["training.lr="]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mmpsr veri", ["verify"]),
        ("mmpsr verify ", ["runs/demo", "runs/demo/2026"]),
        ("mmpsr predict runs/demo t", ["talk.mp4"]),
        ("mmpsr train --config dem", ["demo"]),
        ("mmpsr train --res", ["--resume"]),
    ],
)
def test_bash_is_answered(line: str, offered: list[str]) -> None:
    words = line.split(" ")
    asked = {"_MMPSR_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    result = CliRunner().invoke(app, [], env=asked, prog_name="mmpsr")
    assert result.stdout.split() == offered
