"""Clip tables completed with the texts that models write; killed and started again it continues.

As for vectors, any number of processes may share the work on one store.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import pandas as pd

from encoders.config import FeaturesConfig
from encoders.errors import Failure
from encoders.media.clip import ClipMedia
from encoders.store.claims import Claims
from encoders.store.progress import ExtractionSummary, Reporter
from encoders.writers.base import TextWriter
from encoders.writers.build import text_writers
from encoders.writers.work import TextWork

__all__ = ["FilledTexts", "fill_texts"]

_POLL_SECONDS = 0.2
_AHEAD = 2  # chunks in hand: one at the model, one being decoded


class FilledTexts(NamedTuple):
    """A clip table with the texts that the store holds, and what became of those that were missing."""

    clips: pd.DataFrame
    summary: ExtractionSummary


def fill_texts(
    clips: pd.DataFrame,
    features: FeaturesConfig,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    show_progress: bool = True,
    writers: Sequence[TextWriter] | None = None,
) -> FilledTexts:
    """Fill `text`, `language` and `description` where clips lack them, first writing what the store lacks.

    Without `features.transcriber` and `features.describer` the table comes back as it is. A row of a corrections file
    wins over the model's text and over the corpus' own. Ctrl-C keeps what is complete.

    Args:
        clips: clip table of any number of corpora (`corpora.clips`).
        features: models, store, number of decoding threads.
        device: where the models run, for example `cuda:0`.
        dtype: their precision: `float32`, `float16` or `bfloat16`.
        show_progress: show a progress bar (on a terminal) or a line every minute (elsewhere).
        writers: to use in place of the configuration's; they are loaded if needed, and stay so.

    Returns:
        A new clip table; and counts by corpus and kind of text, with the ledger of clips that have none.

    Raises:
        ExtractionError: a model cannot be loaded; what is complete is kept.
        ConfigError: a model needs code of its own that is not allowed.
        StoreError: a file of corrections cannot be used.
    """
    began = time.perf_counter()
    summary = ExtractionSummary()
    waiting = deque(text_writers(features, device, dtype) if writers is None else writers)
    while waiting:
        writer = waiting.popleft()  # lets go of the one before it, and of its weights
        work = TextWork(clips, writer, features)
        if work.refresh():
            if not writer.is_loaded:
                writer.load()
                writer.is_loaded = True
            report = Reporter(len(work.pending), show_progress, f"{writer.kind}s")
            with Claims(features.store) as claims, report:
                _run(work, claims, report)
        work.summarise(summary)
        clips = work.filled(clips)
    summary.seconds = time.perf_counter() - began
    return FilledTexts(clips, summary)


def _run(work: TextWork, claims: Claims, report: Reporter) -> None:
    """Claim, decode, write and store until nothing is pending, here or with other processes."""
    threads = ThreadPoolExecutor(work.features.num_workers)
    ahead: deque[tuple[list[int], list[Future[Any]]]] = deque()
    try:
        while True:
            waits_for: set[str] = set()
            while len(ahead) < _AHEAD and (rows := work.claim(claims, waits_for)):
                ahead.append((rows, [threads.submit(_prepare, work.writer, work.records[row]) for row in rows]))
            in_hand = sum(len(rows) for rows, _ in ahead)
            report.update(len(work.pending) + in_hand, work.num_failed, set() if ahead else waits_for)
            if ahead:
                rows, prepared = ahead.popleft()
                work.finish(rows, [future.result() for future in prepared], claims)
            elif work.pending:
                time.sleep(_POLL_SECONDS)
            else:
                return
    finally:
        threads.shutdown(cancel_futures=True)


def _prepare(writer: TextWriter, record: Mapping[str, Any]) -> Any:
    try:
        return writer.prepare(ClipMedia.from_row(record))
    except Exception as error:
        return Failure.of(error)
