"""Pooled vectors of clips by an encoder in hand, without a store."""

from __future__ import annotations

from collections.abc import Sequence

from encoders.base import Encoder
from encoders.errors import Failure
from encoders.extraction.encode import Vector, encode_both
from encoders.media.clip import ClipMedia


def encode_clips(encoder: Encoder, clips: Sequence[ClipMedia]) -> list[Vector | Failure]:
    """Encode clips as extraction and prediction do; per clip its vector, or why there is none."""
    results = encode_both(encoder, clips, None)
    return [result if isinstance(result, Failure) else result.vector for result in results]
