"""What one writer still has to write, done: claimed, read ahead in threads, written in batches, stored.

Killed and started again it continues, and any number of processes may share the work on one store.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from encoders.config import FeaturesConfig
from encoders.errors import Failure
from encoders.media.clip import ClipMedia
from encoders.store.claims import Claims
from encoders.store.progress import ClipProgress
from encoders.store.queue import WorkQueue
from encoders.store.text_store import TextStore
from encoders.writers.base import TextWriter, write_batch

__all__ = ["WriterWork"]

_POLL_SECONDS = 0.2
_AHEAD = 2  # chunks in hand: one at the model, one being decoded


class WriterWork(WorkQueue):
    """Texts of one writer.

    Args:
        store: where they go.
        records: rows of the clip table.
        writer: what writes.
        features: store, number of decoding threads, and whether failures are tried again.
        sources: by row, what a text is made from.
        rows: those to be written about, in the order to be worked on.

    Attributes:
        items: by row of `sources`, what names the text in the store.
    """

    def __init__(
        self,
        store: TextStore,
        records: Sequence[Mapping[str, Any]],
        writer: TextWriter,
        features: FeaturesConfig,
        sources: Mapping[int, str],
        rows: Sequence[int],
    ) -> None:
        self.store, self.spec, self.writer, self.features = store, writer.spec, writer, features
        of_texts = {self.spec.modality: sources}
        super().__init__(store, records, {writer.kind: self.spec}, of_texts, rows, features.retry_failed)
        self.items = {row: self.item(row, writer.kind) for row in sources}

    def write_missing(self, show_progress: bool) -> None:
        """Write what the store lacks, here or with other processes; the writer is loaded if there is any.

        Raises:
            ExtractionError: the model cannot be loaded; what is complete is kept.
        """
        if not self.find_missing():
            return
        if not self.writer.is_loaded:
            self.writer.load()
            self.writer.is_loaded = True
        progress = ClipProgress(len(self.pending), show_progress, f"{self.writer.kind}s")
        with Claims(self.features.store) as claims, progress:
            self._run(claims, progress)

    def _run(self, claims: Claims, progress: ClipProgress) -> None:
        """Claim, decode, write and store until nothing is pending."""
        threads = ThreadPoolExecutor(self.features.num_workers)
        ahead: deque[tuple[list[int], list[Future[Any]]]] = deque()
        try:
            while True:
                waits_for: set[str] = set()
                while len(ahead) < _AHEAD and (rows := self.claim(claims, waits_for)):
                    ahead.append((rows, [threads.submit(self._prepare, self.records[row]) for row in rows]))
                in_hand = sum(len(rows) for rows, _ in ahead)
                progress.update(len(self.pending) + in_hand, self.num_failed, set() if ahead else waits_for)
                if ahead:
                    rows, prepared = ahead.popleft()
                    self.finish(rows, [future.result() for future in prepared], claims)
                elif self.pending:
                    time.sleep(_POLL_SECONDS)
                else:
                    return
        finally:
            threads.shutdown(cancel_futures=True)

    def _prepare(self, record: Mapping[str, Any]) -> Any:
        try:
            return self.writer.prepare(ClipMedia.from_row(record))
        except Exception as error:
            return Failure.of(error)

    def claim(self, claims: Claims, waits_for: set[str]) -> list[int]:
        """Claim the next batch that nobody holds; `waits_for` gets the processes that hold others."""
        return list(self.claim_rows(claims, self.writer.batch_size, waits_for))

    def finish(self, rows: Sequence[int], prepared: Sequence[Any], claims: Claims) -> None:
        """Let the model write about a batch, store what it wrote, then drop the claim."""
        ready = [index for index, inputs in enumerate(prepared) if not isinstance(inputs, Failure)]
        results = list(prepared)
        for index, result in zip(ready, write_batch(self.writer, [prepared[i] for i in ready]), strict=True):
            results[index] = result
        items, corpus = [self.items[row] for row in rows], self.records[rows[0]]["corpus"]
        write = partial(self.store.write_texts, corpus, self.spec)
        self.settle(corpus, self.writer.kind, list(zip(items, results, strict=True)), write)
        claims.drop(items)
