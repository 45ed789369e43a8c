"""Bundles: the same predictions anywhere, and nothing in one that runs, leads out or was changed is accepted."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import HfApi, ModelCard, ModelHubMixin
from safetensors.torch import load_file, save_file

from corpora.clips import label_columns
from encoders.extraction.read import encoder_specs
from encoders.models.minilm import MiniLM
from mmpsr import tasks
from mmpsr.batch import Batch
from mmpsr.calibration.novelty import Novelty, NoveltyFit
from mmpsr.models.build import create_model
from mmpsr.models.config import ConflictAwareConfig
from tests.support import joined as small
from tests.support.bundled import small_bundle, small_run
from training.bundle.bundle import BundledModel, check_encoders, copy_bundle, read_bundle, save_bundle, write_bundle
from training.bundle.files import BundleError
from training.bundle.format import FORMAT_VERSION
from training.runs.directory import RunError
from training.runs.trained import TrainedModel
from training.scoring.novelty import novelty_bytes

ROOT = Path(__file__).parents[3]
NAMES = ["README.md", "bundle.json", "model.safetensors", "novelty.safetensors"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory)


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(written, tmp_path / "bundle"))


def change(bundle: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    tree = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    edit(tree)
    (bundle / "bundle.json").write_text(json.dumps(tree), encoding="utf-8")


def change_weights(bundle: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change weights and give the file a right sum, as an attacker would."""
    weights = load_file(bundle / "model.safetensors")
    edit(weights)
    save_file(weights, bundle / "model.safetensors")
    found = hashlib.sha256((bundle / "model.safetensors").read_bytes()).hexdigest()
    change(bundle, lambda tree: tree["sha256"].update({"model.safetensors": found}))


def stored(run: Path, trained: TrainedModel) -> dict[str, np.ndarray]:
    table = pd.read_parquet(run / "predictions.parquet").set_index("clip_id")
    ids = small.joined().clips["clip_id"]
    return {
        task: table[[f"predicted.{column}" for column in label_columns(task, spec)]].reindex(ids).to_numpy()
        for task, spec in trained.tasks.items()
    }


def test_predicts_as_the_run_did(run: Path, written: Path) -> None:
    trained, clips = read_bundle(written), small.joined()
    assert sorted(path.name for path in written.iterdir()) == NAMES
    assert not trained.model.training
    assert trained.modalities == ("text", "audio")
    predicted = trained.predict(clips, torch.arange(len(clips.clips)))
    for task, expected in stored(run, trained).items():
        known = np.isfinite(expected).all(axis=1)
        assert known.sum() == 72  # two fifths of 180 clips are dev or test
        np.testing.assert_allclose(predicted[task][known], expected[known], atol=1e-6)
        assert predicted[task].std(axis=0).min() > 1e-3  # not constants


def test_carries_everything_but_the_machine(run: Path, written: Path) -> None:
    trained, own = read_bundle(written), TrainedModel.read(run)
    assert (trained.tasks, trained.calibration, trained.fingerprints) == (own.tasks, own.calibration, own.fingerprints)
    assert trained.features.encoders == own.features.encoders
    assert trained.config.model == own.config.model
    assert trained.config.training == own.config.training
    assert trained.config.corpora.sources == {}
    text = (written / "bundle.json").read_text(encoding="utf-8")
    assert str(run.parent.parent) not in text
    assert own.features.store not in text
    assert "trust_remote_code" not in text
    found = trained.bundle
    assert found.format_version == FORMAT_VERSION
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    values = {(row["corpus"], row["split"], row["task"], row["metric"]): row for row in results}
    assert len(found.figures) == 9  # two of each of three tasks on test, three of MELD on dev
    for figure in found.figures:
        row = values[figure.corpus, figure.split, figure.task, figure.metric]
        assert figure.value == pytest.approx(row["model"])
        assert figure.chance == pytest.approx(row["chance"])
        assert figure.linear is not None
        assert figure.linear.value == pytest.approx(row["linear"])
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high  # type: ignore[operator]
    assert found.corpora["meld"].zero_shot
    assert found.corpora["meld"].num_clips == {"dev": 12}
    assert found.encoders["text"].vector_width == small.WIDTHS["text"]
    assert found.training is None  # that run noted no epoch


def test_tasks_stay_what_they_were_when_defaults_change(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_bundle(written).tasks
    changed = tasks.EMOTION.model_copy(update={"loss": "binary_cross_entropy", "classes": ("a", "b")})
    monkeypatch.setattr(tasks, "BUILTIN_TASKS", {**tasks.BUILTIN_TASKS, "emotion": changed})
    assert read_bundle(written).tasks == before


def test_a_run_over_sequences(written: Path, tmp_path: Path) -> None:
    config = ConflictAwareConfig(hidden_width=8)
    model = create_model(config, {"text": 12, "audio": 8}, small.tasks(), {"audio": 2}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    noted = read_bundle(written).bundle
    encoders = {**noted.encoders}
    encoders["audio"] = encoders["audio"].model_copy(update={"sequence_key": "noise-0-sequence-6"})
    features = noted.config.features.model_copy(update={"sequences": {"audio": 6}})
    sections = noted.config.model_copy(update={"model": config, "features": features})
    bundle = noted.model_copy(update={"config": sections, "encoders": encoders})
    save_bundle(model.state_dict(), bundle, tmp_path / "bundle")
    trained = read_bundle(tmp_path / "bundle")
    assert trained.fingerprints == {"text": "letters-0", "audio": "noise-0", "audio sequences": "noise-0-sequence-6"}
    assert trained.features.sequences == {"audio": 6}
    batch = Batch(
        {"text": torch.randn(5, 12), "audio": torch.randn(5, 8)}, torch.ones(5, 2, dtype=torch.bool), {},
        torch.arange(5), {"audio": (torch.randn(5, 6, 2), torch.ones(5, 6, dtype=torch.bool))},
    )  # fmt: skip
    for task in trained.tasks:
        assert torch.equal(trained.model(batch).of(task), model(batch).of(task))


@pytest.mark.slow
def test_a_new_process_in_another_folder_gives_the_same(written: Path, run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(written, tmp_path / "elsewhere" / "it")
    program = (
        "import sys, numpy; sys.path.insert(0, sys.argv[1])\n"
        "import torch; from tests.support import joined; from pathlib import Path\n"
        "from training.bundle.bundle import read_bundle\n"
        "clips = joined.joined(); found = read_bundle(Path('it')).predict(clips, torch.arange(len(clips.clips)))\n"
        "numpy.savez('found.npz', **found)"
    )
    place = tmp_path / "elsewhere"
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT)], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    trained = read_bundle(Path(moved))
    with np.load(place / "found.npz") as found:
        for task, expected in stored(run, trained).items():
            known = np.isfinite(expected).all(axis=1)
            np.testing.assert_allclose(found[task][known], expected[known], atol=1e-6)


def test_what_is_there_is_not_overwritten(run: Path, bundle: Path) -> None:
    before = (bundle / "bundle.json").stat().st_ino
    with pytest.raises(BundleError, match="is a bundle already; name a new folder, or replace it with --force"):
        write_bundle(run, bundle)
    assert (bundle / "bundle.json").stat().st_ino == before
    write_bundle(run, bundle, force=True)
    assert (bundle / "bundle.json").stat().st_ino != before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_a_run_that_was_changed_is_not_bundled(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "run"))
    weights = load_file(other / "best.safetensors")
    save_file({name: tensor * 1 for name, tensor in weights.items()}, other / "best.safetensors", {"more": "data"})
    with pytest.raises(BundleError, match=r"is not what it was when it finished.*best\.safetensors was changed"):
        write_bundle(other, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_weights_that_are_not_finite_are_not_written(written: Path, tmp_path: Path) -> None:
    trained = read_bundle(written)
    weights = {**trained.model.state_dict(), "extra": torch.tensor([float("nan")])}
    with pytest.raises(BundleError, match="extra holds NaN or infinity"):
        save_bundle(weights, trained.bundle, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_a_pickled_file_beside_the_weights_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "extra").mkdir()
    (bundle / "extra" / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(BundleError, match=r"extra/pytorch_model\.bin is a pickled file, which can run code"):
        read_bundle(bundle)
    with pytest.raises(BundleError, match="is a pickled file"):
        copy_bundle(bundle, tmp_path / "copy")


def test_pickled_bytes_under_the_right_name_are_refused(bundle: Path, tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    (bundle / "model.safetensors").write_bytes(pickle.dumps(Touch()))
    found = hashlib.sha256((bundle / "model.safetensors").read_bytes()).hexdigest()
    change(bundle, lambda tree: tree["sha256"].update({"model.safetensors": found}))
    with pytest.raises(BundleError, match=r"model\.safetensors is not a safetensors file"):
        read_bundle(bundle)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_link_that_leads_out_is_refused(name: str, bundle: Path, tmp_path: Path) -> None:
    (bundle / name).rename(tmp_path / "outside")
    (bundle / name).symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match=r"is a symbolic link to .*outside, which leads out of the bundle's folder"):
        read_bundle(bundle)


@pytest.mark.parametrize("name", ["model.safetensors", "README.md"])
def test_a_changed_file_is_refused(name: str, bundle: Path) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[-1] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} was changed: its SHA-256 is"):
        read_bundle(bundle)
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"has no file {name}"):
        read_bundle(bundle)


def test_weights_of_another_model_are_refused(bundle: Path) -> None:
    change(bundle, lambda tree: tree["config"]["model"].update(hidden_width=32))
    with pytest.raises(BundleError, match=r"model\.safetensors: the weights do not fit the configuration"):
        read_bundle(bundle)


def test_weights_of_odd_shapes_are_refused(bundle: Path) -> None:
    change_weights(bundle, lambda weights: weights.update({"standardizers.text.mean": torch.tensor(1.0)}))
    with pytest.raises(BundleError, match=r"model\.safetensors: "):
        read_bundle(bundle)


def test_weights_that_are_not_finite_are_refused(bundle: Path) -> None:
    change_weights(bundle, lambda weights: weights["standardizers.text.mean"].fill_(float("nan")))
    with pytest.raises(BundleError, match=r"standardizers\.text\.mean holds NaN or infinity"):
        read_bundle(bundle)


def test_encoders_that_are_not_the_bundles(written: Path) -> None:
    with pytest.raises(
        BundleError,
        match=r"text: the model was trained on vectors of letters-0, the encoder 'minilm' installed here makes those "
        r"of minilm-[0-9a-f]{12}; predictions would be wrong. Install mmpsr 0\.",
    ):
        check_encoders(read_bundle(written))


def installed(trained: BundledModel) -> BundledModel:
    """As if the encoders that are installed had made its vectors."""
    specs = encoder_specs(trained.features)
    noted = {
        name: trained.bundle.encoders[name].model_copy(
            update={"key": spec.key, "version": spec.version, "pooling": spec.pooling, "settings": dict(spec.settings)}
        )
        for name, spec in specs.items()
        if name in trained.modalities
    }
    keys = {name: spec.key for name, spec in noted.items()}
    return replace(trained, fingerprints=keys, bundle=trained.bundle.model_copy(update={"encoders": noted}))


def test_encoders_that_are(written: Path) -> None:
    check_encoders(installed(read_bundle(written)))


def test_a_changed_constant_of_an_encoder_is_named(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = installed(read_bundle(written))
    settings = MiniLM.settings
    monkeypatch.setattr(MiniLM, "version", MiniLM.version + 1)
    monkeypatch.setattr(MiniLM, "settings", lambda self: {**settings(self), "max_tokens": 7})
    then = trained.bundle.encoders["text"].settings.get("max_tokens")
    with pytest.raises(BundleError, match=r"text: .*\(version was 1, is 2; max_tokens was .*, is 7\)"):
        check_encoders(trained)
    assert then != 7


def test_encoders_that_are_missing(written: Path) -> None:
    trained = read_bundle(written)
    features = trained.features.model_copy(update={"encoders": {**trained.features.encoders, "text": "gone"}})
    with pytest.raises(BundleError, match=r"text: encoder 'gone' \(letters-0\) cannot be used here: .*'gone'"):
        check_encoders(replace(trained, features=features))


def test_vectors_that_were_made_elsewhere(bundle: Path) -> None:
    change(bundle, lambda tree: tree["encoders"]["text"].update(origin="vectors"))
    with pytest.raises(BundleError, match="text: the model was trained on vectors called 'minilm' that were made else"):
        check_encoders(read_bundle(bundle))


def test_a_copy_is_read_first(written: Path, bundle: Path, tmp_path: Path) -> None:
    (bundle / "notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "copy").mkdir()  # as the hub's mixin makes it
    copy_bundle(bundle, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == NAMES
    for name in NAMES:
        assert (tmp_path / "copy" / name).read_bytes() == (written / name).read_bytes()
    with pytest.raises(BundleError, match="is the bundle itself"):
        copy_bundle(bundle, bundle)
    (bundle / "README.md").write_text("other", encoding="utf-8")
    with pytest.raises(BundleError, match=r"README\.md was changed"):
        copy_bundle(bundle, tmp_path / "another")


class Hubbed(ModelHubMixin):
    """What a class needs to go to the hub and come back."""

    def __init__(self, trained: BundledModel, batch_size: int = 8) -> None:
        self.trained = trained
        self.batch_size = batch_size  # a plain default, which the mixin would write as config.json

    def _save_pretrained(self, save_directory: Path) -> None:
        copy_bundle(self.trained.folder, save_directory, force=True)
        self._hub_mixin_config = None

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **_: Any) -> Hubbed:
        return cls(read_bundle(Path(model_id)))


def test_to_the_hub_and_back(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads: list[tuple[str, list[str]]] = []

    def create(self: HfApi, repo_id: str, **_: Any) -> Any:
        return type("Url", (), {"repo_id": f"someone/{repo_id}"})()

    def upload(self: HfApi, *, repo_id: str, folder_path: Path, **_: Any) -> str:
        shutil.copytree(folder_path, tmp_path / "hub" / repo_id)
        uploads.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))
        return "https://hub/commit"

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    first = Hubbed.from_pretrained(str(written))
    assert first.push_to_hub("mine") == "https://hub/commit"
    assert uploads == [("someone/mine", NAMES)]
    again = Hubbed.from_pretrained(str(tmp_path / "hub" / "someone" / "mine"))
    assert again.trained.bundle == first.trained.bundle
    first.save_pretrained(tmp_path / "saved")
    first.save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == NAMES
    assert ModelCard.load(tmp_path / "saved" / "README.md").data.to_dict()["library_name"] == "mmpsr"


def test_novelty_goes_with_the_bundle_and_a_bundle_without_it_is_read(run: Path, written: Path, tmp_path: Path) -> None:
    own, trained = TrainedModel.read(run), read_bundle(written)
    assert list(trained.novelty.fits) == list(trained.modalities)
    for modality, fit in own.novelty.fits.items():
        np.testing.assert_array_equal(trained.novelty.fits[modality].dev, fit.dev)
        np.testing.assert_array_equal(trained.novelty.fits[modality].directions, fit.directions)
    copy_bundle(written, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == NAMES
    assert "its novelty is the share of" in (written / "README.md").read_text(encoding="utf-8")
    save_bundle(trained.model.state_dict(), trained.bundle, tmp_path / "without")
    assert read_bundle(tmp_path / "without").novelty.fits == {}
    assert "Nothing tells how unlike" in (tmp_path / "without" / "README.md").read_text(encoding="utf-8")


def test_novelty_that_was_changed_is_refused(bundle: Path) -> None:
    path = bundle / "novelty.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"novelty\.safetensors was changed"):
        read_bundle(bundle)
    path.unlink()
    with pytest.raises(BundleError, match=r"has no file novelty\.safetensors"):
        read_bundle(bundle)


def test_novelty_of_other_vectors_is_refused(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "run"))
    fit = NoveltyFit(np.zeros(3), np.eye(3), np.ones(3), 1.0, np.ones(2))
    (other / "novelty.safetensors").write_bytes(novelty_bytes(Novelty({"text": fit})))
    with pytest.raises(
        RunError, match=r"novelty\.safetensors: text: shapes .* wide; remove the file to predict without"
    ):
        TrainedModel.read(other)
    (other / "novelty.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match="remove the file to predict without novelty"):
        TrainedModel.read(other)
    (other / "novelty.safetensors").unlink()
    assert TrainedModel.read(other).novelty.fits == {}
