"""CLIP's image tower through open_clip: the same weights give the same embeddings as through transformers (1e-4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from encoders.errors import ExtractionError
from encoders.models.image import ImageEncoder
from mmpsr.config import ConfigError

__all__ = ["OpenClipImage"]

_CONFIG = "open_clip_config.json"


class OpenClipImage(ImageEncoder):
    """CLIP's image tower with its projection, built by open_clip with the quick GELU of OpenAI's weights.

    The projected embeddings are not normalised.

    A local copy is a folder with `open_clip_config.json` and `open_clip_model.safetensors` (or
    `open_clip_pytorch_model.bin`), as open_clip saves them.

    References:
        Ilharco et al., OpenCLIP, 2021, doi:10.5281/zenodo.5143773.
        Radford et al., Learning transferable visual models from natural language supervision, 2021, arXiv:2103.00020.
    """

    def build(self) -> Any:
        """Make the image tower; the text tower is dropped."""
        import open_clip

        folder = self._folder(weights=True)
        try:
            model = open_clip.create_model(f"local-dir:{folder}", force_quick_gelu=True, require_pretrained=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise ExtractionError(
                f"encoder {self.id!r} ({self.modality}): {folder} cannot be loaded: {error}"
            ) from error
        return model.visual

    def model_width(self, model: Any) -> int:
        """Tell the width of the projection."""
        return int(model.output_dim)

    def image_processor(self) -> Any:
        """CLIP's image processor with the size, mean and standard deviation of the weights."""
        from transformers import CLIPImageProcessor

        config = json.loads((self._folder() / _CONFIG).read_text(encoding="utf-8"))
        side, given = config["model_cfg"]["vision_cfg"]["image_size"], config["preprocess_cfg"]
        return CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side},
            image_mean=given["mean"], image_std=given["std"],
        )  # fmt: skip

    def _folder(self, weights: bool = False) -> Path:
        """Tell where the configuration is, and the weights if they are asked for."""
        if self.checkpoint.weights is not None:
            return Path(self.checkpoint.weights)
        if weights:
            self.weights_path()
        return self.checkpoint.file(_CONFIG).parent

    def _local_width(self, weights: Path) -> int:
        try:
            return int(json.loads((weights / _CONFIG).read_text(encoding="utf-8"))["model_cfg"]["embed_dim"])
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f'features.weights."{self.entry.home}": {weights} is not a folder with the weights of {self.id!r}; it '
                f"must hold {_CONFIG} and open_clip_model.safetensors ({type(error).__name__}: {error})"
            ) from None
