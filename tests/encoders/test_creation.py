from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest

from encoders import creation as catalogue
from encoders.base import Encoder
from encoders.catalogue.entries import ENTRIES
from encoders.catalogue.entry import EMBEDDED, CatalogueEntry
from encoders.config import MODALITIES, DescriberConfig, FeaturesConfig, TranscriberConfig
from encoders.creation import CATALOGUE, WRITERS, create_encoder, writer_checkpoint
from mmpsr.config import ConfigError

TRUSTING = FeaturesConfig(trust_remote_code=tuple(entry.home for entry in ENTRIES if entry.remote_code))

# the list of published encoders, with the width before mean and standard deviation double it
PUBLISHED = {
    "video": {
        "openai/clip-vit-base-patch32": 512, "open_clip/ViT-B-32/openai": 512, "google/vit-base-patch16-224": 768,
        "microsoft/resnet-50": 2048, "facebook/dinov2-large": 1024, "trpakov/vit-face-expression": 768,
        "dima806/facial_emotions_image_detection": 768, "emo-affect-net": 512, "emotiefflib/enet_b0_8_best_afew": 1280,
        "MCG-NJU/videomae-base": 768, "face-mesh": 58,
    },
    "audio": {
        "laion/clap-htsat-fused": 768, "laion-clap/630k-audioset-fusion": 768, "openai/whisper-base": 512,
        "MIT/ast-finetuned-audioset-10-10-0.4593": 768, "facebook/wav2vec2-base-960h": 768,
        "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim": 1024, "amiriparian/ExHuBERT": 1024,
        "facebook/hubert-base-ls960": 768, "vggish": 128, "egemaps": 25,
    },
    "text": {
        "laion/clap-htsat-fused": 768, "openai/clip-vit-base-patch32": 512, "jinaai/jina-embeddings-v3": 1024,
        "jinaai/jina-embeddings-v4": 2048, "BAAI/bge-large-en": 1024, "FacebookAI/roberta-large": 1024,
        "FacebookAI/xlm-roberta-large": 1024, "j-hartmann/emotion-english-distilroberta-base": 768,
        "michellejieli/emotion_text_classifier": 768, "SamLowe/roberta-base-go_emotions": 768,
        "google-bert/bert-base-uncased": 768, "laion-clap/630k-audioset-fusion": 768, "minilm": 384,
        "minilm-layers": 384, "minilm-context": 384, "lexica": 26, "empath": 194, "stylometry": 15,
    },
}  # fmt: skip
PUBLISHED["behavior"] = {
    **{name: width for name, width in PUBLISHED["text"].items() if name != "minilm-context"},
    "cue-narrative": 384, "scene/openai/clip-vit-base-patch32": 512, "scene/google/vit-base-patch16-224": 768,
    "scene/microsoft/resnet-50": 2048, "scene/facebook/dinov2-large": 1024,
}  # fmt: skip


def test_it_holds_every_published_encoder() -> None:
    found = {
        modality: {entry.id: entry.width for entry in ENTRIES if modality in entry.modalities}
        for modality in MODALITIES
    }
    assert found == PUBLISHED
    assert len({entry.id for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))
def test_every_entry_is_what_it_says(entry: CatalogueEntry) -> None:
    for modality in entry.modalities:
        assert modality in MODALITIES
        encoder = create_encoder(entry.id, modality, TRUSTING)
        assert isinstance(encoder, Encoder)
        assert (encoder.id, encoder.modality, encoder.width) == (entry.id, modality, entry.width)
        assert len(encoder.fingerprint()) == 12
        if modality == "audio":
            assert entry.rate in (16_000, 48_000)
    for text in (entry.description, entry.citation, entry.licence, entry.family, entry.pooling):
        assert text
    if entry.family != EMBEDDED:
        assert entry.download_mb > 10


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.family != EMBEDDED], ids=lambda entry: entry.id)
def test_weights_of_a_hub_have_a_home_and_a_revision(entry: CatalogueEntry) -> None:
    if entry.address is not None:
        assert entry.revision is None
        assert entry.home == entry.id
        return
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.home)
    assert re.fullmatch(r"main|[0-9a-f]{40}", str(entry.revision))


def test_writers_are_what_configurations_name() -> None:
    assert set(WRITERS) == {
        "openai/whisper-large-v3-turbo", "Qwen/Qwen2.5-VL-3B-Instruct", "OpenGVLab/InternVL2_5-4B", "nvidia/Eagle2-2B",
        "LanguageBind/Video-LLaVA-7B-hf",
    }  # fmt: skip
    assert not set(WRITERS) & set(CATALOGUE)
    assert TranscriberConfig().model in WRITERS
    assert DescriberConfig().model in WRITERS
    for entry in WRITERS.values():
        assert (entry.section, entry.reads, entry.writes) in {
            ("features.transcriber", "audio", "transcript"), ("features.describer", "video", "description"),
        }  # fmt: skip
        assert re.fullmatch(r"main|[0-9a-f]{40}", str(entry.revision))
        assert entry.citation
        assert entry.licence
        assert entry.download_mb > 1000


def test_a_foreign_repository_is_refused_before_anything_is_fetched() -> None:
    name = "OpenGVLab/InternVL2_5-4B"
    with pytest.raises(ConfigError, match=rf"features\.describer: the repository {name} is not laid out for transfor"):
        writer_checkpoint("features.describer", name, None, FeaturesConfig())
    described = DescriberConfig(model=name)
    found = writer_checkpoint(
        "features.describer", name, None, FeaturesConfig(describer=described, weights={name: "converted"})
    )
    assert (found.weights, found.download_mb) == ("converted", 7430)


def test_scenes_share_the_weights_of_faces() -> None:
    scene = CATALOGUE["scene/openai/clip-vit-base-patch32"]
    assert scene.home == "openai/clip-vit-base-patch32"
    assert scene.revision == CATALOGUE["openai/clip-vit-base-patch32"].revision
    assert scene.factory_of("behavior") == CATALOGUE["openai/clip-vit-base-patch32"].factory_of("video")


def test_no_two_encoders_share_a_fingerprint() -> None:
    prints = [
        create_encoder(entry.id, modality, TRUSTING).fingerprint() for entry in ENTRIES for modality in entry.modalities
    ]
    assert len(set(prints)) == len(prints)


def test_importing_the_catalogue_imports_no_encoder() -> None:
    program = (
        "import sys, encoders.creation; "
        "heavy = 'torch', 'transformers', 'encoders.models.hub', 'mediapipe'; "
        "raise SystemExit(any(name in sys.modules for name in heavy))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_default_configuration_names_the_catalogue() -> None:
    for modality, encoder_id in FeaturesConfig().encoders.items():
        assert modality in CATALOGUE[encoder_id].modalities


def test_unknown_encoder_names_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"features\.encoders\.video: no encoder is named 'facemesh'; did you mean 'face-mesh'\?"
    ):
        create_encoder("facemesh", "video")
    with pytest.raises(ConfigError, match=r"did you mean 'openai/clip-vit-base-patch32'\?"):
        create_encoder("openai/clip-vit-base-patch-32", "video")


def test_wrong_modality_says_which_are_right() -> None:
    with pytest.raises(
        ConfigError,
        match=r"features\.encoders\.audio: 'minilm' describes text and behavior, not audio; "
        r"audio is described by egemaps, laion/clap-htsat-fused",
    ):
        create_encoder("minilm", "audio")


def test_a_width_that_differs_from_the_catalogue_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(CATALOGUE["egemaps"], width=23)
    monkeypatch.setattr(catalogue, "CATALOGUE", {"egemaps": wrong})
    with pytest.raises(ConfigError, match="gives embeddings 25 wide, the catalogue says 23"):
        create_encoder("egemaps", "audio")
