"""Image encoders from a hub: an embedding per frame, of the faces in it or of the whole frame.

For `video` they see face crops (`encoders.face.crops`), for `behavior` whole frames. A clip without any face is seen
whole, and a note says so. Pictures are resized and cut by the weights' own image processor as bytes in the workers;
the same processor's scaling and normalisation follow on the device (equal to the processor alone within 1e-5).

Shape legend: K pictures, T frames kept, C channels, S side of a picture in pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.base import TimedForm, Watcher
from encoders.catalogue.entry import CatalogueEntry
from encoders.config import FacesConfig
from encoders.device import Prepared
from encoders.face.crops import NUM_FRAMES, FaceCrops, average_faces, crop_settings, face_crops, shipped_faces
from encoders.face.landmarks import face_frames, face_settings
from encoders.face.watching import CropWatcher, no_face_note, shipped_in_time
from encoders.media.clip import ClipMedia
from encoders.media.frames import LONGEST_SIDE
from encoders.models.hub import HubEncoder
from encoders.timed import MEASURED, Grid, Timed
from mmpsr.files import sha256_of

__all__ = ["BATCH_IMAGES", "ClipImage", "ImageBackbone", "ImageEncoder", "ResNet", "VideoMAE"]

BATCH_IMAGES = 64
"""Most pictures in one forward pass."""


class FrameWatcher:
    """Whole frames as a model's image processor makes them.

    Args:
        picture: makes `[C, S, S]` of a frame.
        sampling: see `encoders.base.Watcher`.
    """

    def __init__(self, picture: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], sampling: tuple[int, bool]) -> None:
        self.sampling = sampling
        self.pictures: list[NDArray[np.uint8]] = []
        self._picture = picture

    def see(self, frame: NDArray[np.uint8]) -> None:
        """Keep the frame, resized."""
        self.pictures.append(self._picture(frame))


class ImageEncoder(HubEncoder):
    """What image encoders share: pictures of a clip, batches over clips, faces of a frame averaged.

    What else is in a batch changes a result by rounding only (1e-5 in float32; relative to the largest value 1e-2 in
    float16, 1e-1 in bfloat16).

    Args:
        entry: of the catalogue.
        modality: `video` sees faces, `behavior` whole frames.
        weights: local copy of the weights, or None.
        faces: which faces, and how they are cut out.
    """

    num_frames: ClassVar[int] = NUM_FRAMES
    """Frames read per clip, uniformly spaced."""
    follows_length: ClassVar[bool] = True
    """Whether a longer clip is given more frames, see `face_frames`."""
    timed_form: TimedForm | None = "pictures"

    def __init__(
        self, entry: CatalogueEntry, modality: str, weights: str | None = None, *, faces: FacesConfig | None = None
    ) -> None:
        super().__init__(entry, modality, weights)
        self._faces = faces or FacesConfig()

    def images_to_embeddings(self, pixels: Any) -> Any:
        """Embed normalised pictures `[N, C, S, S]` as `[N, width]`, both on the device; the model may do just that."""
        return self._model(pixels)

    def embed_with(self, model: Any, pixels: Any) -> Any:
        """Embed prepared pictures by another model of `build_checked`, with gradients, so that it can be trained.

        Args:
            model: in float32, on the device of the pictures.
            pixels: uint8 `[N, C, S, S]`, a tensor, as `prepare` makes them.

        Returns:
            `[N, width]`.
        """
        own = copy.copy(self)
        own._model, own.device, own.dtype = model, str(pixels.device), "float32"
        return own.images_to_embeddings(own._normalised(pixels))

    def image_processor(self) -> Any:
        """Make the weights' image processor, of transformers."""
        from transformers import AutoImageProcessor

        return self.processor(AutoImageProcessor)

    def preprocessing(self) -> Mapping[str, object]:
        """Tell what is seen: the settings of the faces, or whole frames."""
        if self.modality == "video":
            return {"view": "faces", "faces": crop_settings(self._faces, self.num_frames)}
        return {
            "view": "frames", "frames": self.num_frames, "sampling": "midpoints", "longest_side": LONGEST_SIDE,
            "period": face_settings()["period"], "upright": face_settings()["upright"],
        }  # fmt: skip

    def source(self, clip: Mapping[str, Any]) -> str:
        """Hash what every video has, and whether face pictures that the corpus ships are used."""
        source, folder = super().source(clip), clip.get("faces")
        if self.modality != "video" or self._faces.source != "shipped" or not isinstance(folder, str):
            return source
        return sha256_of(f"{source} shipped {Path(folder).is_dir()}")[:12]

    def prepare(self, clip: ClipMedia) -> Prepared:
        """Prepare pictures `pixels` `[K, C, S, S]` as bytes, `frames` `[K]` and `shown` `[T]` as in `FaceCrops`."""
        processor = self._processor
        crops, note = None, None
        if self.modality == "video":
            crops = face_crops(clip, self._faces, _side(processor), self.num_frames, self.follows_length)
        if crops is None:
            frames = face_frames(clip, self.num_frames, self.follows_length)[0]
            crops = FaceCrops(frames, np.arange(len(frames)), np.arange(len(frames)))
            note = f"no face in {len(frames)} frames; whole frames used" if self.modality == "video" else None
        images = self._processed(crops.pixels)
        return Prepared({"pixels": images, "frames": crops.frames, "shown": crops.shown}, len(crops.pixels), note)

    def _processed(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and cut pictures `[K, H, W, 3]` to `[K, C, S, S]`."""
        made = self._processor(
            list(pixels.copy()),  # frames that encoders share are read-only, of which torch warns
            do_rescale=False, do_normalize=False, input_data_format="channels_last", return_tensors="np",
        )  # fmt: skip
        images = np.asarray(made["pixel_values"])  # from one array, a list, or one video `[1, K, C, S, S]`
        return np.ascontiguousarray(images.reshape(-1, *images.shape[-3:]), dtype=np.uint8)

    def timed_settings(self) -> Mapping[str, object]:
        """Tell which frames are looked at, and what stands where there is no face."""
        missing = {"missing": "repeat last, none before the first"} if self.modality == "video" else {}
        return {"frames": "every", **missing}

    def watcher(self, clip: ClipMedia) -> Watcher | None:
        """Cut the faces out of every frame, or keep whole frames; shipped face pictures need no frames."""
        sampling = self.num_frames, self.follows_length
        if self.modality != "video":
            return FrameWatcher(lambda frame: self._processed(frame[None])[0], sampling)
        if self._faces.source == "shipped" and shipped_faces(clip):
            return None
        return CropWatcher(self._faces, _side(self._processor), sampling)

    def prepare_timed(
        self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False
    ) -> Prepared:
        """Prepare pictures as `prepare`, of every frame, with its states `state` `[T]`; `pixels` is empty without any.

        `shown` is `[T]`; what it names where the state is `NONE` is not used.
        """
        if isinstance(watcher, FrameWatcher):
            every = np.arange(len(watcher.pictures))
            arrays = {"pixels": np.stack(watcher.pictures), "frames": every, "shown": grid.of_pictures(every)}
            arrays["state"] = np.full(grid.length, MEASURED, dtype=np.int8)
            return Prepared(arrays, len(every), None, grid)
        if isinstance(watcher, CropWatcher):
            crops, state = watcher.crops(grid)
        else:
            shipped = shipped_in_time(clip, grid, _side(self._processor))
            assert shipped is not None, "a clip without a watcher has shipped pictures"
            crops, state = shipped
        if crops is None:
            return Prepared({"state": state}, 0, no_face_note(state), grid)
        parts = [crops.pixels[first : first + BATCH_IMAGES] for first in range(0, len(crops.pixels), BATCH_IMAGES)]
        arrays = {"pixels": np.concatenate([self._processed(part) for part in parts])}
        arrays |= {"frames": crops.frames, "shown": crops.shown, "state": state}
        return Prepared(arrays, len(crops.pixels), no_face_note(state), grid)

    def embed_timed(self, inputs: Sequence[Prepared], grids: Sequence[Grid]) -> list[Timed]:
        """Compute the embedding of every frame, averaged over its faces."""
        embedded = iter(self.embed([clip for clip in inputs if clip.length]))
        results = []
        for clip, grid in zip(inputs, grids, strict=True):
            if clip.length:
                results.append(Timed.on(grid, next(embedded), clip.arrays["state"]))
            else:
                results.append(Timed.nothing(grid, self.width))
        return results

    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        """Compute embeddings `[T, width]` of each clip's frames."""
        if not inputs:
            return []
        pixels = np.concatenate([clip.arrays["pixels"] for clip in inputs])
        parts = [self._forward(pixels[first : first + BATCH_IMAGES]) for first in range(0, len(pixels), BATCH_IMAGES)]
        clips = np.split(np.concatenate(parts), np.cumsum([clip.length for clip in inputs])[:-1])
        return [
            average_faces(embeddings, FaceCrops(clip.arrays["pixels"], clip.arrays["frames"], clip.arrays["shown"]))
            for embeddings, clip in zip(clips, inputs, strict=True)
        ]

    def _forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            embeddings = self.images_to_embeddings(self._normalised(torch.from_numpy(pixels).to(self.device)))
        return np.asarray(embeddings.float().cpu().numpy(), dtype=np.float32)

    def _normalised(self, pixels: Any) -> Any:
        """Scale and normalise pictures `[..., C, S, S]`, a tensor on the device, as the image processor says."""
        import torch

        processor = self._processor
        values = pixels.float()
        if processor.do_rescale:
            values = values * processor.rescale_factor
        if processor.do_normalize:
            mean, std = (
                torch.tensor(given, device=self.device) for given in (processor.image_mean, processor.image_std)
            )
            values = (values - mean[:, None, None]) / std[:, None, None]
        return values.to(getattr(torch, self.dtype))

    @cached_property
    def _processor(self) -> Any:
        return self.image_processor()


class ImageBackbone(ImageEncoder):
    """ViT and its fine-tuned variants, DINOv2: the class token of the last hidden state, after the final norm.

    References:
        Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021, arXiv:2010.11929.
        Oquab et al., DINOv2, 2023, arXiv:2304.07193.
    """

    def images_to_embeddings(self, pixels: Any) -> Any:
        """Compute the class tokens."""
        return self._model(pixel_values=pixels).last_hidden_state[:, 0]


class ResNet(ImageEncoder):
    """ResNet: the last feature map averaged over its places.

    References:
        He et al., Deep residual learning for image recognition, CVPR 2016, arXiv:1512.03385.
    """

    config_width: ClassVar[tuple[str, ...]] = ("hidden_sizes",)

    def images_to_embeddings(self, pixels: Any) -> Any:
        """Compute the averaged feature maps."""
        return self._model(pixel_values=pixels).pooler_output.flatten(1)


class ClipImage(ImageEncoder):
    """CLIP's image tower, projected into the space it shares with text.

    References:
        Radford et al., Learning transferable visual models from natural language supervision, 2021, arXiv:2103.00020.
    """

    config_width: ClassVar[tuple[str, ...]] = ("projection_dim",)

    def build(self) -> Any:
        """Make the image tower and its projection."""
        from transformers import AutoConfig, CLIPVisionModelWithProjection

        config = self.checkpoint.open(AutoConfig)
        tower = config.vision_config
        tower.projection_dim = config.projection_dim
        return self.checkpoint.open_model(CLIPVisionModelWithProjection, config=tower)

    def images_to_embeddings(self, pixels: Any) -> Any:
        """Compute the projected embeddings, not normalised."""
        return self._model(pixel_values=pixels).image_embeds


class VideoMAE(ImageEncoder):
    """VideoMAE over 16 frames: its tokens averaged over the picture at each step of two frames, 8 steps a clip.

    The frames are of one person, the one seen most, whatever is set for several faces. Where fewer than 16 frames are
    kept, frames are repeated so that they stay evenly spaced.

    References:
        Tong et al., VideoMAE, NeurIPS 2022, arXiv:2203.12602.
    """

    num_frames: ClassVar[int] = 16
    follows_length: ClassVar[bool] = False
    timed_form: TimedForm | None = None  # it sees a clip as a whole

    def __init__(
        self, entry: CatalogueEntry, modality: str, weights: str | None = None, *, faces: FacesConfig | None = None
    ) -> None:
        one_person = (faces or FacesConfig()).model_copy(update={"several_faces": "track"})
        super().__init__(entry, modality, weights, faces=one_person)

    def prepare(self, clip: ClipMedia) -> Prepared:
        """Prepare pictures `pixels` `[16, C, S, S]` as bytes."""
        made = super().prepare(clip)
        shown = np.searchsorted(made.arrays["frames"], made.arrays["shown"])
        taken = shown[((np.arange(self.num_frames) + 0.5) * len(shown) / self.num_frames).astype(int)]
        return Prepared({"pixels": made.arrays["pixels"][taken]}, self.num_frames, made.note)

    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        """Compute embeddings `[8, width]` of each clip."""
        step = BATCH_IMAGES // self.num_frames
        results: list[NDArray[np.float32]] = []
        for first in range(0, len(inputs), step):
            results += list(self._forward(np.stack([clip.arrays["pixels"] for clip in inputs[first : first + step]])))
        return results

    def images_to_embeddings(self, pixels: Any) -> Any:
        """Compute tokens `[N, steps * places, width]`, ordered by step, averaged over places."""
        tokens = self._model(pixel_values=pixels).last_hidden_state
        steps = self.num_frames // self._model.config.tubelet_size
        return tokens.unflatten(1, (steps, -1)).mean(dim=2)


def _side(processor: Any) -> int:
    """Side of the square that an image processor resizes a square picture to, before it cuts out the middle."""
    side = int(processor.size.get("shortest_edge") or processor.size["height"])
    share = getattr(processor, "crop_pct", None)
    return int(side / share) if share and side < _NO_CROP else side


_NO_CROP = 384  # from this side on, processors with `crop_pct` cut nothing off
