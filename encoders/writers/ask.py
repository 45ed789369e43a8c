"""Questions about clips answered by a model, once each: answers stay in the store, as texts do.

calls (a clip or a chunk of it) -> what the store lacks -> model -> store -> an answer, or a reason why not, each
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pandas as pd

from encoders.config import FeaturesConfig
from encoders.errors import EncodingError, MissingModality
from encoders.media.clip import ClipMedia
from encoders.media.decoding import duration_of, opened, origin_of, packets_of, span_of, stream_of
from encoders.store.progress import ExtractionSummary
from encoders.store.queue import CLIP_COLUMNS, records_of
from encoders.store.text_store import TextStore, Written
from encoders.writers.base import TextWriter
from encoders.writers.work import WriterWork

__all__ = ["Answers", "FrameGrid", "ask", "chunk_clips", "frame_grid"]

_COLUMNS = [name for name in CLIP_COLUMNS if name not in ("faces", "context")]
_SPANS = (("start", "end"), ("fallback_start", "fallback_end"))
_TOLERANCE = 1e-4  # seconds; time stamps are rational numbers, spans are decimal


@dataclass(frozen=True)
class FrameGrid:
    """Frames of a clip: frame i is shown from start + i/rate seconds on.

    Attributes:
        num_frames: of the clip.
        rate: frames per second of the file.
        start: second of the media where the clip starts.
    """

    num_frames: int
    rate: Fraction
    start: float = 0.0

    def chunks(self, window: int) -> list[tuple[int, int]]:
        """Cut the frames into chunks of `window` without overlap, the last shorter: first frame, frame after the last.

        Example:
            >>> FrameGrid(20, Fraction(24)).chunks(8)
            [(0, 8), (8, 16), (16, 20)]
        """
        return [(begin, min(begin + window, self.num_frames)) for begin in range(0, self.num_frames, window)]


@dataclass(frozen=True)
class Answers:
    """What became of calls.

    Attributes:
        texts: by call, None where there is none.
        reasons: by call why there is none, empty where there is one.
        summary: counts of this process, and the ledger.
    """

    texts: list[str | None]
    reasons: list[str]
    summary: ExtractionSummary


def frame_grid(clip: ClipMedia) -> FrameGrid:
    """Count the frames of a clip, without decoding them, in the first of its files that can be opened.

    Raises:
        MissingModality: the corpus gives no media file.
        EncodingError: no file can be read, has a video with frames, and holds the span; all reasons are named.
    """
    reasons = []
    for path, start, end in clip.videos:
        try:
            with opened(path) as container:
                stream = stream_of(container, path, "video")
                first, last = span_of(path, start, end, duration_of(container, stream, path), "video")
                rate, origin = stream.average_rate or stream.guessed_rate, origin_of(container)
                shown = [
                    float(packet.pts * packet.time_base) - origin
                    for packet in packets_of(container, stream)
                    if packet.size and packet.pts is not None and not packet.is_discard
                ]
                number = sum(first - _TOLERANCE <= second < last - _TOLERANCE for second in shown)
            if number and rate:
                return FrameGrid(number, Fraction(rate), 0.0 if start is None else start)
            reasons.append(f"{path}: no frame between {first:g} s and {last:g} s, or no frame rate")
        except EncodingError as reason:
            reasons.append(str(reason))
    raise EncodingError("; then ".join(reasons)) if reasons else MissingModality("no media file")


def chunk_clips(clip: Mapping[str, Any], grid: FrameGrid, window: int) -> list[dict[str, Any]]:
    """Cut a row of a clip table into rows of its chunks, each with the whole transcript; spans move with the frames."""
    rows = []
    for begin, end in grid.chunks(window):
        row = dict(clip)
        for first, last in _SPANS:
            offset = clip.get(first)
            offset = 0.0 if offset is None or pd.isna(offset) else float(offset)
            row[first], row[last] = offset + float(begin / grid.rate), offset + float(end / grid.rate)
        rows.append(row)
    return rows


def ask(calls: pd.DataFrame, writer: TextWriter, features: FeaturesConfig, show_progress: bool = True) -> Answers:
    """Ask what the store does not hold an answer to; Ctrl-C keeps what is complete, and the same call continues.

    Args:
        calls: rows of a clip table, a call each; one clip may have several, of other spans.
        writer: what answers; it is loaded if needed, and stays so.
        features: store, number of decoding threads, and whether failures are tried again.
        show_progress: show a progress bar (on a terminal) or lines, soon one a minute (elsewhere).

    Raises:
        ExtractionError: the model cannot be loaded; what is complete is kept.
    """
    records, store = records_of(calls, _COLUMNS), TextStore(features.store)
    sources = {row: writer.source(record) for row, record in enumerate(records)}
    rows = sorted(sources, key=lambda row: str(records[row]["corpus"]))
    work = WriterWork(store, records, writer, features, sources, rows)
    work.write_missing(show_progress)
    summary = ExtractionSummary(num_clips=work.num_made)
    work.add_to(summary)
    settled = work.settled()
    written: dict[str, dict[tuple[str, str], Written]] = {
        corpus: store.read_texts(corpus, writer.spec) for corpus in work.corpora
    }
    texts, reasons = [], []
    for row, record in enumerate(records):
        item = work.items[row]
        found = written[record["corpus"]].get((item.clip_id, item.source))
        entry = work.entry(row, writer.kind, settled)
        texts.append(None if found is None else found.text)
        reasons.append("" if found is not None else "not asked" if entry is None else entry.reason or entry.status)
    return Answers(texts, reasons, summary)
