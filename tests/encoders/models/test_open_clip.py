from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.config import FeaturesConfig
from encoders.creation import CATALOGUE, create_encoder
from encoders.errors import ExtractionError
from encoders.models.open_clip import OpenClipImage
from mmpsr.config import ConfigError
from tests.support.face_scenes import WALL, clip_of, scene
from tests.support.tiny_images import write_twins

TWIN, ENCODER = "openai/clip-vit-base-patch32", "open_clip/ViT-B-32/openai"


def encoder_of(encoder_id: str, folder: Path) -> Any:
    features = FeaturesConfig(weights={CATALOGUE[encoder_id].home: str(folder)})
    return create_encoder(encoder_id, "video", features)


@pytest.mark.slow
def test_both_backends_agree_on_the_same_weights(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    twin, encoder = (
        encoder_of(name, folder) for name, folder in zip((TWIN, ENCODER), write_twins(tmp_path), strict=True)
    )
    assert isinstance(encoder, OpenClipImage)
    assert twin.width == encoder.width == 20
    twin.load()
    encoder.load()
    clips = [(scene((20, 60, 240)), scene((20, 60, 240), (380, 60, 200), tints=(0, 2)), WALL), (WALL,)]
    expected, found = (each.encode([clip_of(*frames) for frames in clips]) for each in (twin, encoder))
    assert [one.shape for one in found] == [(3, 20), (1, 20)]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert np.abs(found[0][0] - found[0][1]).max() > 1e-2
    assert twin.fingerprint() != encoder.fingerprint()


def test_weights_of_another_shape_are_an_error(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    _, folder = write_twins(tmp_path)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 21
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ExtractionError, match=r"'open_clip/ViT-B-32/openai' \(video\).*cannot be loaded"):
        encoder_of(ENCODER, folder).load()


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    _, folder = write_twins(tmp_path)
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ExtractionError, match=r"'open_clip/ViT-B-32/openai' \(video\).*cannot be loaded"):
        encoder_of(ENCODER, folder).load()


def test_a_folder_without_a_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"it must hold open_clip_config\.json and open_clip_model\.safetensors"):
        encoder_of(ENCODER, tmp_path)
