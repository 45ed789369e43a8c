"""Class texts as vectors of a text encoder, made by the very function that extracts those of transcripts."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.clips import conform
from encoders.config import FeaturesConfig
from encoders.extraction.extract import extract
from encoders.extraction.read import encoder_specs, read_vectors
from encoders.extraction.workers import WarmEncoders
from mmpsr.config import ConfigError
from mmpsr.executors.base import LOCAL
from mmpsr.files import sha256_of

__all__ = ["embed_texts", "text_features"]

_CHUNK = 64
_EMBEDDED: dict[tuple[str, str], NDArray[np.float32]] = {}  # by encoder and text, once a process


def text_features(features: FeaturesConfig) -> FeaturesConfig:
    """Keep the text encoder alone.

    Raises:
        ConfigError: there is none that could embed other texts than a corpus' own.
    """
    encoder = features.encoders.get("text")
    if encoder is None:
        raise ConfigError(
            f"class texts are compared with what is said, and of {', '.join(features.encoders)} none is text; name a "
            "run with features.encoders.text, or predict without a run"
        )
    if encoder in features.precomputed:
        raise ConfigError(
            f"features.encoders.text: the vectors of {encoder!r} were made elsewhere, so that class texts cannot be "
            "embedded like them; choose an encoder of the catalogue (`mmpsr encoders`)"
        )
    alone = {"encoders": {"text": encoder}, "sequences": {}, "timed": (), "transcriber": None, "describer": None}
    return features.model_copy(update={**alone, "chunk_size": _CHUNK, "executor": LOCAL})


def embed_texts(texts: Sequence[str], features: FeaturesConfig) -> NDArray[np.float32]:
    """Embed texts by the text encoder of a configuration: the mean over tokens, without the standard deviation.

    Args:
        texts: any number; what was embedded before in this process is not again.
        features: encoders, local weights, device.

    Returns:
        `[n, W]`, W the encoder's width.

    Raises:
        ConfigError: there is no text encoder, or a text has nothing that it reads.
        ExtractionError: it cannot be loaded.
    """
    alone = text_features(features)
    spec = encoder_specs(alone)["text"]
    lacking = [text for text in dict.fromkeys(texts) if (spec.key, text) not in _EMBEDDED]
    if lacking:
        names = [sha256_of(text)[:16] for text in lacking]
        clips = conform(pd.DataFrame({"clip_id": names, "text": lacking}).assign(corpus="texts", split="test"))
        with tempfile.TemporaryDirectory(prefix="mmpsr-") as place, WarmEncoders(alone) as warm:
            stored = alone.model_copy(update={"store": place})
            ledger = extract(clips, stored, show_progress=False, warm=warm).ledger
            present, vectors = read_vectors(clips, stored)["text"]
        for text, is_there, vector in zip(lacking, present, vectors, strict=True):
            if not is_there:
                reason = ledger.loc[ledger["clip_id"].eq(sha256_of(text)[:16]), "reason"]
                raise ConfigError(f"the class text {text!r} cannot be embedded: {'; '.join(reason)}")
            _EMBEDDED[spec.key, text] = vector[: spec.width]
    return np.stack([_EMBEDDED[spec.key, text] for text in texts])
