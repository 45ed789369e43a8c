from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from safetensors.torch import save_file

from encoders.config import FacesConfig, FeaturesConfig
from encoders.creation import CATALOGUE, create_encoder
from encoders.errors import ExtractionError
from encoders.face.crops import face_crops
from encoders.models.emotion_faces import read_tensors
from encoders.models.image import ImageEncoder
from mmpsr.config import ConfigError
from tests.support.face_scenes import clip_of, scene
from tests.support.tiny_images import affectnet_state

AFFECTNET, EFFICIENT = "emo-affect-net", "emotiefflib/enet_b0_8_best_afew"
FRAMES = (scene((20, 60, 240)), scene((20, 60, 240), angle=20.0))


def encoder_of(encoder_id: str, weights: Path) -> ImageEncoder:
    encoder = create_encoder(encoder_id, "video", FeaturesConfig(weights={CATALOGUE[encoder_id].home: str(weights)}))
    assert isinstance(encoder, ImageEncoder)
    return encoder


def crops() -> NDArray[np.uint8]:
    found = face_crops(clip_of(*FRAMES), FacesConfig(), 224)
    assert found is not None
    return found.pixels


def by_torchvision(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The same network from torchvision's: strides moved, padding and names changed."""
    model = torchvision.models.resnet50(num_classes=512)
    model.conv1 = torch.nn.Sequential(torch.nn.ZeroPad2d((2, 3, 2, 3)), torch.nn.Conv2d(3, 64, 7, 2, bias=False))
    model.maxpool = torch.nn.MaxPool2d(3, 2)
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3
    names = {"conv_layer_s2_same": "conv1.1", "batch_norm": "bn", "i_downsample": "downsample", "fc1": "fc"}
    state = {}
    for name, tensor in affectnet_state().items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = tensor
    model.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("fc2")})
    # blue, green, red, less VGGFace2's mean in that order
    values = pixels[..., ::-1].astype(np.float32) - np.array([91.4953, 103.8827, 131.0912], np.float32)
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(np.moveaxis(values, -1, 1).copy())).numpy()


def test_emo_affect_net_is_torchvisions_resnet_with_its_names_and_paddings(tmp_path: Path) -> None:
    torch.save(affectnet_state(), tmp_path / "weights.pt")
    encoder = encoder_of(AFFECTNET, tmp_path / "weights.pt")
    assert encoder.width == 512
    encoder.load()
    (found,) = encoder.encode([clip_of(*FRAMES)])
    expected = by_torchvision(crops())
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fc1.bias": None}, r"lacks 'fc1.bias' and 0 more"),
        ({"fc3.bias": torch.zeros(1)}, r"has unknown 'fc3.bias' and 0 more"),
        (
            {"fc1.weight": torch.zeros(256, 2048), "fc1.bias": torch.zeros(256)},
            r"has another shape in 'fc1.bias' and 1 more",
        ),
    ],
)
def test_a_checkpoint_with_other_names_is_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in {**affectnet_state(), **change}.items() if tensor is not None}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ExtractionError, match=rf"'emo-affect-net' \(video\).*weights\.pt does not hold.*{reason}"):
        encoder_of(AFFECTNET, tmp_path / "weights.pt").load()


def test_counters_of_batch_normalisation_may_be_missing(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in affectnet_state().items() if "num_batches" not in name}
    save_file(state, tmp_path / "weights.safetensors")
    encoder = encoder_of(AFFECTNET, tmp_path / "weights.safetensors")
    encoder.load()
    np.testing.assert_array_equal(encoder._model.fc1.weight.numpy(), state["fc1.weight"].numpy())


def test_local_weights_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a file; the weights of 'emo-affect-net' are one file"):
        encoder_of(AFFECTNET, tmp_path)


@pytest.mark.parametrize("arch", ["tf_efficientnet_b0", "efficientnet_b0"])
def test_emotieff_reads_a_whole_model_as_published(arch: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(arch, num_classes=8).eval()
    model.classifier = torch.nn.Sequential(torch.nn.Linear(1280, 8))
    torch.save(model, tmp_path / "enet.pt")
    encoder = encoder_of(EFFICIENT, tmp_path / "enet.pt")
    assert encoder.width == 1280
    encoder.load()
    (found,) = encoder.encode([clip_of(*FRAMES)])
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    values = torch.from_numpy(np.moveaxis((crops() / 255 - mean) / std, -1, 1)).float()
    with torch.inference_mode():
        expected = model.forward_features(values).mean(dim=(2, 3)).numpy()
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_emotieff_agrees_with_its_library(tmp_path: Path) -> None:
    library = pytest.importorskip("emotiefflib.facial_analysis")
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_b0", num_classes=8).eval()
    save_file(model.state_dict(), tmp_path / "enet.safetensors")
    encoder = encoder_of(EFFICIENT, tmp_path / "enet.safetensors")
    encoder.load()
    (found,) = encoder.encode([clip_of(*FRAMES)])
    recogniser = object.__new__(library.EmotiEffLibRecognizerTorch)  # its constructor fetches weights
    library.EmotiEffLibRecognizerBase.__init__(recogniser, EFFICIENT.partition("/")[2])
    model.classifier = torch.nn.Identity()
    recogniser.model, recogniser.device = model, "cpu"
    expected = recogniser.extract_features(list(crops()))
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


class Harmful:
    def __init__(self, flag: str) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.flag,)


class Shout:
    def __init__(self, flag: str) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return make_folder, (self.flag,)


def make_folder(flag: str) -> str:
    os.mkdir(flag)
    return flag


@pytest.mark.parametrize("kind", [Harmful, Shout])
def test_nothing_in_a_checkpoint_runs(kind: Any, tmp_path: Path) -> None:
    flag = tmp_path / "it ran"
    torch.save({"a": torch.zeros(1), "b": kind(str(flag))}, tmp_path / "weights.pt")
    with pytest.raises(ExtractionError, match=r"weights\.pt (is no checkpoint that can be read|holds a dict)"):
        read_tensors(tmp_path / "weights.pt")
    assert not flag.exists()


def test_tensors_of_a_whole_model_have_its_names(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False), torch.nn.BatchNorm1d(3))
    torch.save(model, tmp_path / "model.pt")
    tensors, classes = read_tensors(tmp_path / "model.pt")
    assert tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in model.state_dict().items())
    assert {"torch.nn.modules.container.Sequential", "torch.nn.modules.linear.Linear"} <= set(classes)


@pytest.mark.parametrize(("name", "content"), [("a.pt", b"garbage"), ("a.pt", b""), ("a.safetensors", b"garbage")])
def test_what_is_no_checkpoint_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExtractionError, match=rf"{name} is no checkpoint that can be read: "):
        read_tensors(tmp_path / name)
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(ExtractionError, match=r"list\.pt holds a list, expected tensors by name or a whole model"):
        read_tensors(tmp_path / "list.pt")


def test_weights_that_cannot_be_fetched_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("encoders.catalogue.checkpoint.is_offline", lambda: True)
    entry = dataclasses.replace(CATALOGUE[EFFICIENT], libraries=())
    from encoders.models.emotion_faces import EmotiEff

    pytest.importorskip("timm")
    with pytest.raises(ExtractionError, match=r"about 17 MB.*HF_HUB_OFFLINE.*features\.weights"):
        EmotiEff(entry, "video").load()
