"""`mmpsr init`: a file that the doctor has examined, the next command, and nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tuning.console import app


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["init", *arguments])
    assert "Traceback" not in result.output
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(autouse=True)
def _talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = (f"c{row},p{row % 5},Well I will say it {row},{'yes' if row % 2 else 'no'}" for row in range(20))
    Path("talks.csv").write_text("\n".join(["clip_id,person,said,hesitant", *rows]) + "\n", encoding="utf-8")


def test_a_table_is_drafted_examined_and_the_next_command_said() -> None:
    status, output = run("talks.csv")
    assert status == 0, output
    assert "its name, and yes or no in its cells" in output
    assert "No errors: training can begin." in output
    assert output.endswith(
        "wrote talks.toml: change there what was told wrong. Next, type mmpsr train --config talks.toml"
    )
    before = Path("talks.toml").read_bytes()
    status, output = run("talks.csv")
    assert (status, Path("talks.toml").read_bytes()) == (2, before)
    assert "talks.toml exists, and is not overwritten; --output names another, or remove it" in output
    assert run("talks.csv", "-o", "none/mine.toml")[1].endswith("there is no folder none; make it first")


def test_an_error_of_the_doctor_is_the_exit_status_and_what_is_next() -> None:
    table = Path("talks.csv").read_text(encoding="utf-8")
    Path("talks.csv").write_text(table.replace("c7,", "c6,"), encoding="utf-8")
    status, output = run("talks.csv", "--id", "clip_id")
    assert status == 1
    assert "duplicate_id" in output
    assert output.endswith("mmpsr doctor --config talks.toml")


def test_recordings_alone_get_a_table_to_fill_in() -> None:
    Path("raw/sub").mkdir(parents=True)
    for name in ("a.wav", "b.wav"):
        Path("raw", name).touch()
    status, output = run("raw")
    assert (status, Path("raw.csv").read_text(encoding="utf-8")) == (0, "file,label\nraw/a.wav,\nraw/b.wav,\n")
    assert output.endswith("Fill in the column label of raw.csv, then type mmpsr init raw.csv")
    assert "raw.csv exists, and is not overwritten" in run("raw")[1]


def test_folders_that_could_be_people_are_asked_for_and_nothing_is_left_behind() -> None:
    for name in ("x/a.wav", "x/b.wav", "y/a.wav", "y/b.wav"):
        Path("raw", name).parent.mkdir(parents=True, exist_ok=True)
        Path("raw", name).touch()
    status, output = run("raw")
    assert (status, Path("raw.csv").exists()) == (2, False)
    assert (
        "folders could be classes or people: folder (2 values, such as 'x'); say what they are: --label folder"
        in output
    )
    assert run("raw", "--label", "folder")[0] in (0, 1)
    assert 'labels.folder = { column = "folder" }' in Path("raw.toml").read_text(encoding="utf-8")
