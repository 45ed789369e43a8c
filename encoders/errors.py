"""What can go wrong between a clip and its vector: for one (`EncodingError`, `MissingModality`), or for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmpsr.errors import UserError

__all__ = ["EncodingError", "ExtractionError", "Failure", "MissingModality", "NothingThere", "StoreError"]


class EncodingError(Exception):
    """An encoder could not turn a clip into vectors although the modality is given; the message is the reason."""


class NothingThere(EncodingError):  # noqa: N818  what is said of a file that is in order
    """A media file can be read and holds nothing of a kind: no stream of it, or silence; the message says what."""


class MissingModality(Exception):  # noqa: N818  absence is not an error
    """The clip has nothing of this modality (no media file, no transcript); the message says what is missing."""


class ExtractionError(UserError):
    """Extraction cannot go on, and not for a single clip's sake; the message says why and what to do."""


@dataclass(frozen=True)
class Failure:
    """Why a clip has no vector: `failed` (it should have one) or `absent` (it has nothing of this modality).

    Attributes:
        status: either of them.
        reason: why.
        figures: what was measured of its media nevertheless.
    """

    status: str
    reason: str
    figures: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return the failure that an exception means; one that no encoder foresaw keeps the name of its class."""
        if isinstance(error, MissingModality):
            return cls("absent", str(error))
        return cls("failed", str(error) if isinstance(error, EncodingError) else f"{type(error).__name__}: {error}")


class StoreError(UserError):
    """The feature store cannot be used; the message says what was found, where, and what to do."""
