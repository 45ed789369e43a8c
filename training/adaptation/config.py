"""Settings of `mmpsr adapt`: those of the methods, and the protocol that they are compared by."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator

from mmpsr.adaptation.base import AdaptationConfig
from mmpsr.config import Config

__all__ = ["PersonalizationConfig", "ProtocolConfig", "SplitBy"]

SplitBy = Literal["video", "segment", "frame"]


class ProtocolConfig(Config):
    """Who is adapted to, and on what that is judged."""

    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Seeds of splits, weights and batches; figures of a participant are means over them."""
    split_by: SplitBy = "video"
    """What stays together when a participant's rows are cut: videos, annotated segments and the gaps between them, or
    nothing (`frame`, as published: frames 1/24 s apart then lie on both sides). Videos that cannot be cut so that both
    sides have both classes fall back to segments, which is said."""
    classes: Literal["stratified", "equal"] = "stratified"
    """Cut each class by `fractions`, or first draw as many absent rows as there are present ones."""
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    """Shares of what is adapted to, of the validation part and of what is judged."""
    fewest_positives: int = Field(default=10, ge=1)
    """Rows of the second class below which a participant is left out, and named."""
    select: Literal["last", "labelled"] = "last"
    """Judge the last epoch, or the one that does best on labels of the participant's validation part: what the parent
    code does, and not unsupervised."""
    rows: Literal["clips", "frames"] = "clips"
    """What a row is: a clip with its vector, or a frame of a clip with features and labels in time."""
    frame_step: int = Field(default=1, ge=1)
    """With `rows = "frames"`, take every so manieth frame of each clip."""
    modalities: tuple[str, ...] = ()
    """Modalities whose vectors are joined to one; left out, video, or the run's first where it has no video."""
    mirrored: str | None = None
    """Corpus of the configuration that has the same clip ids with mirrored media: the second view of `subject`."""

    @field_validator("fractions")
    @classmethod
    def _shares(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        adapted, validated, judged = fractions
        if not math.isclose(sum(fractions), 1.0) or adapted <= 0 or validated < 0 or judged <= 0:
            raise ValueError("expected three shares with sum 1, the first and the last above 0")
        return fractions


class PersonalizationConfig(AdaptationConfig):
    """All settings of `mmpsr adapt`."""

    protocol: ProtocolConfig = ProtocolConfig()
    """Who is adapted to, and on what that is judged."""
