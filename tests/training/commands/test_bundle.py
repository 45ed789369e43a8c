"""The commands `mmpsr bundle` and `mmpsr export`: what they write, say, check and refuse."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from tests.support import joined as small
from tests.support.bundled import small_bundle, small_run
from tests.support.starting import after_first_line
from tests.support.stored_run import finish
from training.bundle import bundle as bundle_module
from training.bundle.bundle import Repeated, compare_predictions, read_bundle, repeat_predictions, write_bundle
from training.runs.trained import TrainedModel
from tuning.console import app


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without graph and attention, which is quick to export."""
    parts = {"graph": "none", "attention": "none", "task_projectors": False}
    return finish(tmp_path_factory.mktemp("runs"), model=parts)


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


def export(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    return result.exit_code, " ".join(result.stdout.split()), after_first_line(result.stderr)


@pytest.mark.slow
def test_a_run_as_onnx_gives_its_own_predictions(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.onnx"
    status, out, err = export(plain, "-o", path)
    assert (status, err) == (0, "")
    assert "takes text [B, 12], audio [B, 8] float32, presence [B, 2] bool, in this order gives emotion [B, 7]" in out
    assert "run on every subset of modalities: at most" in out
    clips = small.joined()
    expected = TrainedModel.read(plain).predict(clips, torch.arange(len(clips.clips)))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {**{name: x.numpy() for name, x in clips.features.items()}, "presence": clips.presence.numpy()}
    for task, found in zip(expected, session.run(list(expected), inputs), strict=True):
        np.testing.assert_allclose(found, expected[task], atol=1e-5)
    assert '"text": "letters-0"' in session.get_modelmeta().custom_metadata_map["mmpsr"]


@pytest.mark.slow
def test_a_bundle_as_a_program_of_torch(plain: Path, tmp_path: Path) -> None:
    write_bundle(plain, tmp_path / "bundle")
    status, _, err = export(tmp_path / "bundle", "-o", tmp_path / "model.bin", "--format", "torch")
    assert (status, err) == (0, "")
    clips = small.joined()
    found = torch.export.load(tmp_path / "model.bin").module()(*clips.features.values(), clips.presence)
    expected = TrainedModel.read(plain).predict(clips, torch.arange(len(clips.clips)))
    for task, values in zip(expected, found, strict=True):
        np.testing.assert_allclose(values.detach(), expected[task], atol=1e-5)


def test_says_what_it_cannot_write(plain: Path, tmp_path: Path) -> None:
    status, out, err = export(plain, "-o", tmp_path / "model.pb")
    assert (status, out) == (2, "")
    assert err.endswith("model.pb ends in none of .onnx, .pt2; name one of them or give --format")
    status, _, err = export(tmp_path, "-o", tmp_path / "model.onnx")
    assert status == 2
    assert err.startswith("error: ")
    assert str(tmp_path) in err
