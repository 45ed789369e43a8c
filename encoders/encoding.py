"""From clips to pooled vectors: find an encoder, run it on a chunk, check what it returns.

Extraction, prediction of one raw video and the demo all go through `make_encoder` and `encode_clips`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from encoders.encoder import Absent, Encoder, EncodingError, pool

if TYPE_CHECKING:
    from encoders.media import ClipMedia

__all__ = ["ExtractionError", "Failure", "Vector", "encode_clips", "make_encoder"]

Vector = NDArray[np.float32]


class ExtractionError(RuntimeError):
    """Extraction cannot go on, and not for a single clip's sake; the message says why and what to do."""


@dataclass(frozen=True)
class Failure:
    """Why a clip has no vector: `failed` (it should have one) or `absent` (it has nothing of this modality)."""

    status: str
    reason: str


def make_encoder(encoder_id: str, modality: str) -> Encoder:
    """An encoder of the catalogue, or a user's own class named as `package.module:Class`.

    Args:
        encoder_id: catalogue id, or where a subclass of `Encoder` is to be imported from.
        modality: what it shall describe.

    Raises:
        ExtractionError: the class cannot be imported or is not an encoder.
    """
    if ":" not in encoder_id:
        from encoders.catalogue import create_encoder  # imports of encoders are heavy

        return create_encoder(encoder_id, modality)
    module, _, name = encoder_id.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ExtractionError(
            f"encoder {encoder_id!r} ({modality}): {error}; an own encoder is named package.module:Class and its "
            "module must be importable from the working directory or PYTHONPATH"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Encoder)):
        raise ExtractionError(
            f"encoder {encoder_id!r} ({modality}): {name} is not a subclass of encoders.encoder.Encoder"
        )
    if not isinstance(getattr(found, "id", None), str):
        raise ExtractionError(f"encoder {encoder_id!r} ({modality}): {name}.id must be a string that names the encoder")
    return found(modality)


def encode_clips(encoder: Encoder, clips: Sequence[ClipMedia]) -> list[Vector | Failure]:
    """Pooled vectors of clips, or why there is none.

    An exception that the encoder raises for the whole chunk costs only the clip that causes it: the chunk is then
    encoded clip by clip. A missing library is no clip's fault and is raised.

    Args:
        encoder: loaded encoder.
        clips: any number of clips.

    Returns:
        Per clip a finite vector `[2 * width]` or a `Failure`.

    Raises:
        ExtractionError: the encoder needs a library that is not installed, or breaks its interface.
    """
    if not clips:
        return []
    try:
        results: Sequence[Vector | Exception] = encoder.encode(clips)
    except ImportError as error:
        raise ExtractionError(f"encoder {encoder.id!r} ({encoder.modality}) needs a library: {error}") from error
    except Exception as error:
        if len(clips) > 1:
            return [result for clip in clips for result in encode_clips(encoder, [clip])]
        results = [error]
    if len(results) != len(clips):
        raise ExtractionError(
            f"encoder {encoder.id!r} ({encoder.modality}) returned {len(results)} results for {len(clips)} clips"
        )
    return [_checked(encoder, result) for result in results]


def _checked(encoder: Encoder, result: Vector | Exception) -> Vector | Failure:
    if isinstance(result, Absent):
        return Failure("absent", str(result))
    if isinstance(result, EncodingError):
        return Failure("failed", str(result))
    if isinstance(result, Exception):
        return Failure("failed", f"{type(result).__name__}: {result}")
    sequence = np.asarray(result)
    if sequence.ndim != 2 or len(sequence) == 0 or sequence.shape[1] != encoder.width:
        return Failure("failed", f"the encoder returned shape {sequence.shape}, expected [T >= 1, {encoder.width}]")
    with np.errstate(invalid="ignore", over="ignore"):
        vector = pool(sequence)
    if not np.isfinite(vector).all():
        return Failure("failed", f"{'NaN' if np.isnan(vector).any() else 'infinity'} in the vector")
    return vector
