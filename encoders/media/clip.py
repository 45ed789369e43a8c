"""`ClipMedia`: what encoders are given for one clip. Media are decoded when first asked for, and once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from encoders.errors import EncodingError, MissingModality, NothingThere
from encoders.media.audio import is_silent, read_audio
from encoders.media.decoding import duration_of, opened, span_of, stream_of
from encoders.media.every_frame import See, show_every_frame
from encoders.media.frames import read_frames
from encoders.timed import Grid

__all__ = ["BLACK_LUMA", "BLACK_SPREAD", "SOUND_RATE", "ClipMedia", "Span", "is_black"]

ResultT = TypeVar("ResultT")

BLACK_LUMA = 8.0
"""A black frame's mean luma (Rec. 601, 0 to 255) lies below this."""
BLACK_SPREAD = 2.0
"""The standard deviation of luma over a black frame's pixels lies below this; a dark scene's lies above."""
SOUND_RATE = Fraction(25)
"""Frames per second of a clip that has sound and no pictures, where no rate is asked for."""
_LOOKS = 12  # frames by which a file is told to be black
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

Span = tuple[Path, float | None, float | None]
"""A file, and the seconds into it where the clip starts and ends; None is its beginning or end."""


def is_black(frames: NDArray[np.uint8]) -> bool:
    """Whether every frame `[T, H, W, 3]` is black: dark on average and nearly the same everywhere.

    Every fourth pixel of both directions is looked at.

    Example:
        >>> is_black(np.full((2, 8, 8, 3), 7, np.uint8)), is_black(np.full((2, 8, 8, 3), 8, np.uint8))
        (True, False)
    """
    luma = frames[:, ::4, ::4] @ _LUMA
    return bool((luma.mean(axis=(1, 2)) < BLACK_LUMA).all() and (luma.std(axis=(1, 2)) < BLACK_SPREAD).all())


@dataclass(eq=False)
class ClipMedia:
    """One clip's media and texts, shared by the encoders that describe it.

    Everything decoded or derived is kept until `release`, failures included, so that four encoders open a broken
    file once. Arrays are read-only, because they are shared.

    Pictures come from `media`; where it cannot be decoded or is black, from `fallback_media`. Sound comes from
    `audio_media`, then `media`, then `fallback_media`: the first of those given that can be read and is not silent.
    `take_note` tells of every file that was passed over, and of what was done to sound and pictures; `take_figures` of
    what was measured of them.

    Attributes:
        corpus: name of the clip's corpus.
        clip_id: unique within the corpus.
        media: video or audio file, or None where the corpus gives none.
        start: seconds into the file where the clip starts; None is its beginning.
        end: seconds into the file where the clip ends; None is its end.
        audio_media: separate sound file, or None where the sound is that of the media.
        audio_start: seconds into the sound file where the clip starts; None is its beginning.
        audio_end: seconds into the sound file where the clip ends; None is its end.
        fallback_media: file to use where the media cannot be, or None.
        fallback_start: seconds into the fallback where the clip starts; None is its beginning.
        fallback_end: seconds into the fallback where the clip ends; None is its end.
        faces: folder of face pictures that came with the corpus, or None.
        text: transcript, or None.
        context: what was said before in the same dialogue, oldest first, a line per utterance, or None.
        words: word, start and end in seconds from the clip's beginning, of each word of the transcript, or None.
        description: described behaviour that came with the corpus, or None.
        row: the clip table's row that this was made from, for what stands in other columns.
        notes: sentences that encoders leave about their own work, by encoder id.

    Example:
        >>> clip = ClipMedia("meld", "dia0_utt0", text="Oh my God.", end=3.2)
        >>> clip.text
        'Oh my God.'
        >>> clip.frames(4)
        Traceback (most recent call last):
        encoders.errors.MissingModality: no media file
    """

    corpus: str = ""
    clip_id: str = ""
    media: Path | None = None
    start: float | None = None
    end: float | None = None
    audio_media: Path | None = None
    audio_start: float | None = None
    audio_end: float | None = None
    fallback_media: Path | None = None
    fallback_start: float | None = None
    fallback_end: float | None = None
    faces: Path | None = None
    text: str | None = None
    context: str | None = None
    words: Sequence[tuple[str, float, float]] | None = None
    description: str | None = None
    row: Mapping[str, object] = field(default_factory=dict, repr=False)
    notes: dict[str, str] = field(default_factory=dict)
    _kept: dict[Hashable, tuple[object, dict[str, None], dict[str, Any]]] = field(
        default_factory=dict, init=False, repr=False
    )
    _remarks: dict[str, None] = field(default_factory=dict, init=False, repr=False)
    _figures: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _sampled: dict[int, tuple[Path, NDArray[np.uint8], NDArray[np.float64]]] = field(
        default_factory=dict, init=False, repr=False
    )

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> ClipMedia:
        """From a row of a clip table; `pd.NA`, NaN, None, blank text and absent columns all mean missing.

        A column `words` holds JSON, `[[word, start, end], ...]`.

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

        def path(name: str) -> Path | None:
            value = text(name)
            return None if value is None else Path(value)

        words = json.loads(text("words") or "null")
        return cls(
            corpus=text("corpus") or "",
            clip_id=text("clip_id") or "",
            media=path("media"),
            start=seconds("start"),
            end=seconds("end"),
            audio_media=path("audio_media"),
            audio_start=seconds("audio_start"),
            audio_end=seconds("audio_end"),
            fallback_media=path("fallback_media"),
            fallback_start=seconds("fallback_start"),
            fallback_end=seconds("fallback_end"),
            faces=path("faces"),
            text=text("text"),
            context=text("context"),
            words=None if words is None else [(str(word), float(start), float(end)) for word, start, end in words],
            description=text("description"),
            row=row,
        )

    def cached(self, key: Hashable, compute: Callable[[], ResultT]) -> ResultT:
        """The result of `compute`, once per key; `EncodingError` and `MissingModality` are kept and raised again.

        What `take_note` and `take_figures` tell of it is kept with the result, and told again to whoever uses it later.
        """
        if key not in self._kept:
            outside = self._remarks, self._figures
            self._remarks, self._figures = {}, {}
            try:
                self._kept[key] = compute(), self._remarks, self._figures
            except (EncodingError, MissingModality) as reason:
                self._kept[key] = reason, self._remarks, self._figures
            finally:
                self._remarks, self._figures = outside
        kept, passed_over, measured = self._kept[key]
        self._remarks |= passed_over
        self._figures |= measured
        if isinstance(kept, (EncodingError, MissingModality)):
            raise kept.with_traceback(None)
        return cast(ResultT, kept)

    def release(self) -> None:
        """Forget everything decoded and derived; it is decoded anew if asked for again."""
        self._kept.clear()
        self._sampled.clear()

    def take_note(self, encoder_id: str) -> str | None:
        """What is to be kept beside an encoder's vector: its own note, and a line per remark on a file.

        Remarks are those on anything asked for since the last call: files passed over, channels and streams left out,
        gaps.
        """
        lines = [self.notes[encoder_id]] if encoder_id in self.notes else []
        lines += self._remarks
        self._remarks = {}
        return "\n".join(lines) or None

    def take_figures(self) -> dict[str, Any] | None:
        """Figures of the media to be kept beside an encoder's vector: those measured since the last call, or None."""
        figures, self._figures = self._figures, {}
        return figures or None

    def _first_usable(
        self, spans: Sequence[Span], read: Callable[[Path, float | None, float | None], ResultT]
    ) -> ResultT:
        """What the first file that can be used gives."""
        reasons: list[str] = []
        kind: type[EncodingError] = NothingThere
        for path, start, end in spans:
            try:
                result = read(path, start, end)
            except EncodingError as reason:
                reasons.append(str(reason))
                kind = kind if isinstance(reason, NothingThere) else EncodingError
                continue
            if reasons:
                self.remark(f"{'; then '.join(reasons)}; taken from {path}")
            return result
        raise kind("; then ".join(reasons)) if reasons else MissingModality("no media file")

    @property
    def videos(self) -> list[Span]:
        """Files and spans that pictures are taken from, first choice first."""
        return _given((self.media, self.start, self.end), (self.fallback_media, self.fallback_start, self.fallback_end))

    @property
    def sounds(self) -> list[Span]:
        """Files and spans that sound is taken from, first choice first."""
        return _given((self.audio_media, self.audio_start, self.audio_end), *self.videos)

    def remark(self, text: str) -> None:
        """Leave a remark on the clip's media; `take_note` tells of it to whoever uses what is being computed."""
        self._remarks[text] = None

    def measured(self, figures: Mapping[str, Any]) -> None:
        """Leave figures of the clip's media, JSON values by name; `take_figures` gives them as `take_note` remarks."""
        self._figures |= figures

    def video_seconds(self) -> float:
        """Seconds that the clip's pictures last, as their file states; 0 where none can be opened."""

        def measure() -> float:
            for path, start, end in self.videos:
                with suppress(EncodingError), opened(path) as container:
                    duration = duration_of(container, stream_of(container, path, "video"), path, is_spent=True)
                    first, last = span_of(path, start, end, duration, "video")
                    return last - first
            return 0.0

        return self.cached("video seconds", measure)

    def frames(self, num_frames: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Uniformly spaced frames of the clip, see `encoders.media.frames.read_frames`.

        Args:
            num_frames: frames asked for, at least 1; a clip that holds fewer gives each once.

        Returns:
            RGB frames `[T, H, W, 3]` and the seconds `[T]` into the file at which they are shown.

        Raises:
            MissingModality: the corpus gives no media file.
            EncodingError: the file cannot be read, has no video, or does not hold the span, or it is black although
                there is a fallback; and the fallback cannot be read either. All reasons are named.
        """
        videos = self.videos

        def read(path: Path, start: float | None, end: float | None) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
            notes: list[str] = []
            kept = self._sampled.get(num_frames)
            if kept is not None and kept[0] == path:
                _, frames, seconds = kept
            else:
                frames, seconds = read_frames(path, start, end, num_frames, notes)
            if (path, start, end) != videos[-1] and is_black(frames):
                raise EncodingError(f"{path}: every frame is black")
            for note in notes:
                self.remark(f"{path}: {note}")
            frames.setflags(write=False)
            seconds.setflags(write=False)
            return frames, seconds

        return self.cached(("frames", num_frames), lambda: self._first_usable(videos, read))

    def grid(self, rate: float | None) -> Grid:
        """Count the clip's frames, as `show_frames` does; those of its sound where it has no pictures."""
        return self.cached(("grid", rate), lambda: self._count_frames(rate))

    def _count_frames(self, rate: float | None) -> Grid:
        try:
            return self.cached(("shown", rate), lambda: self._show(rate, lambda: (), ()))
        except (NothingThere, MissingModality):
            if not self.sounds:
                raise

        def measure(path: Path, start: float | None, end: float | None) -> Grid:
            with opened(path) as container:
                duration = duration_of(container, stream_of(container, path, "audio"), path)
            first, last = span_of(path, start, end, duration, "audio")
            chosen = SOUND_RATE if rate is None else Fraction(str(rate))
            return Grid(max(1, math.ceil((last - first) * float(chosen) - 1e-6)), chosen, first)

        grid = self._first_usable(self.sounds, measure)
        if rate is None:
            self.remark(f"no pictures: {SOUND_RATE} frames per second of the sound")
        return grid

    def show_frames(self, rate: float | None, make: Callable[[], Sequence[See]], sampled: Collection[int]) -> Grid:
        """Show every frame of the clip, see `encoders.media.every_frame`, and keep some as `frames` gives them.

        Args:
            rate: frames per second; None is the file's own.
            make: makes what looks at the frames; called anew for each file that is tried.
            sampled: for which numbers of frames `frames` will be called.

        Raises:
            MissingModality: the corpus gives no media file.
            EncodingError: as of `frames`.
        """
        for kind in ("shown", "grid"):
            self._kept.pop((kind, rate), None)
        return self.cached(("shown", rate), lambda: self._show(rate, make, sampled))

    def _show(self, rate: float | None, make: Callable[[], Sequence[See]], sampled: Collection[int]) -> Grid:
        videos = self.videos

        def read(path: Path, start: float | None, end: float | None) -> Grid:
            notes: list[str] = []
            looks = {*sampled, *([] if (path, start, end) == videos[-1] else [_LOOKS])}
            grid, kept = show_every_frame(path, start, end, rate, make(), looks, notes)
            for number, (frames, seconds) in kept.items():
                if (path, start, end) != videos[-1] and is_black(frames):
                    raise EncodingError(f"{path}: every frame is black")
                frames.setflags(write=False)
                seconds.setflags(write=False)
                self._sampled[number] = path, frames, seconds
            for note in notes:
                self.remark(f"{path}: {note}")
            return grid

        return self._first_usable(videos, read)

    def waveform(self, rate: int) -> NDArray[np.float32]:
        """Mono samples `[N]` of the clip as loud as they are in the file (full scale is 1).

        Args:
            rate: samples per second of the result.

        Raises:
            MissingModality: the corpus gives no file.
            EncodingError: no file can be read, has audio, and holds the span; or it is silent: no sample
                reaches `SILENCE`. All reasons are named.
        """

        def read(path: Path, start: float | None, end: float | None) -> NDArray[np.float32]:
            notes: list[str] = []
            samples = read_audio(path, start, end, rate, notes)
            if is_silent(samples):
                seconds, peak = len(samples) / rate, float(np.abs(samples).max(initial=0.0))
                raise NothingThere(f"{path}: audio is silent ({seconds:.1f} s, peak {peak:.1e})")
            for note in notes:
                self.remark(f"{path}: {note}")
            samples.setflags(write=False)
            return samples

        return self.cached(("waveform", rate), lambda: self._first_usable(self.sounds, read))

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


def _given(*spans: tuple[Path | None, float | None, float | None]) -> list[Span]:
    return [(path, start, end) for path, start, end in spans if path is not None]
