"""The writers of texts that a configuration asks for; the only module that knows them all."""

from __future__ import annotations

from encoders.config import FeaturesConfig
from encoders.creation import writer_checkpoint
from encoders.writers.base import TextWriter
from encoders.writers.describer import Describer
from encoders.writers.transcriber import Transcriber

__all__ = ["text_writers"]


def text_writers(features: FeaturesConfig, device: str = "cpu", dtype: str = "float32") -> list[TextWriter]:
    """Make the writers that a configuration asks for, transcripts first; nothing is loaded.

    Raises:
        ConfigError: a model can only be used as a converted local copy, and none is named.
    """
    writers: list[TextWriter] = []
    if (transcriber := features.transcriber) is not None:
        checkpoint = writer_checkpoint("features.transcriber", transcriber.model, transcriber.revision, features)
        writers.append(Transcriber(transcriber, checkpoint, device, dtype))
    if (describer := features.describer) is not None:
        checkpoint = writer_checkpoint("features.describer", describer.model, describer.revision, features)
        writers.append(Describer(describer, checkpoint, device, dtype))
    return writers
