"""Base of the models in time: features of the frames of a clip in, logits of every frame out.

Modalities share one grid of frames, and are told apart by name; their configured order matters where one leads the
others. A clip is alone in its result: padding changes nothing, and neither do the other clips of the batch, except in
training through batch normalisation (over all frames that there are).

Shape suffixes: B clips, T frames, M modalities, D width of a modality's features, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from mmpsr.config import Config, ConfigError, base_of
from mmpsr.layers.by_modality import ByModality
from mmpsr.layers.standardizer import Standardizer

__all__ = ["TemporalConfig", "TemporalModel"]

Kind = Literal["frame", "tcn", "lfan", "can", "mt", "jmt", "mt_extended", "jmt_extended"]
Channels = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]

SHORT: Mapping[str, tuple[int, ...]] = {"video": (256, 256, 128, 128), "audio": (64, 64, 32, 32)}
LONG: Mapping[str, tuple[int, ...]] = {"video": (256, 256, 128, 128, 128), "audio": (128, 128, 64, 64)}
OTHERWISE = (256, 256, 128, 128)  # text's, and of every modality that the paper does not have
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "frame": (),
    "tcn": ("channels", "kernel"),
    "lfan": ("channels", "kernel", "width", "num_heads"),
    "can": ("channels", "kernel", "width"),
    "mt": ("channels", "kernel", "width", "num_heads"),
}
"""Settings that a kind reads, besides `form` and `dropout`; of jmt and the extended kinds those of mt."""


class TemporalConfig(Config):
    """Which model in time, and its widths; what is left out is the paper's."""

    kind: Kind = "lfan"
    """Linear per frame; linear after a TCN; LFAN; CAN; MT and JMT, of video and audio; these two of any modalities."""
    form: Literal["paper", "released"] = "paper"
    """What is meant, or what the public code does where it differs (can, mt, jmt): only to reproduce its figures."""
    channels: dict[str, Channels] = Field(default_factory=dict)
    """By modality: channels of the blocks of its TCN. Left out: the paper's by name (of a view its
    modality's), otherwise those of text."""
    kernel: int = Field(default=5, ge=1)
    """Kernel of the TCNs' convolutions."""
    width: int | None = Field(default=None, ge=1)
    """Width of a modality in the fusion: 32 for lfan, 128 for can, mt and jmt."""
    num_heads: int | None = Field(default=None, ge=1)
    """Heads of attention, a divisor of the width: 2 for lfan, 1 for mt and jmt."""
    dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Dropout rate: 0.1 for frame, tcn and lfan, 0.2 for can, mt and jmt."""

    @model_validator(mode="after")
    def _check(self) -> TemporalConfig:
        read = SETTINGS.get(self.kind, SETTINGS["mt"])
        for name in sorted({"channels", "kernel", "width", "num_heads"} - set(read)):
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                raise ValueError(  # but a run's file states all
                    f"kind {self.kind!r} has no {name}; take the setting out, or the whole section's by "
                    f"""`--set 'model={{kind="{self.kind}"}}'`"""
                )
        if self.form == "released" and self.kind.endswith("_extended"):
            raise ValueError(f"no code of {self.kind!r} was released; leave form out, or take kind {self.kind[:-9]!r}")
        if "num_heads" in read and self.fusion_width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {self.fusion_width}")
        return self

    @property
    def is_short(self) -> bool:
        """Whether the kind is one of those with short TCNs and little dropout."""
        return self.kind in ("frame", "tcn", "lfan")

    @property
    def rate(self) -> float:
        """Dropout rate."""
        return self.dropout if self.dropout is not None else 0.1 if self.is_short else 0.2

    @property
    def fusion_width(self) -> int:
        """Width of a modality in the fusion."""
        return self.width or (32 if self.kind == "lfan" else 128)

    @property
    def heads(self) -> int:
        """Heads of attention."""
        return self.num_heads or (2 if self.kind == "lfan" else 1)

    def channels_of(self, modalities: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
        """Give the channels of every modality.

        Raises:
            ConfigError: channels are named of what is no modality.

        Example:
            >>> TemporalConfig(kind="lfan").channels_of({"audio": 128, "behavior": 20})
            {'audio': (64, 64, 32, 32), 'behavior': (256, 256, 128, 128)}
        """
        for name in self.channels:
            if name not in modalities:
                raise ConfigError(
                    f"channels are given of {name!r}, which is not among the modalities {list(modalities)}; "
                    "add it there, or take them out"
                )
        defaults = SHORT if self.is_short else LONG
        return {name: self.channels.get(name, defaults.get(base_of(name), OTHERWISE)) for name in modalities}


class TemporalModel(nn.Module, ABC):
    """Base of the models in time.

    Every modality has a standardiser, which passes features unchanged until it is fitted.

    Args:
        widths: of each modality's features, by modality; their order is the model's.
        num_classes: C.

    Attributes:
        whole_clip: whether the model is applied to a whole clip at once, else to windows whose logits are averaged.
        receptive_field: frames that a frame's logits depend on, none of them later; None for all of the clip.

    Raises:
        ValueError: no modality, or fewer than one class.
    """

    whole_clip: ClassVar[bool]
    receptive_field: int | None

    def __init__(self, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__()
        if not widths or num_classes < 1:
            raise ValueError(f"a model needs modalities and classes; found {list(widths)} and {num_classes} classes")
        self.modalities = tuple(widths)
        self.widths = dict(widths)
        self.num_classes = num_classes
        self.standardizers = ByModality({name: Standardizer(width) for name, width in widths.items()})

    @abstractmethod
    def classify(self, values: Mapping[str, Tensor], there: Mapping[str, Tensor], mask_BT: Tensor) -> Tensor:
        """Give the logits of every frame, `[B, T, C]`, those outside the mask of any value.

        Args:
            values: standardised features `[B, T, D_m]`, zero where the modality is not there.
            there: bool `[B, T]`, at which frames of the mask a modality is there.
            mask_BT: bool, which frames there are.
        """

    def forward(self, features: Mapping[str, Tensor], mask_BT: Tensor, presence_BM: Tensor | None = None) -> Tensor:
        """Predict the logits of every frame, `[B, T, C]`; zero outside the mask.

        A modality that a clip lacks is 0 after its own layers, is left out of attention and of the statistics of
        batch normalisation, and what stands in its features never matters. Zeros in the features of a modality that
        is there are values like others, such as those of text where nobody speaks.

        Args:
            features: float `[B, T, D_m]` by modality, in any order; outside the mask of any value.
            mask_BT: bool, which frames there are, at least one of a clip.
            presence_BM: bool, which modalities each clip has, in the model's order; all, where left out.

        Raises:
            ValueError: modalities or shapes are not the model's.
        """
        self._check(features, mask_BT, presence_BM)
        values, there = {}, {}
        for index, name in enumerate(self.modalities):
            there[name] = mask_BT if presence_BM is None else mask_BT & presence_BM[:, index].unsqueeze(1)
            rows = self.standardizers[name](features[name].flatten(0, 1), there[name].flatten())
            values[name] = rows.view(features[name].shape)
        return torch.where(mask_BT.unsqueeze(-1), self.classify(values, there, mask_BT), 0.0)

    def _check(self, features: Mapping[str, Tensor], mask_BT: Tensor, presence_BM: Tensor | None) -> None:
        if features.keys() != set(self.modalities):
            raise ValueError(f"the model takes modalities {list(self.modalities)}, found {sorted(features)}")
        expected: tuple[int, ...]
        for name, width in self.widths.items():
            expected = (*mask_BT.shape, width)
            if tuple(features[name].shape) != expected:
                raise ValueError(
                    f"features of {name!r} are {list(features[name].shape)}, expected {list(expected)}: "
                    "clips, frames of the mask, width of the model"
                )
        expected = (mask_BT.shape[0], len(self.modalities))
        if presence_BM is not None and tuple(presence_BM.shape) != expected:
            raise ValueError(f"presence is {list(presence_BM.shape)}, expected {list(expected)}: clips, modalities")
