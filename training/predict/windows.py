"""Recordings cut into windows, as rows of a clip table; nothing is decoded here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from corpora.clips import conform
from encoders.errors import EncodingError
from encoders.media.decoding import duration_of, opened
from mmpsr.files import sha256_of
from training.predict.inputs import InputError, Recording

__all__ = ["CORPUS", "TEXT_ALONE", "clip_of_text", "clips_of", "cut", "length_of"]

CORPUS = "predicted"
"""Name under which the feature store keeps recordings that belong to no corpus."""
TEXT_ALONE = "text"
"""What a text without a recording is called."""
_LEAST_REST = 0.1  # of a window; less of a recording's end is no window of its own
_NO_SECONDS = "the transcript has no seconds, so it cannot be divided among windows; give .srt or .vtt"


def cut(start: float, end: float, length: float, hop: float) -> list[tuple[float, float]]:
    """Cut windows that cover a span: one every `hop` seconds, and a last one that ends with it.

    A span that is no longer than a window is one window. A rest of up to a tenth of a window belongs to the last one:
    a window of its own would say the same again, of nearly the same seconds.

    Args:
        start: of the span, in seconds.
        end: of the span.
        length: of a window.
        hop: from one window's start to the next; at most `length`.

    Example:
        >>> cut(0.0, 25.0, 10.0, 10.0)
        [(0.0, 10.0), (10.0, 20.0), (15.0, 25.0)]
        >>> cut(0.0, 8.0, 10.0, 10.0)
        [(0.0, 8.0)]
        >>> cut(0.0, 8.008, 4.0, 4.0)
        [(0.0, 4.0), (4.0, 8.008)]
    """
    least = _LEAST_REST * length
    if end - start <= length + least:
        return [(start, end)]
    number = int((end - start - length) / hop + 1e-9)
    windows = [(start + index * hop, start + index * hop + length) for index in range(number + 1)]
    if windows[-1][1] < end - least:
        windows.append((end - length, end))
    else:
        windows[-1] = windows[-1][0], end
    return windows


def length_of(path: Path) -> float:
    """Measure the seconds that a media file lasts: its longest stream of pictures or sound.

    Raises:
        EncodingError: it cannot be opened, or has neither.
    """
    with opened(path) as container:
        streams = [*container.streams.video, *container.streams.audio]
        if not streams:
            raise EncodingError(f"{path}: has neither pictures nor sound")
        return max(duration_of(container, stream, path) for stream in streams)


def clips_of(recordings: Iterable[Recording], length: float | None = None, hop: float | None = None) -> pd.DataFrame:
    """Make a clip table of recordings: one row each, or one per window.

    Columns besides those of every clip table: `recording`, the recording's id, `words`, when each was said where
    captions tell, and `no_transcript`, why a clip has no text where more is known than that none was found. Ids are
    made from path, change time and span, so that a file that was replaced is another clip. A file that cannot be
    opened keeps one row: extraction says why.

    Args:
        recordings: with distinct ids.
        length: of windows in seconds; None for whole recordings.
        hop: from one window's start to the next; None is `length`.

    Raises:
        InputError: length or hop cannot be.
    """
    if length is None and hop is not None:
        raise InputError("a hop needs the length of windows")
    hop = length if hop is None else hop
    if length is not None and hop is not None and not 0.0 < hop <= length:
        raise InputError(f"windows of {length:g} s every {hop:g} s: lengths are above 0, a hop at most as long")
    rows = [row for recording in recordings for row in _rows(recording, length, hop)]
    frame = pd.DataFrame(rows, columns=None if rows else ["recording", "no_transcript", "words"])
    return conform(frame).astype({"recording": "string", "no_transcript": "string", "words": "string"})


def clip_of_text(text: str) -> pd.DataFrame:
    """Make a clip table, as `clips_of` does, of a text without a recording.

    Args:
        text: what is said.
    """
    row = {
        "corpus": CORPUS, "split": "test", "clip_id": sha256_of(text)[:16], "group": TEXT_ALONE, "text": text,
        "recording": TEXT_ALONE, "no_transcript": None, "words": None,
    }  # fmt: skip
    return conform(pd.DataFrame([row])).astype({"recording": "string", "no_transcript": "string", "words": "string"})


def _rows(recording: Recording, length: float | None, hop: float | None) -> Iterator[dict[str, object]]:
    spans: list[tuple[float | None, float | None]] = [(recording.start, recording.end)]
    if length is not None and hop is not None:
        try:
            seconds = length_of(recording.path)
        except EncodingError:
            pass
        else:
            windows = cut(recording.start or 0.0, min(recording.end or seconds, seconds), length, hop)
            spans = [*windows] if len(windows) > 1 else spans
    try:
        changed = recording.path.stat().st_mtime_ns
    except OSError:
        changed = 0
    description = recording.description if len(spans) == 1 else None  # nobody says of which window it is
    for start, end in spans:
        text, reason = _text(recording, start, end, len(spans))
        words = [] if recording.transcript is None else recording.transcript.words(start or 0.0, end or float("inf"))
        name = f"{recording.path.absolute()} {changed} {start} {end}"
        media = str(recording.path) if recording.has_media else None
        yield {
            "corpus": CORPUS, "split": "test", "clip_id": sha256_of(name)[:16],
            "media": media, "start": start, "end": end, "group": recording.id, "group_kind": "video",
            "text": text, "description": description, "recording": recording.id, "no_transcript": reason,
            "words": json.dumps(words, ensure_ascii=False) if words else None,
        }  # fmt: skip


def _text(
    recording: Recording, start: float | None, end: float | None, num_spans: int
) -> tuple[str | None, str | None]:
    """Find what is said in a span, or why that is not known."""
    transcript = recording.transcript
    if transcript is None:
        return None, recording.no_transcript
    if not transcript.cues:
        return (transcript.text, None) if num_spans == 1 else (None, _NO_SECONDS)
    if start is None and end is None:
        return transcript.text, None
    text = transcript.between(start or 0.0, float("inf") if end is None else end)
    return text or None, None if text else "the transcript has no words in this span"
