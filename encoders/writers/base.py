"""What a model that writes texts about clips is."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from encoders.catalogue.checkpoint import Checkpoint
from encoders.errors import ExtractionError, Failure
from encoders.media.clip import ClipMedia
from encoders.spec import EncoderSpec, source_of
from encoders.store.text_store import TEXTS, Written
from mmpsr.files import sha256_of

__all__ = ["TextWriter", "write_batch"]


class TextWriter(ABC):
    """Writes one kind of text about clips. Constructors are light; `load` brings the weights to the device.

    Args:
        checkpoint: of the model.
        batch_size: clips given to `write` at once.
        overwrite: write also about clips that have a text of this kind.
        device: where the model runs.
        dtype: `float32`, `float16` or `bfloat16`.
    """

    kind: ClassVar[str]
    """`transcript` or `description`."""
    column: ClassVar[str]
    """Column of the clip table that the texts go to."""
    modality: ClassVar[str]
    """What the texts are made from, see `encoders.spec.source_of`."""
    version: ClassVar[int] = 1
    """Raised whenever the same clip would give another text; part of the fingerprint."""
    is_loaded: bool = False
    """Whether this instance has its weights, so that `load` need not be called again."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        batch_size: int,
        overwrite: bool = False,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.checkpoint = checkpoint
        self.batch_size = batch_size
        self.overwrite = overwrite
        self.device, self.dtype = device, dtype

    @abstractmethod
    def settings(self) -> Mapping[str, object]:
        """List everything besides kind and version that decides the texts: weights, prompt, frames."""

    @property
    def spec(self) -> EncoderSpec:
        """What names the texts in the store.

        Precision is no part of it: in half precision a model may word a text differently, but a text that is stored
        stays, wherever it was written.
        """
        settings = dict(self.settings())
        identity = {"kind": self.kind, "version": self.version, "settings": settings}
        fingerprint = sha256_of(json.dumps(identity, sort_keys=True))[:12]
        return EncoderSpec(
            f"{self.kind}-{self.checkpoint.model}", self.version, TEXTS, 0, settings, fingerprint, "none"
        )

    def source(self, clip: Mapping[str, Any]) -> str:
        """Compute twelve hexadecimal digits over what the clip's text is made from: sizes and spans of its media."""
        return source_of(clip, self.modality)

    @abstractmethod
    def load(self) -> None:
        """Load the model to the device.

        Raises:
            ExtractionError: it is not here and cannot be fetched, or cannot be used.
        """

    def load_reader(self) -> None:  # noqa: B027  most need nothing
        """Load what `prepare` needs, and no weights, in a process that does nothing else; errors as of `load`."""

    @abstractmethod
    def prepare(self, clip: ClipMedia) -> Any:
        """Read what a model needs of a clip, after `load` or `load_reader`.

        Raises:
            MissingModality: the clip has nothing of it.
            EncodingError: it has, and cannot be read.
        """

    @abstractmethod
    def write(self, prepared: Sequence[Any]) -> list[Written | Failure]:
        """Write a text per prepared clip, or why there is none, whatever the other clips are, beyond rounding."""


def write_batch(writer: TextWriter, prepared: Sequence[Any]) -> list[Written | Failure]:
    """Write about prepared clips; a batch that cannot be worked on is halved until one clip is at fault.

    Raises:
        ExtractionError: memory does not suffice for a single clip.
    """
    if not prepared:
        return []
    try:
        return writer.write(prepared)
    except ExtractionError:
        raise
    except Exception as error:
        if len(prepared) > 1:
            middle = len(prepared) // 2
            return write_batch(writer, prepared[:middle]) + write_batch(writer, prepared[middle:])
        if type(error).__name__ == "OutOfMemoryError":
            raise ExtractionError(
                f"{writer.checkpoint.user}: {writer.checkpoint.model} runs out of memory with a single clip on "
                f"{writer.device} in {writer.dtype}; use a smaller model, half precision or another device"
            ) from error
        return [Failure("failed", f"{type(error).__name__}: {error}")]
