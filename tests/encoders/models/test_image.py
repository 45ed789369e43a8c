from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from encoders.config import FacesConfig, FeaturesConfig
from encoders.creation import CATALOGUE, create_encoder
from encoders.errors import ExtractionError, MissingModality
from encoders.face.crops import face_crops
from encoders.media.clip import ClipMedia
from encoders.models import image as image_models
from encoders.models.image import ImageEncoder, VideoMAE
from tests.support.face_scenes import WALL, clip_of, scene
from tests.support.tiny_checkpoints import write_clip
from tests.support.tiny_images import write_dinov2, write_resnet, write_videomae, write_vit

ONE, OTHER, BOTH = scene((20, 60, 240)), scene((380, 60, 200)), scene((20, 60, 240), (380, 60, 240))


def by_vit(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    return model.vit(pixels).last_hidden_state[:, 0]


def by_resnet(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    return model.resnet(pixels).last_hidden_state.mean(dim=(2, 3))


FAMILIES: dict[str, tuple[Callable[[Path], Path], Any, Callable[[Any, torch.Tensor], torch.Tensor], int, int]] = {
    "google/vit-base-patch16-224": (write_vit, transformers.ViTForImageClassification, by_vit, 24, 32),
    "trpakov/vit-face-expression": (write_vit, transformers.ViTForImageClassification, by_vit, 24, 32),
    "dima806/facial_emotions_image_detection": (write_vit, transformers.ViTForImageClassification, by_vit, 24, 32),
    "microsoft/resnet-50": (write_resnet, transformers.ResNetForImageClassification, by_resnet, 20, 64),
    "facebook/dinov2-large": (
        write_dinov2, transformers.Dinov2Model, lambda model, pixels: model(pixels).pooler_output, 24, 64,
    ),
    "openai/clip-vit-base-patch32": (
        write_clip, transformers.CLIPModel,
        lambda model, pixels: model.get_image_features(pixel_values=pixels).pooler_output, 16, 32,
    ),
}  # fmt: skip
"""By id: who writes the checkpoint, the class that reads it independently, how it embeds, width, side of a crop."""


def encoder_of(encoder_id: str, folder: Path, modality: str = "video", **faces: Any) -> ImageEncoder:
    features = FeaturesConfig(weights={CATALOGUE[encoder_id].home: str(folder)}, faces=FacesConfig(**faces))
    encoder = create_encoder(encoder_id, modality, features)
    assert isinstance(encoder, ImageEncoder)
    return encoder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of an encoder's tiny checkpoint, written once."""
    written: dict[Any, Path] = {}

    def folder_of(encoder_id: str) -> Path:
        write = write_videomae if "videomae" in encoder_id else FAMILIES[encoder_id][0]
        if write not in written:
            written[write] = write(tmp_path_factory.mktemp("checkpoint"))
        return written[write]

    return folder_of


def embedded(encoder: ImageEncoder, *clips: ClipMedia) -> list[NDArray[np.float32]]:
    results = encoder.encode(clips)
    assert all(isinstance(result, np.ndarray) for result in results), results
    return results  # type: ignore[return-value]


@pytest.mark.parametrize("encoder_id", FAMILIES)
def test_embeddings_are_those_of_an_independent_call(encoder_id: str, folders: Callable[[str], Path]) -> None:
    _, loader, embed, width, side = FAMILIES[encoder_id]
    folder = folders(encoder_id)
    encoder = encoder_of(encoder_id, folder, align=False, remove_background=False)
    assert encoder.width == width
    encoder.load()
    clip = clip_of(WALL, ONE, BOTH, WALL)
    (found,) = embedded(encoder, clip)

    crops = face_crops(clip, FacesConfig(align=False, remove_background=False), side)
    assert crops is not None
    assert crops.frames.tolist() == [1, 2, 2]
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    pixels = processor(list(crops.pixels), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        faces = embed(loader.from_pretrained(folder).eval(), pixels).numpy()
    expected = np.stack([faces[0], (faces[1] + faces[2]) / 2, (faces[1] + faces[2]) / 2])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.abs(faces[1] - faces[2]).max() > 1e-3


@pytest.mark.parametrize("encoder_id", ["scene/openai/clip-vit-base-patch32", "scene/microsoft/resnet-50"])
def test_scenes_are_whole_frames(encoder_id: str, folders: Callable[[str], Path]) -> None:
    home = encoder_id.removeprefix("scene/")
    folder = folders(home)
    encoder = encoder_of(encoder_id, folder, "behavior")
    encoder.load()
    clip = clip_of(WALL, ONE, OTHER)
    (found,) = embedded(encoder, clip)
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)([WALL, ONE, OTHER], return_tensors="pt")
    with torch.inference_mode():
        expected = FAMILIES[home][2](FAMILIES[home][1].from_pretrained(folder).eval(), pixels["pixel_values"]).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert clip.notes == {}
    assert isinstance(encoder.encode([ClipMedia()])[0], MissingModality)


def test_a_clip_without_a_face_is_seen_whole_and_says_so(folders: Callable[[str], Path]) -> None:
    folder = folders("google/vit-base-patch16-224")
    encoder = encoder_of("google/vit-base-patch16-224", folder)
    encoder.load()
    clip = clip_of(WALL, WALL // 2)
    (found,) = embedded(encoder, clip)
    assert clip.notes == {"google/vit-base-patch16-224": "no face in 2 frames; whole frames used"}
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)([WALL, WALL // 2], return_tensors="pt")
    with torch.inference_mode():
        model = transformers.ViTForImageClassification.from_pretrained(folder).eval()
        expected = by_vit(model, pixels["pixel_values"]).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("encoder_id", ["google/vit-base-patch16-224", "MCG-NJU/videomae-base"])
def test_results_do_not_depend_on_the_batch(
    encoder_id: str, folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(encoder_id, folders(encoder_id))
    encoder.load()
    clips = [(ONE, BOTH, WALL), (WALL,), (OTHER, OTHER, ONE, BOTH, ONE)]
    alone = [embedded(encoder, clip_of(*frames, num_frames=encoder.num_frames))[0] for frames in clips]
    monkeypatch.setattr(image_models, "BATCH_IMAGES", encoder.num_frames * 2 - 1 if "mae" not in encoder_id else 32)
    together = embedded(encoder, *(clip_of(*frames, num_frames=encoder.num_frames) for frames in clips))
    monkeypatch.setattr(image_models, "BATCH_IMAGES", 4 if "mae" not in encoder_id else 16)
    split = embedded(encoder, *(clip_of(*frames, num_frames=encoder.num_frames) for frames in clips))
    for one, other, third in zip(alone, together, split, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
        np.testing.assert_allclose(one, third, atol=1e-5)
    assert [len(one) for one in alone] == ([3, 1, 5] if "mae" not in encoder_id else [8, 8, 8])
    assert encoder.embed([]) == []


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-2), ("bfloat16", 1e-1)])
@pytest.mark.parametrize("encoder_id", ["google/vit-base-patch16-224", "microsoft/resnet-50"])
def test_half_precision(encoder_id: str, dtype: str, tolerance: float, folders: Callable[[str], Path]) -> None:
    full, half = (encoder_of(encoder_id, folders(encoder_id)) for _ in range(2))
    half.dtype = dtype
    full.load()
    half.load()
    prepared = [full.prepare(clip_of(ONE, BOTH, OTHER))]
    (expected,), (found,) = full.embed(prepared), half.embed(prepared)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def test_what_a_worker_sends_is_bytes_and_needs_no_weights(folders: Callable[[str], Path]) -> None:
    prepared = encoder_of("microsoft/resnet-50", folders("microsoft/resnet-50")).prepare(clip_of(ONE, BOTH, WALL))
    assert {name: (array.dtype.name, array.shape) for name, array in prepared.arrays.items()} == {
        "pixels": ("uint8", (3, 3, 56, 56)), "frames": ("int64", (3,)), "shown": ("int64", (3,)),
    }  # fmt: skip
    assert prepared.arrays["shown"].tolist() == [0, 1, 1]
    assert prepared.length == 3
    assert prepared.note is None


def test_videomae_averages_the_picture_at_each_step(folders: Callable[[str], Path]) -> None:
    folder = folders("videomae")
    encoder = encoder_of("MCG-NJU/videomae-base", folder, "video")
    encoder.load()
    frames = [scene((10 * n, 60, 240)) for n in range(16)]
    clip = clip_of(*frames, num_frames=16)
    (found,) = embedded(encoder, clip)
    crops = face_crops(clip, FacesConfig(several_faces="track"), 32, num_frames=16)
    assert crops is not None
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(list(crops.pixels), return_tensors="pt")
    with torch.inference_mode():
        model = transformers.VideoMAEForPreTraining.from_pretrained(folder).eval().videomae
        tokens = model(pixels["pixel_values"]).last_hidden_state[0].numpy()
    # 8 steps of 2 x 2 places: tokens 0 to 3 are the first step's
    expected = np.stack([tokens[4 * step : 4 * step + 4].mean(axis=0) for step in range(8)])
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_videomae_follows_one_person_and_repeats_frames(folders: Callable[[str], Path]) -> None:
    encoder = encoder_of("MCG-NJU/videomae-base", folders("videomae"))
    assert encoder.prepare(clip_of(WALL, ONE, WALL, num_frames=16)).arrays["pixels"].shape == (16, 3, 32, 32)
    assert encoder.settings()["faces"]["several_faces"] == "track"  # type: ignore[index]
    assert encoder.settings()["faces"]["frames"] == 16  # type: ignore[index]
    moving = encoder.prepare(clip_of(WALL, ONE, OTHER, WALL, num_frames=16)).arrays["pixels"]
    assert (moving[0] == moving[15]).all()  # the larger head is another track than the one far away
    # of three frames kept, (k + 1/2) 3 / 16 reaches 1 at k = 5 and 2 at k = 11
    turning = [scene((20, 60, 240), angle=angle) for angle in (0.0, 20.0, 0.0)]
    pictures = encoder.prepare(clip_of(WALL, *turning, num_frames=16)).arrays["pixels"]
    assert [k for k in range(1, 16) if (pictures[k] != pictures[k - 1]).any()] == [5, 11]


def test_the_fingerprint_follows_faces_weights_and_modality(folders: Callable[[str], Path], tmp_path: Path) -> None:
    encoder_id = "openai/clip-vit-base-patch32"
    folder = folders(encoder_id)
    prints = [
        encoder_of(encoder_id, folder).fingerprint(),
        encoder_of(encoder_id, folder, align=False).fingerprint(),
        encoder_of(encoder_id, folder, source="shipped").fingerprint(),
        encoder_of(f"scene/{encoder_id}", folder, "behavior").fingerprint(),
        create_encoder(encoder_id, "video").fingerprint(),
    ]
    assert len(set(prints)) == 5
    scenes = [encoder_of(f"scene/{encoder_id}", folder, "behavior", align=align).fingerprint() for align in (0, 1)]
    assert encoder_of(f"scene/{encoder_id}", folder, "behavior").settings()["view"] == "frames"
    assert scenes[0] == scenes[1]  # whole frames: how faces are cut out does not matter
    assert create_encoder(encoder_id, "video").width == 512


def test_the_source_follows_whether_faces_are_shipped(folders: Callable[[str], Path], tmp_path: Path) -> None:
    encoder_id = "openai/clip-vit-base-patch32"
    detects, ships = (encoder_of(encoder_id, folders(encoder_id), source=source) for source in ("detect", "shipped"))
    row = {"media": None, "start": None, "end": None, "text": None, "description": None}
    there, gone = {**row, "faces": str(tmp_path)}, {**row, "faces": str(tmp_path / "gone")}
    assert detects.source(there) == detects.source(row) == ships.source(row)
    assert len({ships.source(row), ships.source(there), ships.source(gone)}) == 3


def test_another_width_than_promised_is_an_error(folders: Callable[[str], Path]) -> None:
    encoder = encoder_of("microsoft/resnet-50", folders("microsoft/resnet-50"))
    encoder._width = 2048
    with pytest.raises(ExtractionError, match=r"'microsoft/resnet-50' \(video\).*embeddings 20 wide, expected 2048"):
        encoder.load()


def test_the_constructor_is_light() -> None:
    encoder = VideoMAE(dataclasses.replace(CATALOGUE["MCG-NJU/videomae-base"], width=5), "video")
    assert encoder.width == 5
    assert encoder._faces.several_faces == "track"


@pytest.mark.parametrize("encoder_id", ["google/vit-base-patch16-224", "microsoft/resnet-50"])
def test_another_copy_of_the_network_can_be_trained(encoder_id: str, folders: Callable[[str], Path]) -> None:
    encoder = encoder_of(encoder_id, folders(encoder_id), modality="video")
    encoder.load()
    kept = {name: value.clone() for name, value in encoder._model.state_dict().items()}
    side = 32 if "vit" in encoder_id else 56
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, side, side), dtype=np.uint8)
    model = encoder.build_checked().requires_grad_(True)
    embedded = encoder.embed_with(model, torch.from_numpy(pixels))
    np.testing.assert_allclose(embedded.detach().numpy(), encoder._forward(pixels), atol=1e-5)
    embedded.square().sum().backward()
    with_gradient = [each for each in model.parameters() if each.grad is not None and each.grad.abs().max() > 0]
    assert len(with_gradient) > 0.8 * len(list(model.parameters()))
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert not torch.allclose(encoder.embed_with(model, torch.from_numpy(pixels)), embedded)
    assert all(torch.equal(value, kept[name]) for name, value in encoder._model.state_dict().items())
