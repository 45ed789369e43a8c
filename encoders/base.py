"""What an encoder is: one modality of a clip in, a sequence of vectors out, pooled to one fixed-width vector.

A clip's vector is the mean and the population standard deviation over time of the encoder's frame or token
embeddings, concatenated: `[T, width] -> [2 * width]`. Where features computed elsewhere give one vector per clip, it is
kept as it is: `[1, width] -> [width]`. Where `features.sequences` names the modality, the sequence is kept beside the
vector, see `encoders.sequences`. Where `features.timed` names it, an encoder that can gives a row for every frame as
well, see `encoders.timed`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from encoders.errors import EncodingError, MissingModality
from encoders.media.clip import ClipMedia
from encoders.spec import EncoderSpec, source_of
from encoders.timed import Grid, Timed
from mmpsr.files import sha256_of

__all__ = ["Embeddings", "Encoder", "Pooling", "TimedForm", "Watcher", "embed_together", "pool", "read_each"]

Pooling = Literal["mean+std", "none"]
Embeddings = NDArray[np.float32] | EncodingError | MissingModality
"""What an encoder gives of a clip: an array `[T, width]` with T >= 1, or the exception that says why there is none."""
TimedForm = Literal["pictures", "sound", "words"]
"""What an encoder looks at for what it gives in time: every decoded frame, the sound, or the words when they are said.
"""
ReadT = TypeVar("ReadT")


class Watcher(Protocol):
    """What an encoder of pictures keeps of a clip's frames while they pass; they are never held all at once.

    Attributes:
        sampling: frames that `encoders.face.landmarks.face_frames` takes, how many and whether a longer clip is given
            more: by them it is told whether the clip stands on its head, and they are kept for the encoder's vector.
    """

    sampling: tuple[int, bool]

    def see(self, frame: NDArray[np.uint8]) -> None:
        """Look at the next frame, RGB `[H, W, 3]`, which may be changed afterwards."""


class Encoder(ABC):
    """Turns one modality of clips into sequences of vectors.

    Constructors are light: they know width and settings (so the fingerprint) without weights, because the parent
    process constructs encoders to learn what is missing. `load` is called in the worker processes; encoders whose
    weights should be loaded only once derive from `encoders.device.DeviceEncoder`.
    """

    id: ClassVar[str]
    """Name in the catalogue and in configurations."""
    version: ClassVar[int] = 1
    """Raised whenever the same clip would give other vectors; part of the fingerprint."""
    pooling: Pooling = "mean+std"
    """How a clip's embeddings become its vector, see `pool`."""
    view: str | None = None
    """What the configuration calls it, `<modality>.<view>`, where it is a further view of its modality."""
    timed_form: TimedForm | None = None
    """What it gives in time; None where it cannot, as an encoder that sees a clip only as a whole."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Modules of other packages that its work needs; they are imported once for all workers."""
    beside: ClassVar[bool] = False
    """Whether it reads nothing but texts, and by torch: then the launched process encodes them beside its workers."""

    def __init__(self, modality: str) -> None:
        self.modality = modality

    @property
    @abstractmethod
    def width(self) -> int:
        """Width of one embedding; a vector pooled by mean and standard deviation is twice as wide."""

    def settings(self) -> Mapping[str, object]:
        """List all besides id, version and modality that decides the vectors: revision, preprocessing, prompt."""
        return {}

    def source(self, clip: Mapping[str, Any]) -> str:
        """Hash what the clip's vector is made from to twelve hexadecimal digits; when they change, it is made anew.

        Args:
            clip: a row of the clip table.
        """
        return source_of(clip, self.modality)

    def load(self) -> None:  # noqa: B027  light encoders have nothing to load
        """Load weights and detectors; called once in a worker, before the first `encode`."""

    @abstractmethod
    def encode(self, clips: Sequence[ClipMedia]) -> list[Embeddings]:
        """Embed clips.

        Args:
            clips: any number of clips; a clip's result must not depend on its neighbours.

        Returns:
            A result per clip; nothing is raised for a single clip's sake.
        """

    def timed_settings(self) -> Mapping[str, object]:
        """List what decides its values in time besides its own settings; none of it is in the vectors' fingerprint."""
        return {}

    def watcher(self, clip: ClipMedia) -> Watcher | None:
        """Make what looks at a clip's frames as they pass; None where none need to be shown."""
        return None

    def encode_timed(self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False) -> Timed:
        """Give a clip's values in time; of encoders with a `timed_form` that are not device encoders.

        Args:
            clip: with media.
            grid: its frames.
            watcher: what `watcher` made, after it has seen every frame; None where that made none.
            spread_words: for words, whether they are spread evenly over the clip though their times are known.

        Raises:
            EncodingError: the clip has the modality and cannot be encoded.
            MissingModality: it has nothing of the modality.
        """
        raise NotImplementedError(f"encoder {self.id!r} gives nothing in time")

    @property
    def spec(self) -> EncoderSpec:
        """What names this encoder's vectors in the store, the same before and after `load`."""
        name = self.view or self.modality
        return EncoderSpec(
            self.id, self.version, name, self.width, dict(self.settings()), self.fingerprint(), self.pooling
        )

    def fingerprint(self) -> str:
        """Compute twelve hexadecimal digits that change whenever this encoder's vectors would."""
        identity = {
            "id": self.id, "version": self.version, "modality": self.modality, "width": self.width,
            "pooling": self.pooling, "settings": dict(self.settings()),
        }  # fmt: skip
        return sha256_of(json.dumps(identity, sort_keys=True))[:12]


def read_each(
    clips: Sequence[ClipMedia], read: Callable[[ClipMedia], ReadT]
) -> list[ReadT | EncodingError | MissingModality]:
    """Apply a function to each clip; the exception that it raises for a clip's sake stands in place of its result."""
    results: list[ReadT | EncodingError | MissingModality] = []
    for clip in clips:
        try:
            results.append(read(clip))
        except (EncodingError, MissingModality) as reason:
            results.append(reason)
    return results


def embed_together(
    values: Sequence[ReadT | EncodingError | MissingModality],
    embed: Callable[[Sequence[ReadT]], Sequence[Embeddings]],
) -> list[Embeddings]:
    """Embed what `read_each` gave in one call; exceptions keep their places."""
    results: dict[int, Embeddings] = {}
    given: dict[int, ReadT] = {}
    for index, value in enumerate(values):
        if isinstance(value, (EncodingError, MissingModality)):
            results[index] = value
        else:
            given[index] = value
    if given:
        results |= zip(given, embed(list(given.values())), strict=True)
    return [results[index] for index in range(len(values))]


def pool(sequence: NDArray[np.float32], pooling: Pooling = "mean+std") -> NDArray[np.float32]:
    """Compute the mean and population standard deviation over time, `[T, width] -> [2 * width]`, in float64.

    Args:
        sequence: `[T, width]`; T is 1 without pooling.
        pooling: `mean+std`, or `none` for the one vector as it is.

    Example:
        >>> pool(np.array([[0.0, 1.0], [2.0, 1.0]], dtype=np.float32)).tolist()
        [1.0, 1.0, 1.0, 0.0]
        >>> pool(np.array([[2.0, 1.0]], dtype=np.float32), "none").tolist()
        [2.0, 1.0]
    """
    if pooling == "none":
        return sequence[0].astype(np.float32)
    wide = np.asarray(sequence, dtype=np.float64)
    return np.concatenate([wide.mean(axis=0), wide.std(axis=0)]).astype(np.float32)
