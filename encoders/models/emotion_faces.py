"""Face encoders tuned to emotion whose weights are one file: EmoAffectNet and EmotiEffLib's EfficientNet.

Both files are PyTorch checkpoints. Only tensors are read from them: nothing that a file names is imported or called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from encoders.errors import ExtractionError
from encoders.models.image import ImageEncoder

__all__ = ["EmoAffectNet", "EmotiEff", "affectnet_resnet", "read_tensors"]

_COUNTER = "num_batches_tracked"  # of batch normalisation; plays no part in embeddings


class _SingleFile(ImageEncoder):
    """Weights in one file, put into a model whose tensors must have exactly the file's names and shapes."""

    config_width: ClassVar[tuple[str, ...] | None] = None
    scaling: ClassVar[Mapping[str, Any]]
    """How pictures are resized to 224 x 224 and normalised, as `ViTImageProcessor` takes it."""

    def image_processor(self) -> Any:
        """Make the image processor of the published weights."""
        from transformers import ViTImageProcessor

        return ViTImageProcessor(size={"height": 224, "width": 224}, **self.scaling)

    def model_width(self, model: Any) -> int:
        """Tell the width of the embeddings."""
        return int(model.num_features)

    def filled(self, model: Any, tensors: Mapping[str, Any], unused: tuple[str, ...]) -> Any:
        """Fill a model with the tensors of a file, less those whose names start with one of `unused`.

        Raises:
            ExtractionError: tensors are missing, left over, or have other shapes.
        """
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(unused)}
        given, wanted = (
            {name: tensor for name, tensor in state.items() if not name.endswith(_COUNTER)}
            for state in (kept, model.state_dict())
        )
        faults = {
            "lacks": wanted.keys() - given.keys(),
            "has unknown": given.keys() - wanted.keys(),
            "has another shape in": {n for n in wanted.keys() & given.keys() if wanted[n].shape != given[n].shape},
        }
        if any(faults.values()):
            reasons = [f"{what} {min(names)!r} and {len(names) - 1} more" for what, names in faults.items() if names]
            raise ExtractionError(
                f"encoder {self.id!r} ({self.modality}): {self.weights_path()} does not hold its weights: it "
                f"{', '.join(reasons)}"
            )
        model.load_state_dict(given, strict=False)
        return model


class EmoAffectNet(_SingleFile):
    """ResNet-50 tuned from VGGFace2 to AffectNet: the 512 values of its first linear layer, before the ReLU.

    The file is the state dictionary that the authors publish (`FER_static_ResNet50_AffectNet.pt`), whose names are
    those of `affectnet_resnet`: the stem `conv_layer_s2_same` and `batch_norm1`, blocks `layer1.0` to `layer4.2` of
    `conv1` to `conv3`, `batch_norm1` to `batch_norm3` and, where the shape changes, `i_downsample.0` and `.1`, then
    `fc1` (2048 -> 512) and the classifier `fc2`, which is left out. All names are checked.

    Pictures are 224 x 224 by nearest neighbour, blue first, less the mean of VGGFace2, not scaled.

    References:
        Ryumina et al., In search of a robust facial expressions recognition model, Neurocomputing 2022,
        doi:10.1016/j.neucom.2022.10.013.
    """

    scaling: ClassVar[Mapping[str, Any]] = {  # the mean is red first; `images_to_embeddings` reverses it
        "resample": 0, "do_rescale": False, "image_mean": [131.0912, 103.8827, 91.4953], "image_std": [1.0, 1.0, 1.0],
    }  # fmt: skip

    def build(self) -> Any:
        """Make the network without its classifier."""
        return self.filled(affectnet_resnet(), read_tensors(self.weights_path())[0], unused=("fc2.",))

    def images_to_embeddings(self, pixels: Any) -> Any:
        """Compute embeddings of pictures whose channels are red, green, blue."""
        return self._model(pixels.flip(1))


class EmotiEff(_SingleFile):
    """EfficientNet-B0 tuned to emotion: its 1280 averaged features before the classifier.

    The file is the whole model that the authors publish, a state dictionary, or safetensors; the architecture is
    timm's. Pictures are 224 x 224, bilinear, with the mean and standard deviation of ImageNet.

    References:
        Savchenko, HSEmotion / EmotiEffLib; Video-based frame-level facial analysis, 2022, arXiv:2203.13436.
    """

    scaling: ClassVar[Mapping[str, Any]] = {
        "resample": 2, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }  # fmt: skip

    def build(self) -> Any:
        """Make the network without its classifier."""
        import timm

        tensors, classes = read_tensors(self.weights_path())
        plain = classes and not any(name.endswith(".Conv2dSame") for name in classes)
        model = timm.create_model("efficientnet_b0" if plain else "tf_efficientnet_b0", num_classes=0)
        return self.filled(model, tensors, unused=("classifier.",))


def affectnet_resnet() -> Any:
    """Make ResNet-50 as it was carried over from TensorFlow, up to a linear layer of 512: a `torch.nn.Module`.

    Unlike torchvision's: the stem pads 2 before and 3 behind, its pooling does not pad, strides are in the first
    convolution of a block, and normalisation adds 0.001.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    def norm(channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=1e-3)

    class Block(nn.Module):
        def __init__(self, channels_in: int, channels: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.batch_norm1 = norm(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.batch_norm2 = norm(channels)
            self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
            self.batch_norm3 = norm(4 * channels)
            shortcut = (nn.Conv2d(channels_in, 4 * channels, 1, stride, bias=False), norm(4 * channels))
            self.i_downsample = nn.Sequential(*shortcut) if channels_in != 4 * channels else nn.Sequential()

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            inner = functional.relu(self.batch_norm1(self.conv1(maps)))
            inner = functional.relu(self.batch_norm2(self.conv2(inner)))
            return functional.relu(self.batch_norm3(self.conv3(inner)) + self.i_downsample(maps))

    class Network(nn.Module):
        num_features = 512

        def __init__(self) -> None:
            super().__init__()
            self.conv_layer_s2_same = nn.Conv2d(3, 64, 7, stride=2, bias=False)
            self.batch_norm1 = norm(64)
            channels_in = 64
            for stage, (num_blocks, channels) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
                strides = [1 if stage == 1 else 2] + [1] * (num_blocks - 1)
                blocks = []
                for stride in strides:
                    blocks.append(Block(channels_in, channels, stride))
                    channels_in = 4 * channels
                self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            self.fc1 = nn.Linear(2048, self.num_features)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            maps = self.conv_layer_s2_same(functional.pad(pixels, (2, 3, 2, 3)))
            maps = functional.max_pool2d(functional.relu(self.batch_norm1(maps)), 3, stride=2)
            for stage in range(1, 5):
                maps = self.get_submodule(f"layer{stage}")(maps)
            return self.fc1(maps.mean(dim=(2, 3)))

    return Network()


def read_tensors(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Tensors by name from safetensors, a saved state dictionary or a saved whole model.

    Of a whole model only the tensors are read: every class or function the file names becomes an empty shell.

    Returns:
        The tensors, and the names of the classes and functions that the file names besides torch's own data types.

    Raises:
        ExtractionError: the file is none of these.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path), []
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        with torch.serialization.safe_globals([(_Shell, name) for name in foreign]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file may raise anything
        first = str(error).partition("\n")[0]
        raise ExtractionError(f"{path} is no checkpoint that can be read: {type(error).__name__}: {first}") from error
    loaded = dict(_named_tensors(loaded)) if isinstance(loaded, _Shell) else loaded
    if not isinstance(loaded, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in loaded.values()):
        raise ExtractionError(f"{path} holds a {type(loaded).__name__}, expected tensors by name or a whole model")
    return loaded, sorted(foreign)


class _Shell:
    """What stands for an object of a class that is not to be imported: its attributes and nothing else."""

    def __new__(cls, *_: Any, **__: Any) -> _Shell:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def _named_tensors(module: _Shell, prefix: str = "") -> Iterator[tuple[str, Any]]:
    attributes = vars(module)
    for kind in ("_parameters", "_buffers"):
        for name, tensor in (attributes.get(kind) or {}).items():
            if tensor is not None:
                yield prefix + name, tensor.detach()
    for name, child in (attributes.get("_modules") or {}).items():
        if isinstance(child, _Shell):
            yield from _named_tensors(child, f"{prefix}{name}.")
