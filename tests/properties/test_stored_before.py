"""What was stored before files moved into rooms is read after it, with equal figures: store, run, bundle and study.

`stored_before/` was written by the last commit of the flat folders (64b6257) from the clips that `vectors` makes again.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from training.bundle.bundle import read_bundle
from training.runs.trained import TrainedModel
from tuning.console import app

STORED = Path(__file__).parent / "stored_before"


def vectors(folder: Path) -> None:
    """The vectors made elsewhere that the stored run read, from the same seed."""
    generator = np.random.default_rng(0)
    for name in ("sounds", "words"):
        (folder / name).mkdir()
    for split, count in {"train": 36, "dev": 12, "test": 12}.items():
        for index in range(count):
            mood = int(generator.integers(3))
            for name, width, height in (("sounds", 3, 2), ("words", 4, 1)):
                vector = generator.normal(size=width) + np.eye(width)[mood] * height
                path = folder / name / f"{split}{index:02d}.npy"
                np.save(path, vector.astype(np.float32))
                os.utime(path, (1_600_000_000, 1_600_000_000))  # another time would be another file
            generator.uniform(size=5)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all that was stored, as the working directory."""
    shutil.copytree(STORED, tmp_path, dirs_exist_ok=True)
    vectors(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == status, result.output
    return result


def figures(tree: Any) -> Any:
    """Leave out intervals and p, which were found by another method."""
    if isinstance(tree, dict):
        return {key: figures(value) for key, value in tree.items() if key not in ("low", "high", "p", "corrected_p")}
    return [figures(value) for value in tree] if isinstance(tree, list) else tree


def test_a_run_has_the_figures_it_had(place: Path) -> None:
    run("verify", "runs/run/before")
    document = json.loads(run("evaluate", "runs/run/before", "--json").stdout)
    before = json.loads((place / "evaluate.json").read_text())
    assert before["figures"][2]["value"] > 0
    assert figures(document) == figures(before)


def test_a_store_is_used_and_not_made_again(place: Path) -> None:
    before = {path.name: path.read_bytes() for path in (place / "store").rglob("*.parquet")}
    run("train", "--config", "run.toml", "--set", "training.num_epochs=1")
    after = {path.name: path.read_bytes() for path in (place / "store").rglob("*.parquet")}
    assert len(before) == 8
    assert after == before
    made = sorted((place / "runs" / "run").iterdir())
    fingerprints = [json.loads((path / "features.json").read_text()) for path in made]
    assert len(fingerprints) == 2
    assert fingerprints[0] == fingerprints[1]


def test_a_bundle_is_the_model_of_its_run(place: Path) -> None:
    bundle, stored = read_bundle(place / "bundle"), TrainedModel.read(place / "runs" / "run" / "before")
    weights = stored.model.state_dict()
    assert weights.keys() == bundle.model.state_dict().keys()
    assert all(bool((weights[name] == value).all()) for name, value in bundle.model.state_dict().items())
    assert bundle.fingerprints == stored.fingerprints
    assert bundle.calibration.to_dict() == stored.calibration.to_dict()


def test_a_run_and_a_bundle_say_what_they_hold_of_their_origin(place: Path) -> None:
    stored, bundled = TrainedModel.read(place / "runs" / "run" / "before"), read_bundle(place / "bundle")
    # the first metric of each task in results.json and in bundle.json, which hold the same figures
    figures = stored.about("before").split(" Test: ")[1]
    assert "linear baseline" in figures
    assert stored.about("before").startswith("Model run/before, trained on 36 clips of own.")
    assert bundled.about("bundle") == (
        f"Model bundle (run run/before), trained on an unknown number of clips of own. Test: {figures}"
    )


def test_a_study_is_done_and_has_its_table(place: Path) -> None:
    folder = place / "runs" / "study"
    before = pd.read_csv(folder / "table.csv")
    (folder / "table.csv").unlink()
    assert "2 of 2 cells are done" in run("study", "study.toml").stdout
    pd.testing.assert_frame_equal(pd.read_csv(folder / "table.csv"), before, check_exact=True)


def test_a_study_has_its_report_once_its_table_is_written_again(place: Path) -> None:
    folder = place / "runs" / "study"
    error = " ".join(run("report", str(folder), status=2).stderr.split())
    assert "no table.json" in error
    assert "`mmpsr study CONFIG` run again writes it without computing any cell again" in error
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/results.json")}
    run("study", "study.toml")
    run("report", str(folder))
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/*/results.json")} == times
    assert len(times) == 2
    assert "2 of 2" in (folder / "report.html").read_text(encoding="utf-8")
