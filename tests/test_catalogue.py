from __future__ import annotations

import dataclasses
import importlib
import sys

import pytest

from encoders import catalogue
from encoders.catalogue import CATALOGUE, create_encoder
from encoders.encoder import MODALITIES, Encoder, FeaturesConfig
from mmpsr.config import ConfigError


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))
def test_every_entry_is_what_it_says(entry: catalogue.CatalogueEntry) -> None:
    for modality in entry.modalities:
        assert modality in MODALITIES
        encoder = create_encoder(entry.id, modality)
        assert isinstance(encoder, Encoder)
        assert (encoder.id, encoder.modality, encoder.width) == (entry.id, modality, entry.width)
        assert len(encoder.fingerprint()) == 12
    assert entry.description
    assert entry.citation
    assert entry.licence


def test_the_default_configuration_names_the_catalogue() -> None:
    for modality, encoder_id in FeaturesConfig().encoders.items():
        assert modality in CATALOGUE[encoder_id].modalities


def test_unknown_encoder_names_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"features\.encoders\.video: no encoder is named 'facemesh'; did you mean 'face-mesh'\?"
    ):
        create_encoder("facemesh", "video")


def test_wrong_modality_says_which_are_right() -> None:
    with pytest.raises(
        ConfigError,
        match=r"features\.encoders\.audio: 'minilm' describes text and behavior, not audio; "
        r"audio is described by egemaps",
    ):
        create_encoder("minilm", "audio")


def test_a_width_that_differs_from_the_catalogue_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(CATALOGUE["egemaps"], width=23)
    monkeypatch.setattr(catalogue, "CATALOGUE", {"egemaps": wrong})
    with pytest.raises(ConfigError, match="gives embeddings 25 wide, the catalogue says 23"):
        create_encoder("egemaps", "audio")


def test_no_module_here_hides_an_importable_one() -> None:
    """`accelerate launch encoders/run.py` puts encoders/ first on the path."""
    for name in ("media", "decoding", "frames", "faces", "cues", "face_mesh", "narration", "minilm", "catalogue"):
        assert importlib.util.find_spec(name) is None, name
        assert name not in sys.stdlib_module_names
