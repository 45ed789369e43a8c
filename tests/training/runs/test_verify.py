"""`mmpsr verify`: a run as it was written passes; whatever is tampered with is named."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.support import stored_run
from training.commands.console import app
from training.runs.directory import RunDirectory, RunError
from training.runs.verify import MANIFEST, verify_run, write_manifest


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_run.finish(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def change_table(path: Path, corpus: str, column: str, value: float, rewrite_manifest: bool = True) -> None:
    table = pd.read_parquet(path / "predictions.parquet")
    table.loc[table["split"].eq("test") & table["corpus"].eq(corpus), column] = value
    table.to_parquet(path / "predictions.parquet", index=False)
    if rewrite_manifest:
        write_manifest(RunDirectory(path))


def test_a_run_as_it_was_written_passes(path: Path) -> None:
    assert verify_run(path) == []
    result = CliRunner().invoke(app, ["verify", str(path)])
    assert result.exit_code == 0
    assert result.stdout == f"{path}: every file is unchanged and every figure follows from the stored predictions\n"


def test_the_manifest_holds_sums_versions_and_the_command(path: Path) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    for name in ("config.json", "features.json", "predictions.parquet", "results.json", "calibration.json"):
        assert manifest["sha256"][name] == hashlib.sha256((path / name).read_bytes()).hexdigest()
    assert MANIFEST not in manifest["sha256"]
    assert manifest["versions"] == json.loads((path / "versions.json").read_text())
    assert manifest["command"]


@pytest.mark.parametrize("name", ["config.json", "features.json", "versions.json"])
def test_a_changed_file_is_named(path: Path, name: str) -> None:
    with open(path / name, "a") as file:
        file.write("\n")
    assert [problem.split(":")[0] for problem in verify_run(path)] == [f"{name} was changed"]


def test_a_changed_setting_is_named_and_what_it_makes_of_the_figures(path: Path) -> None:
    def drop(config: Any) -> None:
        config["corpora"]["sources"]["meld"]["metrics"]["emotion"] = ["uar"]

    change_json(path / "config.json", drop)
    problems = verify_run(path)
    assert problems[0].startswith("config.json was changed: its SHA-256 is ")
    assert problems[1:] == [
        f"results.json: meld/dev/emotion/{metric} does not follow from any prediction"
        for metric in ("macro_f1", "weighted_f1")
    ]
    result = CliRunner().invoke(app, ["verify", str(path), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"run": str(path), "problems": problems}


def test_a_changed_figure_is_named_even_where_the_manifest_is_written_anew(path: Path) -> None:
    def embellish(rows: Any) -> None:
        rows[0]["model"] += 0.01

    change_json(path / "results.json", embellish)
    write_manifest(RunDirectory(path))
    (problem,) = verify_run(path)
    assert problem.startswith("results.json: model of mosei/dev/emotion/multilabel_macro_f1 is ")
    result = CliRunner().invoke(app, ["verify", str(path)])
    assert result.exit_code == 1
    assert "1 thing(s) are not what they should be" in result.stdout


@pytest.mark.parametrize("figure", ["uncalibrated", "linear", "chance", "num_clips"])
def test_every_kind_of_figure_is_made_again(path: Path, figure: str) -> None:
    def embellish(rows: Any) -> None:
        rows[-1][figure] = 1.5

    change_json(path / "results.json", embellish)
    write_manifest(RunDirectory(path))
    assert [problem.split(" of ")[0] for problem in verify_run(path)] == [f"results.json: {figure}"]


def test_a_missing_row_of_the_results_is_named(path: Path) -> None:
    change_json(path / "results.json", lambda rows: rows.pop(0))
    assert "results.json: mosei/dev/emotion/multilabel_macro_f1 is missing" in verify_run(path)


def test_a_changed_prediction_is_named(path: Path) -> None:
    change_table(path, "bah", "predicted.ambivalence.present", 0.75, rewrite_manifest=False)
    problems = verify_run(path)
    assert problems[0].startswith("predictions.parquet was changed")
    assert "predicted.ambivalence.present of 8 clip(s) is not the calibration of" in problems[1]
    assert len(problems) == 2


def test_changed_predictions_do_not_give_the_figures(path: Path) -> None:
    change_table(path, "fiv2", "uncalibrated.personality.openness", 0.25)
    problems = verify_run(path)
    assert any("model of fiv2/test/personality/mean_ccc is" in problem for problem in problems)
    assert not any("mosei" in problem or "bah" in problem for problem in problems)


def test_a_changed_label_does_not_either(path: Path) -> None:
    change_table(path, "bah", "ambivalence.present", 0.0)
    assert any("model of bah/test/ambivalence" in problem for problem in verify_run(path))


def test_what_is_missing_is_named(path: Path) -> None:
    (path / "features.json").unlink()
    assert verify_run(path) == ["features.json is missing; manifest.json lists it"]
    write_manifest(RunDirectory(path))
    assert verify_run(path) == ["manifest.json says nothing of features.json"]
    (path / MANIFEST).unlink()
    assert verify_run(path) == ["manifest.json is missing or damaged, so that no file can be compared with what it was"]
    (path / MANIFEST).write_text("[]")
    assert len(verify_run(path)) == 1
    (path / "calibration.json").unlink()
    assert verify_run(path)[-1].startswith("figures cannot be made again: ")


def test_figures_without_predictions_are_unproven(path: Path) -> None:
    table = pd.read_parquet(path / "predictions.parquet")
    table[[name for name in table if not name.startswith("linear.")]].to_parquet(path / "predictions.parquet")
    write_manifest(RunDirectory(path))
    assert verify_run(path) == [
        "predictions.parquet has no linear.<task>.<class> columns, so that the baseline's figures are unproven"
    ]


def test_what_is_no_finished_run(path: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no folder"):
        verify_run(tmp_path / "nowhere")
    (path / "results.json").unlink()
    result = CliRunner().invoke(app, ["verify", str(path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "has no results.json: the run is not finished" in result.stderr
