"""Encoders whose weights come from a hub or from a local copy, see `encoders.catalogue.checkpoint`.

Precision. What a model computes in float32 and in float16 shares a fingerprint: the two vectors of a clip differ by
less than `PRECISION_TOLERANCE` of their length (0.07 to 0.18 % with the trained weights of all-MiniLM-L6-v2, where two
clips differ by 60 % and more), so a store that a GPU filled can be read, and continued, where there is none. bfloat16
keeps 8 bits of a number where float16 keeps 11; its vectors differ eight times as much (0.6 to 1.4 %), so it is part of
the settings and its vectors lie apart. As `features.precision = "auto"` never chooses bfloat16, the fingerprint is
known before the device is.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from encoders.catalogue.checkpoint import Checkpoint, weights_digest
from encoders.catalogue.entry import CatalogueEntry
from encoders.device import DeviceEncoder
from encoders.errors import ExtractionError
from mmpsr.config import ConfigError

__all__ = ["PRECISION_TOLERANCE", "HubEncoder", "batches", "padded"]

PRECISION_TOLERANCE = 0.01
"""Most by which a clip's vector in float16 may differ from that in float32, as a share of its Euclidean length."""
_LOADED: WeakValueDictionary[tuple[object, ...], Any] = WeakValueDictionary()
"""Models in use, by class of encoder, weights, device and precision: one that serves two modalities is loaded once."""


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Sort positions by length into batches whose padded size (clips times longest) stays within a budget.

    What exceeds the budget alone is a batch of its own.

    Example:
        >>> list(batches([3, 1, 9, 2], budget=6))
        [[1, 3], [0], [2]]
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and (len(batch) + 1) * lengths[index] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded(rows: Sequence[Any], padding: int = 0) -> tuple[Any, Any]:
    """Pad B rows of numbers to one tensor `[B, longest]`; the mask `[B, longest]` is 1 where a row is.

    Example:
        >>> values, mask = padded([[5, 6], [7]])
        >>> values.tolist(), mask.tolist()
        ([[5, 6], [7, 0]], [[1, 1], [1, 0]])
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    tensors = [torch.as_tensor(row) for row in rows]
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in tensors], batch_first=True)
    return pad_sequence(tensors, batch_first=True, padding_value=padding), mask


class HubEncoder(DeviceEncoder):
    """An encoder of the catalogue with weights from a hub.

    Subclasses name or build the model, say where its configuration tells the width, and prepare and embed clips.

    Args:
        entry: of the catalogue.
        modality: what it shall describe.
        weights: local copy used in place of the hub, or None: a folder as `save_pretrained` writes it, or a file
            where the encoder's weights are one file.

    Raises:
        ConfigError: the local copy is not there.
    """

    architecture: ClassVar[str] = "AutoModel"
    """Class of transformers that the weights are of; `AutoModel` is the model without its heads."""
    part: ClassVar[str | None] = None
    """Attribute of that model which embeds; None is the whole of it."""
    config_width: ClassVar[tuple[str, ...] | None] = ("hidden_size",)
    """Where `config.json` of a local copy tells the width; None where weights are one file of a fixed width."""

    def __init__(self, entry: CatalogueEntry, modality: str, weights: str | None = None) -> None:
        super().__init__(modality)
        self.entry = entry
        self.id = entry.id  # type: ignore[misc]  # one class, an id per entry
        self.checkpoint = Checkpoint(
            f"encoder {entry.id!r} ({modality})", entry.home, entry.revision, weights,
            download_mb=entry.download_mb, address=entry.address,
        )  # fmt: skip
        self._width = entry.width if weights is None else self._local_width(Path(weights))
        self._weights = f"{entry.repository or entry.id} {entry.revision}"
        if weights is not None:
            self._weights = f"local {weights_digest(Path(weights))}"

    @property
    def width(self) -> int:
        """Width of an embedding: the catalogue's, or that of the local copy; `load` checks it."""
        return self._width

    def settings(self) -> Mapping[str, object]:
        """Tell which weights, how clips are prepared for them, and the precision where it is bfloat16."""
        coarse = {"precision": self.dtype} if self.dtype == "bfloat16" else {}
        return {"weights": self._weights, **coarse, **self.preprocessing()}

    @abstractmethod
    def preprocessing(self) -> Mapping[str, object]:
        """Tell what of the settings is this family's own."""

    def build(self) -> Any:
        """Make the model with its weights, a `torch.nn.Module` on the CPU in float32.

        It is shared by the encoders of this class that have the same weights, so it must depend on nothing else.
        """
        import transformers

        model = self.checkpoint.open_model(getattr(transformers, self.architecture))
        return model if self.part is None else getattr(model, self.part)

    def model_width(self, model: Any) -> int:
        """Tell the width of the embeddings that a model gives."""
        width = getattr(model.config, (self.config_width or ("hidden_size",))[-1])
        return int(width[-1] if isinstance(width, list) else width)

    def load(self) -> None:
        """Load the weights to the device.

        Raises:
            ExtractionError: they are not here and cannot be fetched, lack tensors, or have another width.
        """
        import torch

        key = type(self), self._weights, self.device, self.dtype
        model = _LOADED.get(key)
        if model is None:
            model = self.build()
        self._require_width(model)  # of a model that another entry loaded, too
        self._model = model.to(device=self.device, dtype=getattr(torch, self.dtype)).eval().requires_grad_(False)
        _LOADED[key] = self._model

    def build_checked(self) -> Any:
        """Make the model as `build` does, a new one each time.

        Raises:
            ExtractionError: as of `load`.
        """
        model = self.build()
        self._require_width(model)
        return model

    def _require_width(self, model: Any) -> None:
        width = self.model_width(model)
        if width != self.width:
            local = self.checkpoint.weights
            raise ExtractionError(
                f"{self.checkpoint.user}: its weights give embeddings {width} wide, expected {self.width}; "
                + ("the catalogue is wrong" if local is None else f"config.json in {local} is wrong")
            )

    def processor(self, loader: Any) -> Any:
        """Open the preprocessing: beside the weights, or where the catalogue says."""
        local = self.checkpoint.weights
        if self.entry.processor is None or (local is not None and (Path(local) / "preprocessor_config.json").exists()):
            return self.checkpoint.open(loader)
        repository, revision = self.entry.processor
        elsewhere = replace(
            self.checkpoint, model=repository, revision=revision, weights=None, download_mb=0, home=self.entry.home
        )
        return elsewhere.open(loader)

    def weights_path(self) -> Path:
        """Find the one file that holds the weights, fetched where it is not here yet.

        Raises:
            ExtractionError: it is not here and cannot be fetched.
        """
        return self.checkpoint.file(self.entry.weights_file or "")

    def _local_width(self, weights: Path) -> int:
        place = f'features.weights."{self.entry.home}"'
        if self.config_width is None:
            if not weights.is_file():
                raise ConfigError(f"{place}: {weights} is not a file; the weights of {self.id!r} are one file")
            return self.entry.width
        try:
            value = json.loads((weights / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{place}: {weights} is not a folder with the weights of {self.id!r}; it must hold config.json, "
                f"model.safetensors and the preprocessor's or tokenizer's files ({type(error).__name__}: {error})"
            ) from None
        for key in self.config_width:
            value = value.get(key, {}) if isinstance(value, dict) else {}
        value = value[-1] if isinstance(value, list) and value else value
        return value if isinstance(value, int) else self.entry.width
