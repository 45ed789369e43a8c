"""What models in time can be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mmpsr.config import Config, ConfigError, base_of

__all__ = ["TemporalConfig"]

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
