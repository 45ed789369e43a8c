"""Transcripts that lie beside a recording: SubRip, WebVTT and plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

from mmpsr.errors import UserError

__all__ = ["TRANSCRIPT_SUFFIXES", "Cue", "Transcript", "TranscriptError", "read_transcript"]

TRANSCRIPT_SUFFIXES = (".srt", ".vtt", ".txt")

_MOMENT = r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_TIMES = re.compile(rf"\s*{_MOMENT}\s*-->\s*{_MOMENT}(?:\s.*)?")
_TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


class TranscriptError(UserError):
    """A transcript that cannot be read; the message names the file and says what was found."""


@dataclass(frozen=True)
class Cue:
    """Words that stand together, and the seconds into the recording at which they are said."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """What is said in a recording.

    Attributes:
        text: all of it.
        cues: its parts with their seconds; none where the file gives no seconds.
    """

    text: str
    cues: tuple[Cue, ...] = ()

    def between(self, start: float, end: float) -> str:
        """Join the words said from `start` to before `end`, see `words`.

        Example:
            >>> Transcript("a b c d", (Cue(0.0, 4.0, "a b c d"),)).between(1.0, 3.0)
            'b c'
        """
        return " ".join(word for word, *_ in self.words(start, end))

    def words(self, start: float, end: float) -> list[tuple[str, float, float]]:
        """List the words whose middle lies from `start` to before `end`, with their seconds counted from `start`.

        A cue's words share its time evenly.

        Example:
            >>> Transcript("a b c d", (Cue(0.0, 4.0, "a b c d"),)).words(1.0, 3.0)
            [('b', 0.0, 1.0), ('c', 1.0, 2.0)]
        """
        words_said = []
        for cue in self.cues:
            words = cue.text.split()
            step = (cue.end - cue.start) / max(len(words), 1)
            for number, word in enumerate(words):
                first = cue.start + number * step
                if start <= first + step / 2 < end:
                    words_said.append((word, first - start, first + step - start))
        return words_said


def read_transcript(path: Path) -> Transcript:
    """Read a transcript; what its suffix says decides how.

    Args:
        path: a UTF-8 file `.srt`, `.vtt` or `.txt`.

    Raises:
        TranscriptError: it cannot be read, is not UTF-8, or a file of subtitles holds no line of times, or a cue that
            ends before it begins.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise TranscriptError(f"{path}: is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise TranscriptError(f"{path}: cannot be read ({error.strerror})") from None
    if path.suffix.lower() == ".txt":
        return Transcript(" ".join(content.split()))
    cues = tuple(_cues(content, path))
    if not cues and content.removeprefix("WEBVTT").strip():
        raise TranscriptError(f"{path}: has no line of times such as 00:00:01,000 --> 00:00:02,500")
    return Transcript(" ".join(cue.text for cue in cues), cues)


def _cues(content: str, path: Path) -> Iterator[Cue]:
    """Every line of times with the lines below it, up to an empty one; numbers, notes and styles are passed over."""
    lines = iter(content.splitlines())
    for line in lines:
        times = _TIMES.fullmatch(line)
        if times is None:
            continue
        start, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
        if end < start:
            raise TranscriptError(f"{path}: a cue ends before it begins: {line.strip()!r}")
        lines_said = []
        for words in lines:
            if not words.strip():
                break
            lines_said.append(unescape(_TAG.sub("", words)))
        text = " ".join(" ".join(lines_said).split())
        if text:
            yield Cue(start, end, text)


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + int(seconds or 0) + float(f"0.{fraction}")
