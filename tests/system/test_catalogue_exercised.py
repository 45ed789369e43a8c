"""Every entry of the catalogue at work: the real code loads a tiny checkpoint of its architecture and is given a clip.

A new entry without a checkpoint here is an error. The one entry that cannot be imported beside others names the test
that runs it apart.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders.base import Encoder, pool
from encoders.catalogue.entry import EMBEDDED
from encoders.config import FeaturesConfig
from encoders.creation import CATALOGUE, WRITERS, create_encoder
from encoders.media.clip import ClipMedia
from encoders.models import vggish
from encoders.models.hub import PRECISION_TOLERANCE, HubEncoder
from encoders.store.text_store import Written
from encoders.writers.build import text_writers
from tests.encoders.models import test_laion_clap as test_laion_clap_models
from tests.support import tiny_checkpoints as tiny
from tests.support import tiny_images
from tests.support.face_scenes import scene
from tests.support.media_files import tone, write_media
from tests.support.tiny_writers import tiny_internvl, tiny_qwen, tiny_video_llava, tiny_whisper

Write = Callable[[Path], Path]


def open_clip(folder: Path) -> Path:
    return tiny_images.write_twins(folder)[1]


def affectnet(folder: Path) -> Path:
    folder.mkdir()
    torch.save(tiny_images.affectnet_state(), folder / "weights.pt")
    return folder / "weights.pt"


def efficientnet(folder: Path) -> Path:
    import timm

    folder.mkdir()
    torch.save(timm.create_model("tf_efficientnet_b0", num_classes=8).state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


def small_vggish(folder: Path) -> Path:
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(vggish.network().state_dict(), folder / "vggish.pth")
    return folder / "vggish.pth"


def bert(folder: Path) -> Path:
    return tiny.write_text_model(folder, "bert")


def roberta(folder: Path) -> Path:
    return tiny.write_text_model(folder, "roberta")


def xlm_roberta(folder: Path) -> Path:
    return tiny.write_text_model(folder, "xlm-roberta")


def wav2vec(folder: Path) -> Path:
    return tiny.write_wav2vec(folder, "wav2vec2", "group")


def robust_wav2vec(folder: Path) -> Path:
    return tiny.write_wav2vec(folder, "wav2vec2", "layer")


def hubert(folder: Path) -> Path:
    return tiny.write_wav2vec(folder, "hubert", "group")


def large_hubert(folder: Path) -> Path:
    return tiny.write_wav2vec(folder, "hubert", "layer")


CHECKPOINTS: Mapping[str, Write] = {
    "openai/clip-vit-base-patch32": tiny.write_clip,
    "open_clip/ViT-B-32/openai": open_clip,
    "laion/clap-htsat-fused": tiny.write_clap,
    "google/vit-base-patch16-224": tiny_images.write_vit,
    "microsoft/resnet-50": tiny_images.write_resnet,
    "facebook/dinov2-large": tiny_images.write_dinov2,
    "trpakov/vit-face-expression": tiny_images.write_vit,
    "dima806/facial_emotions_image_detection": tiny_images.write_vit,
    "emo-affect-net": affectnet,
    "emotiefflib/enet_b0_8_best_afew": efficientnet,
    "MCG-NJU/videomae-base": tiny_images.write_videomae,
    "scene/openai/clip-vit-base-patch32": tiny.write_clip,
    "scene/google/vit-base-patch16-224": tiny_images.write_vit,
    "scene/microsoft/resnet-50": tiny_images.write_resnet,
    "scene/facebook/dinov2-large": tiny_images.write_dinov2,
    "facebook/wav2vec2-base-960h": wav2vec,
    "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim": robust_wav2vec,
    "facebook/hubert-base-ls960": hubert,
    "amiriparian/ExHuBERT": large_hubert,
    "MIT/ast-finetuned-audioset-10-10-0.4593": tiny.write_ast,
    "openai/whisper-base": tiny.write_whisper,
    "vggish": small_vggish,
    "google-bert/bert-base-uncased": bert,
    "FacebookAI/roberta-large": roberta,
    "FacebookAI/xlm-roberta-large": xlm_roberta,
    "BAAI/bge-large-en": bert,
    "j-hartmann/emotion-english-distilroberta-base": roberta,
    "michellejieli/emotion_text_classifier": roberta,
    "SamLowe/roberta-base-go_emotions": roberta,
    "jinaai/jina-embeddings-v3": tiny.write_jina,
    "jinaai/jina-embeddings-v4": tiny.write_jina,
}
APART = {"laion-clap/630k-audioset-fusion": test_laion_clap_models.test_it_constructs_and_encodes_from_a_local_cache}
"""Entries whose library fetches files when imported, and the test that runs each in a process of its own."""


def eagle(folder: Path) -> Path:
    """As the published one: a model that transformers does not know, with code and a processor beside its weights."""
    tiny_internvl(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "eagle_chat", "architectures": ["EagleModel"]}
    config["auto_map"] = {"AutoConfig": "modeling_eagle.EagleConfig", "AutoModel": "modeling_eagle.EagleModel"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_eagle.py").write_text(
        "from transformers import InternVLConfig, InternVLForConditionalGeneration\n\n\n"
        "class EagleConfig(InternVLConfig):\n    model_type = 'eagle_chat'\n\n\n"
        "class EagleModel(InternVLForConditionalGeneration):\n    config_class = EagleConfig\n"
    )
    return folder


WRITTEN: Mapping[str, Write] = {
    "openai/whisper-large-v3-turbo": tiny_whisper,
    "Qwen/Qwen2.5-VL-3B-Instruct": tiny_qwen,
    "OpenGVLab/InternVL2_5-4B": tiny_internvl,
    "nvidia/Eagle2-2B": eagle,
    "LanguageBind/Video-LLaVA-7B-hf": tiny_video_llava,
}


@dataclass
class Bench:
    """Tiny checkpoints, each written once, and two clips."""

    home: Path
    clips: tuple[ClipMedia, ClipMedia]

    def folder(self, write: Write) -> Path:
        made = self.home / write.__name__
        if not made.exists():
            return write(made)
        return made if (made / "config.json").exists() else next(iter([*made.glob("weights.pt"), *made.glob("*.pth"),
                                                                     *made.glob("open_clip")]))  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    home = tmp_path_factory.mktemp("bench")
    media = [
        write_media(home / "a.mkv", [scene((20 + shift, 60, 240)) for shift in range(4)], tone(440, 1.2), fps=4),
        write_media(home / "b.mkv", [scene((300, 90, 200), angle=15.0)] * 4, tiny.sound(16_000), fps=4),
    ]
    words = ("Maybe I could stop.", "It is hard to say what would change.")
    first, second = (ClipMedia(media=media[row], text=words[row], description=words[row]) for row in range(2))
    return Bench(home, (first, second))


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vggish, "_CHANNELS", (2, None, 3, None, 4, None, 4, None))
    monkeypatch.setattr(vggish, "_DENSE", (8, 128))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def test_no_entry_is_left_out() -> None:
    embedded = {entry.id for entry in CATALOGUE.values() if entry.family == EMBEDDED}
    assert {*CHECKPOINTS, *APART, *embedded} == set(CATALOGUE)
    assert set(WRITTEN) == set(WRITERS)
    for entry_id, test in APART.items():
        assert entry_id in inspect.getsource(inspect.getmodule(test))  # type: ignore[arg-type]


def encoder_of(bench: Bench, entry_id: str, modality: str) -> Encoder:
    entry = CATALOGUE[entry_id]
    lacking = [name for name in entry.libraries if importlib.util.find_spec(name) is None]
    if lacking and not entry.remote_code:  # the code of the tiny checkpoints needs none
        pytest.skip(f"{', '.join(lacking)} not installed")
    if entry.family == EMBEDDED:
        return create_encoder(entry_id, modality)
    weights = {entry.home: str(bench.folder(CHECKPOINTS[entry_id]))}
    trusted = (entry.home,) if entry.remote_code else ()
    return create_encoder(entry_id, modality, FeaturesConfig(weights=weights, trust_remote_code=trusted))


@pytest.mark.parametrize(
    ("entry_id", "modality"),
    [(entry.id, modality) for entry in CATALOGUE.values() if entry.id not in APART for modality in entry.modalities],
)
def test_it_loads_and_encodes(bench: Bench, entry_id: str, modality: str) -> None:
    encoder = encoder_of(bench, entry_id, modality)
    encoder.load()
    vectors = []
    for rows in encoder.encode(bench.clips):
        assert isinstance(rows, np.ndarray), rows
        assert rows.shape[1] == encoder.width
        assert np.isfinite(rows).all()
        vectors.append(pool(rows, encoder.pooling))
    if not isinstance(encoder, HubEncoder):
        return
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3 * np.abs(vectors[0]).max()
    if encoder.entry.family == "face emotion":  # at full size, slow in float16
        return
    half: Any = encoder_of(bench, entry_id, modality)
    half.dtype = "float16"
    half.load()
    assert half.fingerprint() == encoder.fingerprint()
    for rows, vector in zip(half.encode(bench.clips), vectors, strict=True):
        difference = np.linalg.norm(pool(rows, encoder.pooling) - vector) / np.linalg.norm(vector)
        assert difference < PRECISION_TOLERANCE


@pytest.mark.parametrize("entry_id", WRITERS)
def test_it_loads_and_writes(bench: Bench, entry_id: str) -> None:
    entry = WRITERS[entry_id]
    name = entry.section.removeprefix("features.")
    limits = {} if name == "transcriber" else {"num_frames": 2, "max_new_tokens": 8}
    features = FeaturesConfig.model_validate(
        {
            name: {"model": entry_id, **limits}, "weights": {entry_id: str(bench.folder(WRITTEN[entry_id]))},
            "trust_remote_code": [entry_id] if entry.remote_code else [],
        }
    )  # fmt: skip
    (writer,) = text_writers(features)
    assert (writer.kind, writer.modality) == (entry.writes, entry.reads)
    writer.load()
    for written in writer.write([writer.prepare(clip) for clip in bench.clips]):
        assert isinstance(written, Written), written
        assert written.text
