"""The command `mmpsr bundle`: what it writes, says and checks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.support import joined as small
from tests.support.bundled import small_bundle, small_run
from tests.support.starting import after_first_line
from training.bundle import bundle as bundle_module
from training.bundle.bundle import Repeated, compare_predictions, read_bundle, repeat_predictions
from training.runs.trained import TrainedModel
from tuning.console import app


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory)


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["bundle", *map(str, arguments)])
    return result.exit_code, " ".join(result.stdout.split()), after_first_line(result.stderr)


def test_writes_and_says_what(run: Path, tmp_path: Path) -> None:
    status, out, err = call(run, "-o", tmp_path / "bundle")
    assert (status, err) == (0, "")
    size = sum(path.stat().st_size for path in (tmp_path / "bundle").iterdir())
    assert f"bundle: {size / 1e6:.2f} MB model.safetensors" in out
    assert "tasks emotion, personality, ambivalence; modalities text, audio" in out
    assert "from media it cannot predict here: text: the model was trained on vectors of letters-0" in out
    assert "Read back. The run's predictions were not made again: " in out  # its corpora are nowhere
    assert "labels.csv" in out
    status, out, err = call(run, "-o", tmp_path / "bundle")
    assert (status, out) == (2, "")
    assert "is a bundle already; name a new folder, or replace it with --force" in err
    assert call(run, "--output", tmp_path / "bundle", "--force")[0] == 0


def test_what_is_no_run(tmp_path: Path) -> None:
    status, out, err = call(tmp_path, "-o", tmp_path / "bundle")
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert "results.json" in err
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        (Repeated(9, 9, 2e-8), 0, "9 of the run's 9 stored clips predicted again from their features: the largest "
                                  "difference is 2.0e-08."),
        (Repeated(9, 8, 2e-4), 1, "difference is 2.0e-04, more than 1e-05; do not hand this bundle on."),
        (Repeated(9, 0, float("nan"), "gone"), 0, "The run's predictions were not made again: gone"),
    ],
)  # fmt: skip
def test_the_verdict(
    found: Repeated, status: int, said: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "repeat_predictions", lambda *_: found)
    got, out, _ = call(run, "-o", tmp_path / "bundle")
    assert got == status
    assert said in out


def test_predictions_are_compared_clip_by_clip(run: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    trained, clips = read_bundle(small_bundle(tmp_path_factory)), small.joined()
    stored = pd.read_parquet(run / "predictions.parquet")
    found = compare_predictions(trained, clips, stored.sample(frac=1.0, random_state=0))
    assert (found.num_stored, found.num_clips) == (72, 72)
    assert found.difference < 1e-6
    stored["predicted.emotion.Fear"] += np.where(stored.index == 3, 0.125, 0.0)
    assert compare_predictions(trained, clips, stored).difference == pytest.approx(0.125, abs=1e-6)
    presence = clips.presence.clone()
    presence[clips.clips["clip_id"].eq(stored["clip_id"][3]).to_numpy(), 0] = False
    found = compare_predictions(trained, replace(clips, presence=presence), stored)
    assert (found.num_stored, found.num_clips) == (72, 71)
    assert found.difference < 1e-6
    nothing = compare_predictions(trained, replace(clips, presence=~clips.presence), stored)
    assert (nothing.num_clips, nothing.reason) == (0, "no stored clip has the vectors that it had")
    assert np.isnan(nothing.difference)


def test_clips_come_from_the_corpora_and_the_store(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    clips = small.joined()
    monkeypatch.setattr(bundle_module, "read_corpora", lambda *_: type("Table", (), {"clips": clips.clips})())

    def gather(given: pd.DataFrame, features: object, *_: object) -> object:
        asked.append(features)
        rows = given["clip_id"].isin(clips.clips["clip_id"])
        assert rows.all()
        return clips

    monkeypatch.setattr(bundle_module, "gather", gather)
    trained = TrainedModel.read(run)
    found = repeat_predictions(trained, run)
    assert (found.num_clips, found.reason) == (72, "")
    assert found.difference < 1e-6
    assert asked == [trained.features]


def test_texts_that_a_model_wrote_are_not_written_again(run: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(run, tmp_path / "run"))
    text = (path / "config.json").read_text(encoding="utf-8")
    (path / "config.json").write_text(text.replace('"transcriber": null', '"transcriber": {}'), encoding="utf-8")
    found = repeat_predictions(TrainedModel.read(run), path)
    assert (found.num_clips, found.reason) == (0, "its texts were written by a model, which would have to run again")
