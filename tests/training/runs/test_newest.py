"""The newest finished run of a folder, and the commands that take it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmpsr.errors import UserError
from training.commands.common import run_of
from training.runs.newest import newest_run
from tuning.console import app


def make(folder: Path, *names: str, finished: bool = True) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        for file in ("config.json", "results.json") if finished else ("config.json",):
            (folder / name / file).write_text("{}", encoding="utf-8")


def test_times_are_compared_then_the_numbers_of_one_second(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "20261121-145447-2", "20261121-145447-10", "20261121-145447", "20251231-235959")
    make(tmp_path, "20261122-000000", finished=False)
    assert run_of(tmp_path) == tmp_path / "20261121-145447-10"
    said = " ".join(capsys.readouterr().err.split())
    assert said == f"{tmp_path}: its newest finished run, {tmp_path / '20261121-145447-10'}"


def test_a_run_a_bundle_and_a_folder_of_other_things_are_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, "run")
    make(tmp_path / "run", "checkpoint")  # whatever else lies in a run
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").touch()
    for name in ("run", "bundle", "nowhere", "someone/bundle"):
        assert run_of(tmp_path / name) == tmp_path / name
    assert capsys.readouterr().err == ""
    assert newest_run(tmp_path) == tmp_path / "run"


@pytest.mark.parametrize(
    "command",
    [
        "evaluate X", "compare X X", "verify X", "adapt X", "bundle X -o b", "export X -o e.onnx", "predict X a.mp4",
        "app X", "report X",
    ],
)  # fmt: skip
def test_every_command_that_takes_a_run_says_where_none_is_finished(command: str, tmp_path: Path) -> None:
    make(tmp_path / "runs", "20261121-145447", finished=False)
    with pytest.raises(UserError, match="holds 1 run and none of them is finished"):
        newest_run(tmp_path / "runs")
    result = CliRunner().invoke(app, [str(tmp_path / "runs") if word == "X" else word for word in command.split()])
    assert result.exit_code == 2, result.output
    assert "holds 1 run and none of them is finished (the newest is " in " ".join(result.stderr.split())
