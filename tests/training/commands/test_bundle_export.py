"""The command `mmpsr export`: from a run and from a bundle, what it says and refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from tests.support import joined as small
from tests.support.starting import after_first_line
from tests.support.stored_run import finish
from training.bundle.bundle import write_bundle
from training.runs.trained import TrainedModel
from tuning.console import app

MODEL = {"graph": "none", "attention": "none", "task_projectors": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(tmp_path_factory.mktemp("runs"), model=MODEL)


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    return result.exit_code, " ".join(result.stdout.split()), after_first_line(result.stderr)


@pytest.mark.slow
def test_a_run_as_onnx_gives_its_own_predictions(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.onnx"
    status, out, err = call(run, "-o", path)
    assert (status, err) == (0, "")
    assert "takes text [B, 12], audio [B, 8] float32, presence [B, 2] bool, in this order gives emotion [B, 7]" in out
    assert "run on every subset of modalities: at most" in out
    clips = small.joined()
    expected = TrainedModel.read(run).predict(clips, torch.arange(len(clips.clips)))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {**{name: x.numpy() for name, x in clips.features.items()}, "presence": clips.presence.numpy()}
    for task, found in zip(expected, session.run(list(expected), inputs), strict=True):
        np.testing.assert_allclose(found, expected[task], atol=1e-5)
    assert '"text": "letters-0"' in session.get_modelmeta().custom_metadata_map["mmpsr"]


@pytest.mark.slow
def test_a_bundle_as_a_program_of_torch(run: Path, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "bundle")
    status, _, err = call(tmp_path / "bundle", "-o", tmp_path / "model.bin", "--format", "torch")
    assert (status, err) == (0, "")
    clips = small.joined()
    found = torch.export.load(tmp_path / "model.bin").module()(*clips.features.values(), clips.presence)
    expected = TrainedModel.read(run).predict(clips, torch.arange(len(clips.clips)))
    for task, values in zip(expected, found, strict=True):
        np.testing.assert_allclose(values.detach(), expected[task], atol=1e-5)


def test_says_what_it_cannot_write(run: Path, tmp_path: Path) -> None:
    status, out, err = call(run, "-o", tmp_path / "model.pb")
    assert (status, out) == (2, "")
    assert err.endswith("model.pb ends in none of .onnx, .pt2; name one of them or give --format")
    status, _, err = call(tmp_path, "-o", tmp_path / "model.onnx")
    assert status == 2
    assert err.startswith("error: ")
    assert str(tmp_path) in err
