"""What `mmpsr predict` does with a run of a model in time: what it writes, and which options it does not take."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from tests.support.in_time_run import without_narrative, write_run_in_time
from tests.support.predicted_run import write_video
from tests.support.starting import after_first_line
from tuning.console import app


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def test_files_of_one_that_works_and_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_narrative(monkeypatch)
    model, good = write_run_in_time(tmp_path / "in_time"), write_video(tmp_path / "good.mkv", seconds=3)
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(b"this is no video")
    output, cards = tmp_path / "out.json", tmp_path / "cards"
    result = run(model, good, broken, "-o", output, "--cards", cards)
    assert result.exit_code == 0, result.output
    assert "ambivalence: present" in result.stdout
    assert "    0:02-0:03  " in result.stdout
    assert "  text absent: no transcript" in result.stdout
    document = json.loads(output.read_text())
    assert [each["id"] for each in document["recordings"]] == ["good.mkv"]
    assert [each["id"] for each in document["defects"]] == ["broken.mkv"]
    assert [path.name for path in cards.iterdir()] == ["good.mkv.html"]
    log = (tmp_path / "out.json.work" / "predict.log").read_text()
    assert "predictions: 1 of 2 recordings, " in log
    assert all(f" {line}\n" in log for line in result.stderr.splitlines())
    quiet = run(model, good, broken, "-o", tmp_path / "out.csv", "-q")
    assert (quiet.exit_code, quiet.stdout) == (0, "")
    assert quiet.stderr.startswith("broken.mkv: no prediction: ")
    assert quiet.stderr.count("\n") == 1
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["id"].tolist() == ["good.mkv"] * 15 + ["broken.mkv"]
    assert "cannot be opened as media" in table["defect"].iloc[-1]
    assert run(model, broken, "-o", tmp_path / "none.parquet").exit_code == 1
    assert pd.read_parquet(tmp_path / "none.parquet")["id"].tolist() == ["broken.mkv"]


@pytest.mark.parametrize(
    "options",
    [["--novelty", "0.5"], ["--hop", "0"], ["--confidence", "0.5"], ["--allow-custom-encoders"], ["--explain"]],
)
def test_options_that_it_does_not_take_are_refused(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "a.mkv").write_bytes(b"")
    result = run(write_run_in_time(tmp_path / "in_time"), tmp_path / "a.mkv", *options)
    assert result.exit_code == 2
    assert f"leave out {options[0]}" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [["compare", "RUN", "RUN"], ["report", "RUN"], ["export", "RUN", "-o", "x.onnx"], ["adapt", "RUN"]],
    ids=lambda arguments: arguments[0],
)
def test_commands_of_whole_clips_say_so_in_one_sentence(tmp_path: Path, arguments: list[str]) -> None:
    model = str(write_run_in_time(tmp_path / "in_time"))
    result = CliRunner().invoke(app, [model if each == "RUN" else each for each in arguments])
    assert result.exit_code == 2
    assert after_first_line(result.stderr) == (
        f"error: {model}/config.json: model.kind: 'frame' is a model in time; train, extract, doctor, features, "
        "evaluate, verify, predict and app take one, all others a model of whole clips"
    )


def test_no_bundle_holds_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["bundle", str(write_run_in_time(tmp_path / "in_time")), "-o", str(tmp_path / "b")]
    )
    assert result.exit_code == 2
    assert "is a run of a model in time, which no bundle holds; `mmpsr predict` and" in " ".join(result.stderr.split())


def test_figures_of_an_unfinished_run_and_of_no_split(tmp_path: Path) -> None:
    model = str(write_run_in_time(tmp_path / "in_time"))
    result = CliRunner().invoke(app, ["evaluate", model])
    assert result.exit_code == 2
    assert "predictions.parquet cannot be read" in " ".join(result.stderr.split())
    assert "finish the run first" in " ".join(result.stderr.split())
    result = CliRunner().invoke(app, ["evaluate", model, "--split", "train"])
    assert result.exit_code == 2
    assert "--split: a run of a model in time has figures of dev and test, none of 'train'" in " ".join(
        result.stderr.split()
    )


def test_one_seed_is_no_mean_over_seeds(tmp_path: Path) -> None:
    model = str(write_run_in_time(tmp_path / "in_time"))
    result = CliRunner().invoke(app, ["evaluate", model, model])
    assert result.exit_code == 2
    assert f"{model} has the seed of {model}, 0; means over seeds need runs of" in " ".join(result.stderr.split())
