"""Transcripts that lie beside a recording: SubRip, WebVTT and plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import unescape
from itertools import pairwise
from pathlib import Path

from mmpsr.delimited import decode_table, text_lines
from mmpsr.errors import UserError

__all__ = ["TRANSCRIPT_SUFFIXES", "Cue", "Transcript", "TranscriptError", "read_transcript"]

TRANSCRIPT_SUFFIXES = (".srt", ".vtt", ".txt")

NEAR_SECONDS = 0.5
"""Longest pause after which a cue can still show lines of the one before again."""
SURE_WORDS = 3
"""Words that nobody says twice in a row by chance, at the beginning of a cue."""
_MOMENT = r"(?:(\d+):)?(\d{1,2}):(\d{2})(?:[.,](\d{1,9}))?"
_TIMES = re.compile(rf"\s*{_MOMENT}\s*-->\s*{_MOMENT}(?:\s.*)?")
_LIKE_TIMES = re.compile(r"\s*\d+:\d\d\S*\s*(?:[-\u2013\u2014]+>|\u2192)\s*\d+:\d\d.*")
_WORD_TIME = re.compile(rf"<{_MOMENT}>")
_BREAK = re.compile(r"<[Bb][Rr]\s*/?>|\\[Nnh]")
_TAG = re.compile(
    r"</?(?:b|c|em|font|i|lang|p|rp|rt|ruby|s|span|strong|u|v)(?:[\s.][^<>]*)?/?>|\{\\[^{}]*\}", re.IGNORECASE
)
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uffef"
"""Signs of languages without blanks between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_BETWEEN_UNSPACED = re.compile(rf"(?<=[{_UNSPACED}]) (?=[{_UNSPACED}])")


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
        note: a sentence on what was done to the file, where it is not taken as it is.
    """

    text: str
    cues: tuple[Cue, ...] = ()
    note: str | None = None

    def between(self, start: float, end: float) -> str:
        """Join the words said from `start` to before `end`, see `words`.

        Example:
            >>> Transcript("a b c d", (Cue(0.0, 4.0, "a b c d"),)).between(1.0, 3.0)
            'b c'
        """
        return _BETWEEN_UNSPACED.sub("", " ".join(word for word, *_ in self.words(start, end)))

    def words(self, start: float, end: float) -> list[tuple[str, float, float]]:
        """List the words whose middle lies from `start` to before `end`, with their seconds counted from `start`.

        A cue's words share its time evenly; in a language without blanks every sign is one.

        Example:
            >>> Transcript("a b c d", (Cue(0.0, 4.0, "a b c d"),)).words(1.0, 3.0)
            [('b', 0.0, 1.0), ('c', 1.0, 2.0)]
        """
        words_said = []
        for cue in self.cues:
            words = _WORD.findall(cue.text)
            step = (cue.end - cue.start) / max(len(words), 1)
            for number, word in enumerate(words):
                first = cue.start + number * step
                if start <= first + step / 2 < end:
                    words_said.append((word, first - start, first + step - start))
        return words_said


def read_transcript(path: Path) -> Transcript:
    """Read a transcript; what its suffix says decides how.

    Args:
        path: a file `.srt`, `.vtt` or `.txt` in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        TranscriptError: it cannot be read, is not UTF-8, or a file of subtitles holds no line of times, one that is
            written otherwise, or a cue that ends before it begins.
    """
    try:
        content = decode_table(path.read_bytes())
    except UnicodeDecodeError:
        raise TranscriptError(f"{path}: is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise TranscriptError(f"{path}: cannot be read ({error.strerror})") from None
    if path.suffix.lower() == ".txt":
        return Transcript(" ".join(content.split()))
    shown = sorted(_shown(content, path), key=lambda cue: cue.start)
    if not shown and content.removeprefix("WEBVTT").strip():
        raise TranscriptError(f"{path}: has no line of times such as 00:00:01,000 --> 00:00:02,500")
    said = without_repeats(list(dict.fromkeys(shown)))  # parts of a broadcast begin with the cues of the part before
    note = None if said == shown else f"{path}: captions that show lines again; each word is taken once"
    cues = tuple(part for cue in said for part in cue.parts() if part.text)
    return Transcript(" ".join(cue.text for cue in cues), cues, note)


@dataclass(frozen=True)
class _ShownCue:
    """Lines that stand on the screen together, in pieces of text with the second at which the first word is said."""

    start: float
    end: float
    lines: tuple[tuple[tuple[float | None, str], ...], ...]

    def words(self, first: int = 0) -> list[str]:
        """Words of the lines from the first on, without their case and punctuation."""
        words = [word for line in self.lines[first:] for _, text in line for word in _WORD.findall(text)]
        return ["".join(sign for sign in word.casefold() if sign.isalnum()) or word for word in words]

    def without(self, num_words: int) -> _ShownCue:
        """The cue without its first words."""
        lines = []
        for line in self.lines:
            pieces = []
            for moment, text in line:
                begins = [word.start() for word in _WORD.finditer(text)]
                if begins[num_words:]:
                    pieces.append((moment, text[begins[num_words] :]))
                num_words -= min(num_words, len(begins))
            if pieces:
                lines.append(tuple(pieces))
        return _ShownCue(self.start, self.end, tuple(lines))

    @property
    def num_moments(self) -> int:
        """Number of pieces with a time of their own."""
        return sum(moment is not None for line in self.lines for moment, _ in line)

    def parts(self) -> list[Cue]:
        """A cue for every stretch of words that has times of its own; moments outside the cue are its ends."""
        stretches: list[tuple[float, list[str]]] = [(self.start, [])]
        for moment, text in (piece for line in self.lines for piece in line):
            if moment is not None and moment > stretches[-1][0]:
                stretches.append((min(moment, self.end), []))
            stretches[-1][1].append(text)
        ends = [*(begin for begin, _ in stretches[1:]), self.end]
        return [
            Cue(begin, end, " ".join(" ".join(texts).split()))
            for (begin, texts), end in zip(stretches, ends, strict=True)
        ]


def without_repeats(cues: Sequence[_ShownCue]) -> list[_ShownCue]:
    """Take each word of roll-up captions once; other cues stay as they are.

    Roll-up captions show the last lines again and build the next below them, or grow a line word by word. Cues are
    taken for such where at least half of those that say something new begin with whole lines of the cue before; a
    single one does where words have times of their own, or it shows at least three words again. A cue that only shows
    lines again (for a moment, while they move up) adds nothing then. After a pause, lines are shown again only where
    they have no times and what follows them has. Words are the same whatever their case and punctuation.
    """
    carried = [0] * len(cues[:1])
    for last, cue in pairwise(cues):
        words, near = cue.words(), cue.start - last.end <= NEAR_SECONDS
        tails = (last.words(line) for line in range(len(last.lines)))
        again = next((len(tail) for tail in tails if tail and words[: len(tail)] == tail), 0)
        is_shown_again = near or cue.without(again).num_moments == cue.num_moments > 0
        carried.append(again if is_shown_again else 0)
    num_words = [len(cue.words()) for cue in cues]
    grown = [again for again, num in zip(carried, num_words, strict=True) if 0 < again < num]
    fresh = sum(num > again for again, num in zip(carried[1:], num_words[1:], strict=True))
    timed = any(cue.num_moments for cue in cues)
    if not grown or len(grown) < 0.5 * fresh or not (timed or len(grown) > 1 or max(grown) >= SURE_WORDS):
        return list(cues)
    return [cue.without(again) if again else cue for again, cue in zip(carried, cues, strict=True)]


def _shown(content: str, path: Path) -> Iterator[_ShownCue]:
    """Every line of times with the lines below it; numbers, notes and styles are passed over.

    A cue of WebVTT ends at an empty line (one of blanks is shown); one of SubRip at the next line of times, or the
    number before that.
    """
    lines = [line.rstrip("\r\n") for line in text_lines(content)]
    places = [place for place, line in enumerate(lines) if _TIMES.fullmatch(line)]
    for number, line in enumerate(lines, start=1):
        if _LIKE_TIMES.fullmatch(line) and not _TIMES.fullmatch(line):
            raise TranscriptError(
                f"{path}, line {number}: {line.strip()!r} is written otherwise than 00:00:01,000 --> 00:00:02,500"
            )
    for place, next_place in pairwise([*places, len(lines)]):
        times = _TIMES.fullmatch(lines[place])
        assert times is not None
        start, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
        if end < start:
            raise TranscriptError(f"{path}: a cue ends before it begins: {lines[place].strip()!r}")
        below = lines[place + 1 : next_place]
        if path.suffix.lower() == ".vtt" and "" in below:
            below = below[: below.index("")]
        elif next_place < len(lines) and _is_number(below, lines[place - 1] if place else ""):
            below = below[:-1]
        shown = tuple(pieces for line in below if (pieces := _pieces(line)))
        if shown:
            yield _ShownCue(start, end, shown)


def _is_number(below: Sequence[str], before: str) -> bool:
    """Whether the last line below a cue's times is the number of the next: after a blank line, or the one to follow."""
    if not below or not below[-1].strip().isdecimal():
        return False
    follows = before.strip().isdecimal() and int(below[-1]) == int(before) + 1
    return follows or (len(below) > 1 and not below[-2].strip())


def _pieces(line: str) -> tuple[tuple[float | None, str], ...]:
    """Text of a line between its times, without tags; a time belongs to the words that begin after it."""
    first, *timed = _WORD_TIME.split(line)
    parts: list[tuple[float | None, str]] = [(None, first)]
    for place in range(0, len(timed), 5):
        parts.append((_seconds(tuple(timed[place : place + 4])), timed[place + 4]))
    texts: list[tuple[float | None, str]] = []
    for moment, part in parts:
        text = unescape(_TAG.sub("", _BREAK.sub(" ", part)))
        before = texts[-1][1] if texts else ""
        if before[-1:].strip() and text[:1].strip() and not _BETWEEN_UNSPACED.search(f"{before[-1]} {text[0]}"):
            syllable = text.split(maxsplit=1)[0]  # it ends a word
            texts[-1] = texts[-1][0], before + syllable
            text = text[len(syllable) :]
            if not text:
                continue
        texts.append((moment, text))
    return tuple((moment, " ".join(text.split())) for moment, text in texts if text.strip())


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + int(seconds or 0) + float(f"0.{fraction or 0}")
