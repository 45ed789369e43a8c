"""What attention layers can be told."""

from __future__ import annotations

from pydantic import Field

from mmpsr.config import Config

__all__ = ["AttentionConfig"]


class AttentionConfig(Config):
    """Options of the attention layers; each names the layer that reads it."""

    query_reach: int = Field(default=5, ge=0)
    """mta: how many queries to either side, in the order of modalities, a convolution sees; at most M - 1 are used."""
    key_reach: int = Field(default=5, ge=0)
    """mta: how many keys to either side."""
