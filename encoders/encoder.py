"""What an encoder is: one modality of a clip in, a sequence of vectors out, pooled to one fixed-width vector.

A clip's vector is the mean and the population standard deviation over time of the encoder's frame or token
embeddings, concatenated: `[T, width] -> [2 * width]`.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmpsr.config import Config

if TYPE_CHECKING:
    from encoders.media import ClipMedia

__all__ = ["MODALITIES", "Absent", "Encoder", "EncodingError", "FeaturesConfig", "pool"]

MODALITIES = ("video", "audio", "text", "behavior")


class EncodingError(Exception):
    """An encoder could not turn a clip into vectors although the modality is given; the message is the reason."""


class Absent(Exception):  # noqa: N818  absence is not an error
    """The clip has nothing of this modality (no media file, no transcript); the message says what is missing."""


class Encoder(ABC):
    """Turns one modality of clips into sequences of vectors.

    Constructors are light: they know width and settings (so the fingerprint) without weights, because the parent
    process constructs encoders only to learn what is missing. Weights are loaded by `load`, in worker processes.
    """

    id: ClassVar[str]
    """Name in the catalogue and in configurations."""
    version: ClassVar[int] = 1
    """Raised whenever the same clip would give other vectors; part of the fingerprint."""

    def __init__(self, modality: str) -> None:
        self.modality = modality

    @property
    @abstractmethod
    def width(self) -> int:
        """Width of one embedding; a pooled vector is twice as wide."""

    def settings(self) -> Mapping[str, object]:
        """Everything besides id, version and modality that decides the vectors: revision, preprocessing, prompt."""
        return {}

    def load(self) -> None:  # noqa: B027  light encoders have nothing to load
        """Load weights and detectors; called once in a worker, before the first `encode`."""

    @abstractmethod
    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | Absent]:
        """Embed clips.

        Args:
            clips: any number of clips; a clip's result must not depend on its neighbours.

        Returns:
            Per clip an array `[T, width]` with T >= 1, or the exception that says why there is none. Nothing is
            raised for a single clip's sake.
        """

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change whenever this encoder's vectors would."""
        identity = {
            "id": self.id, "version": self.version, "modality": self.modality, "width": self.width,
            "pooling": "mean+std", "settings": dict(self.settings()),
        }  # fmt: skip
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def pool(sequence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean and population standard deviation over time, `[T, width] -> [2 * width]`, computed in float64.

    Example:
        >>> pool(np.array([[0.0, 1.0], [2.0, 1.0]], dtype=np.float32)).tolist()
        [1.0, 1.0, 1.0, 0.0]
    """
    wide = np.asarray(sequence, dtype=np.float64)
    return np.concatenate([wide.mean(axis=0), wide.std(axis=0)]).astype(np.float32)


class FeaturesConfig(Config):
    """Which encoder describes each modality, and where the vectors are kept."""

    store: str = "data/features"
    """Folder of the feature store, relative to the working directory."""
    encoders: dict[str, str] = Field(
        default={"video": "face-mesh", "audio": "egemaps", "text": "minilm", "behavior": "cue-narrative"}
    )
    """Encoder id by modality; `package.module:Class` names an encoder of your own."""
    num_workers: int = Field(default=2, ge=1)
    """Worker processes that decode and encode, per launched process."""
    chunk_size: int = Field(default=16, ge=1)
    """Clips that a worker takes at a time; the most that a kill can cost."""
    retry_failed: bool = False
    """Try clips again that failed before."""
