"""What a bundle says of its run: corpora, encoders, epochs and figures, each from where it is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest

from corpora.registry import Source
from encoders.config import PrecomputedConfig
from encoders.extraction.read import encoder_specs
from tests.support.bundled import small_run
from training.bundle.collect import DEMO, LICENCES, collect_bundle, vector_widths
from training.runs.trained import TrainedModel


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory)


def changed(run: Path, folder: Path, name: str, value: object) -> Path:
    path = Path(shutil.copytree(run, folder / "run"))
    (path / name).write_text(json.dumps(value), encoding="utf-8")
    return path


def test_every_adapter_has_terms() -> None:
    adapters = {get_args(each.model_fields["adapter"].annotation)[0] for each in get_args(get_args(Source)[0])}
    assert set(LICENCES) == adapters


def test_an_encoder_that_is_installed_is_described(run: Path, tmp_path: Path) -> None:
    spec = encoder_specs(TrainedModel.read(run).features)["text"]
    path = changed(run, tmp_path, "features.json", {"text": spec.key, "audio": "noise-0"})
    found = collect_bundle(path, TrainedModel.read(path)).encoders
    assert found["text"].settings == json.loads(json.dumps(dict(spec.settings)))
    assert (found["text"].version, found["text"].pooling) == (spec.version, spec.pooling)
    assert (found["audio"].version, found["audio"].settings, found["audio"].key) == (None, {}, "noise-0")
    assert {name: each.origin for name, each in found.items()} == {"text": "catalogue", "audio": "catalogue"}


def test_files_of_features_are_not_named(run: Path, tmp_path: Path) -> None:
    tree = json.loads((run / "config.json").read_text(encoding="utf-8"))
    tree["features"]["encoders"]["audio"] = "praat"
    tree["features"]["precomputed"] = {"praat": PrecomputedConfig(path="secret/{clip_id}.npy").model_dump(mode="json")}
    tree["features"]["encoders"]["text"] = "my.package:Words"
    path = changed(run, tmp_path, "config.json", tree)
    bundle = collect_bundle(path, TrainedModel.read(path))
    assert {name: each.origin for name, each in bundle.encoders.items()} == {"text": "own", "audio": "vectors"}
    assert "secret" not in json.dumps(bundle.model_dump(mode="json"))


def test_sequences_keep_their_name(run: Path, tmp_path: Path) -> None:
    keys = {"text": "letters-0", "audio": "noise-0", "audio sequences": "noise-0-sequence-64"}
    path = changed(run, tmp_path, "features.json", keys)
    found = collect_bundle(path, TrainedModel.read(path)).encoders
    assert (found["audio"].sequence_key, found["text"].sequence_key) == ("noise-0-sequence-64", None)


def test_the_best_epoch_is_the_first_of_the_best(run: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(run, tmp_path / "run"))
    lines = [{"epoch": number, "dev_figure": value} for number, value in ((1, 5.0), (2, 7.5), (3, 7.5), (4, None))]
    text = "\n".join(json.dumps(line) for line in lines).replace("null", "NaN")
    (path / "metrics.jsonl").write_text(text, encoding="utf-8")
    trained = TrainedModel.read(path)
    found = collect_bundle(path, trained).training
    assert found is not None
    assert (found.num_epochs, found.best_epoch, found.dev_figure) == (4, 2, 7.5)
    assert found.num_parameters == sum(parameter.numel() for parameter in trained.model.parameters())
    (path / "metrics.jsonl").unlink()
    assert collect_bundle(path, trained).training is None


def test_corpora_and_widths(run: Path, tmp_path: Path) -> None:
    trained = TrainedModel.read(run)
    bundle = collect_bundle(run, trained)
    # a fifth of the clips is dev and a fifth test; MELD's test clips are dev as well
    assert bundle.corpora["mosei"].num_clips == {"dev": 12, "test": 12}
    assert bundle.corpora["meld"].num_clips == {"dev": 12}
    assert [name for name, each in bundle.corpora.items() if each.zero_shot] == ["meld"]
    assert vector_widths(trained) == {"text": 12, "audio": 8}
    assert not bundle.is_demo
    tree = json.loads((run / "config.json").read_text(encoding="utf-8"))
    tree["corpora"]["build"] = "demo"
    path = changed(run, tmp_path, "config.json", tree)
    bundle = collect_bundle(path, TrainedModel.read(path))
    assert bundle.is_demo
    assert {each.licence for each in bundle.corpora.values()} == {DEMO}
    assert bundle.origin.is_generated


def test_training_clips_and_generated_corpora_are_those_that_the_run_noted(run: Path, tmp_path: Path) -> None:
    bundle = collect_bundle(run, TrainedModel.read(run))
    # three fifths of 60, 50 and 40 clips; MELD was never trained on
    assert {name: each.num_trained for name, each in bundle.corpora.items()} == {
        "mosei": 36, "fiv2": 30, "bah": 24, "meld": 0,
    }  # fmt: skip
    data = json.loads((run / "data.json").read_text(encoding="utf-8"))
    path = changed(run, tmp_path, "data.json", {**data, "generated": ["mosei", "fiv2", "bah"]})
    bundle = collect_bundle(path, TrainedModel.read(path))  # whatever `build` says
    assert not bundle.is_demo
    assert bundle.origin.is_generated
    licences = {name: each.licence for name, each in bundle.corpora.items()}
    assert licences == {"mosei": DEMO, "fiv2": DEMO, "bah": DEMO, "meld": LICENCES["meld"]}
    path = changed(run, tmp_path / "old", "data.json", {"clips": data["clips"], "labels": data["labels"]})
    assert not collect_bundle(path, TrainedModel.read(path)).origin.is_generated
