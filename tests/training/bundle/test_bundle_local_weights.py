"""Local weights and leave for code, given where a bundle is opened: names, fingerprints, and predictions by them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from encoders.config import FeaturesConfig, TranscriberConfig
from mmpsr.config import ConfigError
from tests.support import tiny_checkpoints as tiny
from tests.support.bundled import small_run
from tests.support.predicted_run import write_run, write_video
from training.bundle.bundle import hint_at_local_weights, save_bundle, with_local_weights
from training.bundle.collect import collect_bundle
from training.bundle.files import BundleError
from training.predict.predictor import Predictor
from training.runs.trained import TrainedModel
from tuning.console import app

BERT, JINA = "google-bert/bert-base-uncased", "jinaai/jina-embeddings-v3"
WORDS = pd.DataFrame({"clip_id": ["a", "b"], "text": ["maybe i could stop", "but it is hard to say"]})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("weights")
    written = {BERT: tiny.write_text_model(place / "bert", "bert"), JINA: tiny.write_jina(place / "jina")}
    return {name: str(folder) for name, folder in written.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, str]) -> Path:
    return write_run(
        tmp_path_factory.mktemp("runs") / "run", data={"modalities": ["text", "behavior"]},
        features={"encoders": {"text": BERT, "behavior": JINA}, "weights": folders, "trust_remote_code": [JINA]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    trained, folder = TrainedModel.read(run), tmp_path_factory.mktemp("bundles") / "bundle"
    save_bundle(trained.model.state_dict(), collect_bundle(small_run(tmp_path_factory), trained), folder)
    return folder


def opened(bundle: Path, **weights: Path | str) -> Predictor:
    return Predictor.from_pretrained(bundle, weights={BERT: weights["bert"], JINA: weights["jina"]},
                                     trust_remote_code=[JINA])  # fmt: skip


def test_a_bundle_predicts_with_copies_that_lie_elsewhere(
    run: Path, bundle: Path, folders: dict[str, str], tmp_path: Path
) -> None:
    moved = shutil.copytree(folders[BERT], tmp_path / "moved")
    assert "moved" not in (bundle / "bundle.json").read_text(encoding="utf-8")
    with Predictor.from_run(run) as own, opened(bundle, bert=moved, jina=folders[JINA]) as predictor:
        found, expected = predictor.predict(WORDS), own.predict(WORDS)
    assert predictor.features.weights[BERT] == str(moved)
    for task, values in expected.predicted.items():
        np.testing.assert_allclose(found.predicted[task], values, atol=1e-6)
        assert np.abs(values[0] - values[1]).max() > 1e-4


def test_another_copy_is_refused_by_its_content(bundle: Path, folders: dict[str, str], tmp_path: Path) -> None:
    other = tiny.write_text_model(tmp_path / "other", "bert", num_positions=41)
    with pytest.raises(BundleError, match=r"text: the model was trained on vectors of google-bert.*weights was 'local"):
        opened(bundle, bert=other, jina=folders[JINA])
    with pytest.raises(BundleError, match=r"text: the model was trained on vectors of google-bert"):
        Predictor.from_pretrained(bundle)  # the hub's
    assert hint_at_local_weights(FeaturesConfig()) == ""


def test_code_needs_leave_of_its_own(run: Path, bundle: Path, folders: dict[str, str]) -> None:
    with pytest.raises(BundleError, match=r"behavior: .*runs code that comes with its weights.*--trust-remote-code"):
        Predictor.from_pretrained(bundle, weights=folders)
    Predictor.from_pretrained(bundle, weights=folders, trust_remote_code=[JINA])
    assert Predictor.from_run(run, weights={BERT: folders[BERT]}).features.trust_remote_code == (JINA,)


def test_names_are_those_of_encoders_in_use(run: Path, folders: dict[str, str]) -> None:
    trained = TrainedModel.read(run)
    with pytest.raises(ConfigError, match=r"weights: the model uses no pretrained weights named 'bert-base'; known"):
        with_local_weights(trained, {"bert-base": "x"}, ())
    with pytest.raises(ConfigError, match=r"trust_remote_code: .* 'minilm'"):
        with_local_weights(trained, {}, ["minilm"])
    features = trained.features.model_copy(update={"encoders": {"text": "minilm"}, "weights": {}})
    with pytest.raises(ConfigError, match="it uses none that are not part of an installed package"):
        with_local_weights(replace(trained, features=features), {BERT: "x"}, ())
    # an encoder whose weights have another name, and a model that writes texts
    features = FeaturesConfig(
        encoders={"behavior": "scene/microsoft/resnet-50"}, transcriber=TranscriberConfig(model="my/whisper")
    )
    told = {"scene/microsoft/resnet-50": "a", "my/whisper": "b"}
    found = with_local_weights(replace(trained, features=features), told, ()).features
    assert found.weights == {"microsoft/resnet-50": "a", "my/whisper": "b"}


def test_the_command_takes_both(bundle: Path, folders: dict[str, str], tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", seconds=1)

    def predict(*options: str, status: int = 0) -> str:
        arguments = ["predict", str(bundle), str(tmp_path / "a.mkv"), "--text", "maybe", "--format", "json"]
        result = CliRunner().invoke(app, [*arguments, *options])
        assert result.exit_code == status, result.output
        return result.stdout if status == 0 else " ".join(result.stderr.split())

    weights = [f"--weights={name}={folder}" for name, folder in folders.items()]
    (recording,) = json.loads(predict(*weights, "--trust-remote-code", JINA))["recordings"]
    assert recording["clips"][0]["absent"] == {"behavior": "no description"}
    assert "runs code that comes with its weights" in predict(*weights, status=2)
    assert "error: --weights 'bert': expected ENCODER=FOLDER" in predict("--weights", "bert", status=2)
    assert "named 'bert'; known names are" in predict("--weights", "bert=x", status=2)
