"""From clips to pooled vectors and sequences: find an encoder, run it on a chunk, check what it returns.

Extraction, prediction of one raw video and the demo all make encoders and check their results here.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoders.base import Encoder, pool
from encoders.config import FeaturesConfig
from encoders.creation import CATALOGUE, create_encoder
from encoders.errors import ExtractionError, Failure
from encoders.extraction.precomputed import Precomputed
from encoders.media.clip import ClipMedia
from encoders.sequences import shorten, to_half
from mmpsr.config import ConfigError, base_of, nearest
from mmpsr.extras import sentence_of

__all__ = [
    "Encoded",
    "Vector",
    "check_results",
    "encode_both",
    "lacks_library",
    "load_encoder",
    "make_encoder",
    "reason_of",
]

Vector = NDArray[np.float32]


class Encoded(NamedTuple):
    """What one pass of an encoder gives of a clip.

    Attributes:
        vector: pooled over time.
        sequence: float16 `[T, width]`, shortened; why there is none; or None where none is asked for.
    """

    vector: Vector
    sequence: NDArray[np.float16] | Failure | None = None


def make_encoder(encoder_id: str, modality: str, features: FeaturesConfig | None = None) -> Encoder:
    """Make an encoder of the catalogue, precomputed features, or a user's own class named as `package.module:Class`.

    Args:
        encoder_id: catalogue id, name of precomputed features, or where a subclass of `Encoder` is imported from.
        modality: what it shall describe, or what the view of it is called.
        features: features computed elsewhere, local weights, and whose code may run; None is the defaults: none.

    Raises:
        ConfigError: neither the catalogue nor `features.precomputed` has the id, the encoder does not describe the
            modality, or its weights may not be used as configured.
        ExtractionError: the class cannot be imported or is not an encoder, or precomputed features cannot be read.
    """
    encoder = _made(encoder_id, modality, features)
    encoder.view = modality if modality != encoder.modality else None
    return encoder


def _made(encoder_id: str, modality: str, features: FeaturesConfig | None) -> Encoder:
    precomputed = {} if features is None else features.precomputed
    if encoder_id in precomputed:
        return Precomputed(encoder_id, base_of(modality), precomputed[encoder_id])
    if ":" not in encoder_id:
        if precomputed and encoder_id not in CATALOGUE:
            raise ConfigError(
                f"features.encoders.{modality}: neither an encoder nor features.precomputed is named {encoder_id!r}; "
                f"{nearest(encoder_id, [*CATALOGUE, *precomputed])}"
            )
        return create_encoder(encoder_id, modality, features)
    module, _, name = encoder_id.partition(":")
    try:
        encoder = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ExtractionError(
            f"encoder {encoder_id!r} ({modality}): {error}; an own encoder is named package.module:Class and its "
            "module must be importable from the working directory or PYTHONPATH"
        ) from error
    if not (isinstance(encoder, type) and issubclass(encoder, Encoder)):
        raise ExtractionError(f"encoder {encoder_id!r} ({modality}): {name} is not a subclass of encoders.base.Encoder")
    if not isinstance(getattr(encoder, "id", None), str):
        raise ExtractionError(f"encoder {encoder_id!r} ({modality}): {name}.id must be a string that names the encoder")
    return encoder(base_of(modality))


def reason_of(error: Exception) -> str:
    """Word an exception: of a missing optional package, the extra that brings it; else class and message."""
    if isinstance(error, ImportError):
        return sentence_of(error.name or "") or str(error)
    return f"{type(error).__name__}: {error}"


def lacks_library(encoder: Encoder, error: ImportError) -> ExtractionError:
    """Name the library that an encoder needs and lacks, with the extra that brings it."""
    return ExtractionError(f"encoder {encoder.id!r} ({encoder.modality}) needs a library: {reason_of(error)}")


def load_encoder(encoder: Encoder, fingerprint: str) -> None:
    """Load an encoder and see that it is still the one expected.

    Raises:
        ExtractionError: it cannot be loaded, or has another fingerprint than before.
    """
    name = f"encoder {encoder.id!r} ({encoder.modality})"
    try:
        encoder.load()
    except ExtractionError:
        raise
    except Exception as error:  # raised as text: foreign exceptions may not survive pickling
        raise ExtractionError(f"{name} cannot be loaded: {reason_of(error)}") from error
    if encoder.fingerprint() != fingerprint:
        raise ExtractionError(
            f"{name} has fingerprint {encoder.fingerprint()} once loaded and {fingerprint} before; "
            "its width and settings must be known to the constructor"
        )


def encode_both(encoder: Encoder, clips: Sequence[ClipMedia], cap: int | None) -> list[Encoded | Failure]:
    """Encode clips in one pass: pooled vectors and sequences, or why there is neither.

    An exception that the encoder raises for the whole chunk costs only the clip that causes it: the chunk is then
    encoded clip by clip. A missing library is no clip's fault and is raised.

    Args:
        encoder: loaded encoder.
        clips: any number of clips.
        cap: most elements of a sequence; None for vectors only.

    Returns:
        Per clip a finite vector (`[2 * width]`, without pooling `[width]`), with the sequence, or a `Failure`.

    Raises:
        ExtractionError: the encoder needs a library that is not installed, or breaks its interface.
    """
    if not clips:
        return []
    try:
        results: Sequence[Vector | Exception] = encoder.encode(clips)
    except ImportError as error:
        raise lacks_library(encoder, error) from error
    except Exception as error:
        if len(clips) > 1:
            return [result for clip in clips for result in encode_both(encoder, [clip], cap)]
        results = [error]
    return check_results(encoder, results, len(clips), cap)


def check_results(
    encoder: Encoder, results: Sequence[Vector | Exception], num_clips: int, cap: int | None
) -> list[Encoded | Failure]:
    """Pooled vectors and sequences of an encoder's results where they are sound, and why they are not.

    Raises:
        ExtractionError: there is not one result for each clip.
    """
    if len(results) != num_clips:
        raise ExtractionError(
            f"encoder {encoder.id!r} ({encoder.modality}) returned {len(results)} results for {num_clips} clips"
        )
    return [_checked(encoder, result, cap) for result in results]


def _checked(encoder: Encoder, result: Vector | Exception, cap: int | None) -> Encoded | Failure:
    if isinstance(result, Exception):
        return Failure.of(result)
    sequence = np.asarray(result)
    fits = sequence.ndim == 2 and len(sequence) > 0 and sequence.shape[1] == encoder.width
    if not fits or (encoder.pooling == "none" and len(sequence) > 1):
        expected = f"[{'1' if encoder.pooling == 'none' else 'T >= 1'}, {encoder.width}]"
        return Failure("failed", f"the encoder returned shape {sequence.shape}, expected {expected}")
    with np.errstate(invalid="ignore", over="ignore"):
        vector = pool(sequence, encoder.pooling)
    if not np.isfinite(vector).all():
        return Failure("failed", f"{'NaN' if np.isnan(vector).any() else 'infinity'} in the vector")
    if cap is None:
        return Encoded(vector)
    try:
        return Encoded(vector, to_half(shorten(sequence, cap)))
    except OverflowError as error:  # the vector is as good without
        return Encoded(vector, Failure("failed", str(error)))
