"""`ClipMedia`: what encoders are given for one clip. Media are decoded when first asked for, and once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from encoders.decoding import read_audio
from encoders.encoder import Absent, EncodingError
from encoders.frames import read_frames

__all__ = ["ClipMedia"]

ResultT = TypeVar("ResultT")

_SILENCE = 2.0**-15  # one step of 16-bit audio


@dataclass(eq=False)
class ClipMedia:
    """One clip's media and texts, shared by the encoders that describe it.

    Everything decoded or derived is kept until `release`, failures included, so that four encoders open a broken
    file once. Arrays are read-only, because they are shared.

    Attributes:
        corpus: name of the clip's corpus.
        clip_id: unique within the corpus.
        media: video or audio file, or None where the corpus gives none.
        start: seconds into the file where the clip starts; None is its beginning.
        end: seconds into the file where the clip ends; None is its end.
        text: transcript, or None.
        description: described behaviour that came with the corpus, or None.
        notes: sentences that encoders leave about their own work, by encoder id; the store keeps them.

    Example:
        >>> clip = ClipMedia("meld", "dia0_utt0", text="Oh my God.", end=3.2)
        >>> clip.text
        'Oh my God.'
        >>> clip.frames(4)
        Traceback (most recent call last):
        encoders.encoder.Absent: no media file
    """

    corpus: str = ""
    clip_id: str = ""
    media: Path | None = None
    start: float | None = None
    end: float | None = None
    text: str | None = None
    description: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    _kept: dict[Hashable, object] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> ClipMedia:
        """From a row of a clip table; `pd.NA`, NaN, None, blank text and absent columns all mean missing.

        Example:
            >>> ClipMedia.from_row({"corpus": "a", "clip_id": "1", "media": "x.mp4", "start": float("nan")}).start
        """

        def text(name: str) -> str | None:
            value = row.get(name)
            return value if isinstance(value, str) and value.strip() else None

        def seconds(name: str) -> float | None:
            value = row.get(name)
            if isinstance(value, (int, float, np.number)) and np.isfinite(value):
                return float(value)
            return None

        media = text("media")
        return cls(
            corpus=text("corpus") or "",
            clip_id=text("clip_id") or "",
            media=None if media is None else Path(media),
            start=seconds("start"),
            end=seconds("end"),
            text=text("text"),
            description=text("description"),
        )

    def cached(self, key: Hashable, compute: Callable[[], ResultT]) -> ResultT:
        """The result of `compute`, computed once per key; `EncodingError` and `Absent` are kept and raised again."""
        if key not in self._kept:
            try:
                self._kept[key] = compute()
            except (EncodingError, Absent) as reason:
                self._kept[key] = reason
        kept = self._kept[key]
        if isinstance(kept, (EncodingError, Absent)):
            raise kept.with_traceback(None)
        return cast(ResultT, kept)

    def release(self) -> None:
        """Forget everything decoded and derived; it is decoded anew if asked for again."""
        self._kept.clear()

    def _file(self) -> Path:
        if self.media is None:
            raise Absent("no media file")
        return self.media

    def frames(self, num_frames: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Uniformly spaced frames of the clip, see `encoders.frames.read_frames`.

        Args:
            num_frames: frames asked for, at least 1; a clip that holds fewer gives each once.

        Returns:
            RGB frames `[T, H, W, 3]` and the seconds `[T]` into the file at which they are shown.

        Raises:
            Absent: the corpus gives no media file.
            EncodingError: the file cannot be read, has no video, or does not hold the span.
        """

        def read() -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
            frames, seconds = read_frames(self._file(), self.start, self.end, num_frames)
            frames.setflags(write=False)
            seconds.setflags(write=False)
            return frames, seconds

        return self.cached(("frames", num_frames), read)

    def waveform(self, rate: int) -> NDArray[np.float32]:
        """Mono samples `[N]` of the clip as loud as they are in the file (full scale is 1).

        Args:
            rate: samples per second of the result.

        Raises:
            Absent: the corpus gives no media file.
            EncodingError: the file cannot be read, has no audio, does not hold the span, or is digital silence: no
                sample reaches one step of 16-bit audio, `2 ** -15`.
        """

        def read() -> NDArray[np.float32]:
            samples = read_audio(self._file(), self.start, self.end, rate)
            peak = float(np.abs(samples).max(initial=0.0))
            if peak < _SILENCE:
                seconds = len(samples) / rate
                raise EncodingError(f"{self.media}: audio is digital silence ({seconds:.1f} s, peak {peak:.1e})")
            samples.setflags(write=False)
            return samples

        return self.cached(("waveform", rate), read)

    def peak(self, rate: int) -> float:
        """Largest absolute sample of `waveform`, what `audio` is divided by; above 0."""
        return float(np.abs(self.waveform(rate)).max())

    def audio(self, rate: int) -> NDArray[np.float32]:
        """Mono samples `[N]` divided by their peak, no other normalisation; raises as `waveform` does."""

        def normalise() -> NDArray[np.float32]:
            samples = self.waveform(rate) / np.float32(self.peak(rate))
            samples.setflags(write=False)
            return samples

        return self.cached(("audio", rate), normalise)
