"""What names a vector or a sequence: the encoder that made it, and what it was made from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mmpsr.config import base_of
from mmpsr.files import sha256_of

__all__ = ["IN_TIME", "EncoderSpec", "SequenceSpec", "TimedSpec", "cap_of", "rate_of", "source_of"]

IN_TIME = " in time"
"""Ends what summaries and ledgers call values in time, after their modality."""
_TIMED_KEY = re.compile(r".*-[0-9a-f]{12}-frames-(own|[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)")
_SEQUENCE_KEY = re.compile(r".*-[0-9a-f]{12}-sequence-(\d+)")


@dataclass(frozen=True)
class EncoderSpec:
    """What names an encoder's vectors in the store, known without its weights; `encoders.base.Encoder.spec` makes it.

    Attributes:
        id: name in the catalogue.
        version: the encoder's own version.
        modality: what it describes, as the configuration names it: a modality, or a view of one as `text.lexica`.
        width: width of one embedding.
        settings: everything else that decides the vectors.
        fingerprint: twelve hexadecimal digits over all of these.
        pooling: how embeddings become a vector, see `encoders.base.pool`.
    """

    id: str
    version: int
    modality: str
    width: int
    settings: Mapping[str, object] = field(compare=False)
    fingerprint: str
    pooling: str = "mean+std"

    @property
    def subject(self) -> str:
        """What summaries and ledgers call that which is stored."""
        return self.modality

    @property
    def base(self) -> str:
        """The modality in whose folder vectors lie: they are the same whether an encoder has it alone or is a view.

        Example:
            >>> EncoderSpec("lexica", 1, "text.lexica", 26, {}, "0123456789ab").base
            'text'
        """
        return base_of(self.modality)

    @property
    def vector_width(self) -> int:
        """Width of a stored vector: mean and standard deviation, or the one embedding without pooling."""
        return self.width if self.pooling == "none" else 2 * self.width

    @property
    def key(self) -> str:
        """Name of the encoder's folder: its id made safe for paths, and the fingerprint.

        Example:
            >>> EncoderSpec("openai/clip", 1, "video", 512, {}, "0123456789ab").key
            'openai_clip-0123456789ab'
        """
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', self.id).lstrip('._')}-{self.fingerprint}"

    def sequences(self, cap: int) -> SequenceSpec:
        """Name this encoder's sequences of at most `cap` elements."""
        return SequenceSpec(**vars(self), cap=cap)

    def in_time(self, rate: float | None, settings: Mapping[str, object]) -> TimedSpec:
        """Name what this encoder gives in time.

        Args:
            rate: frames per second; None is each file's own.
            settings: what decides it besides the encoder's own settings.
        """
        fingerprint = sha256_of(json.dumps([self.fingerprint, dict(settings)], sort_keys=True))[:12]
        whole = {**self.settings, "in time": dict(settings)}
        own = {**vars(self), "settings": whole, "fingerprint": fingerprint}
        return TimedSpec(**own, rate="own" if rate is None else f"{rate:.12g}")


@dataclass(frozen=True)
class SequenceSpec(EncoderSpec):
    """What names an encoder's sequences in the store; another cap is another folder.

    Attributes:
        cap: most elements of a sequence, see `encoders.sequences.shorten`.
    """

    cap: int = field(kw_only=True)

    @property
    def subject(self) -> str:
        """What summaries and ledgers call that which is stored, such as `text sequences`."""
        return f"{self.modality} sequences"

    @property
    def key(self) -> str:
        """Name of the folder, beside that of the vectors.

        Example:
            >>> EncoderSpec("openai/clip", 1, "video", 512, {}, "0123456789ab").sequences(64).key
            'openai_clip-0123456789ab-sequence-64'
        """
        return f"{super().key}-sequence-{self.cap}"


@dataclass(frozen=True)
class TimedSpec(EncoderSpec):
    """What names an encoder's values in time in the store; another rate is another folder.

    Attributes:
        rate: frames per second as configured, `own` for each file's own.
    """

    rate: str = field(kw_only=True)

    @property
    def subject(self) -> str:
        """What summaries and ledgers call that which is stored, such as `text in time`."""
        return self.modality + IN_TIME

    @property
    def key(self) -> str:
        """Name of the folder, beside that of the vectors; its fingerprint covers what decides values in time, too.

        Example:
            >>> EncoderSpec("openai/clip", 1, "video", 512, {}, "0123456789ab").in_time(None, {}).key
            'openai_clip-c2a14f11c2c2-frames-own'
        """
        return f"{super().key}-frames-{self.rate}"


def rate_of(key: str) -> str | None:
    """Return the rate of values in time, by the name of an encoder's folder; None for other folders.

    Example:
        >>> rate_of("openai_clip-0123456789ab-frames-own"), rate_of("openai_clip-0123456789ab-frames-12.5")
        ('own', '12.5')
    """
    match = _TIMED_KEY.fullmatch(key)
    return None if match is None else match[1]


def cap_of(key: str) -> int | None:
    """Return the most elements of a sequence, by the name of an encoder's folder; None for a folder of vectors.

    Example:
        >>> cap_of("openai_clip-0123456789ab-sequence-64"), cap_of("openai_clip-0123456789ab")
        (64, None)
    """
    match = _SEQUENCE_KEY.fullmatch(key)
    return None if match is None else int(match[1])


def source_of(clip: Mapping[str, Any], modality: str) -> str:
    """Compute twelve hexadecimal digits over what a clip's vector of one modality is made from.

    Video: the media file's size, start and end, and where there is a fallback, those of it. Audio: the same, and
    where there is a separate sound file, those of it. Text: the transcript; where there is none, what audio is made
    from (a transcript may be made from it). Behavior: the description, the transcript, and what video and audio are
    made from. A path does not count, so that a corpus may move; a file that is not there counts as size -1.

    Args:
        clip: a row of the clip table with the columns `media`, `start`, `end`, `text` and `description`; the columns
            of a fallback and of a sound file may be absent.
        modality: `video`, `audio`, `text` or `behavior`.
    """
    text, description = _text(clip["text"]), _text(clip["description"])
    parts: list[object] = [text] if modality == "text" else [text, description] if modality == "behavior" else []
    if modality != "text" or text is None:
        parts += [_size(clip["media"]), _seconds(clip["start"]), _seconds(clip["end"])]
        for kind in ("fallback",) if modality == "video" else ("fallback", "audio"):
            if _text(clip.get(f"{kind}_media")) is not None:
                span = _seconds(clip.get(f"{kind}_start")), _seconds(clip.get(f"{kind}_end"))
                parts.append([kind, _size(clip[f"{kind}_media"]), *span])
    return sha256_of(json.dumps(parts))[:12]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _seconds(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _size(media: Any) -> int | None:
    if pd.isna(media):
        return None
    try:
        return os.stat(str(media)).st_size
    except OSError:
        return -1
