"""What one writer still has to write, done: claimed, read ahead by threads or workers, written in batches, stored.

Killed and started again it continues, and any number of processes may share the work on one store.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

from encoders.config import FeaturesConfig
from encoders.errors import Failure
from encoders.media.clip import ClipMedia
from encoders.store.claims import Claims
from encoders.store.progress import ClipProgress
from encoders.store.queue import WorkQueue
from encoders.store.text_store import TextStore
from encoders.workers import DIED, Threads, Workers, files_of, require_files
from encoders.writers.base import TextWriter, write_batch
from mmpsr.executors.base import LOCAL
from mmpsr.executors.build import open_engine

__all__ = ["WriterWork"]

_POLL_SECONDS = 0.2
_AHEAD = 2  # chunks in hand: one at the model, one being decoded


@dataclass(frozen=True)
class _Reading:
    """A clip to be read for a writer."""

    row: int
    record: Mapping[str, Any]
    seen: Sequence[str]

    @property
    def names(self) -> list[str]:
        return [f"{self.record['corpus']}/{self.record['clip_id']}"]

    @property
    def culprits(self) -> list[str]:
        return ["reading"]

    def parts(self) -> list[_Reading]:
        return [self]

    def dead(self) -> Failure:
        return Failure("failed", DIED)


def _read(writer: TextWriter, reading: _Reading) -> Any:
    """Prepare a clip, or say why it cannot be."""
    try:
        return writer.prepare(ClipMedia.from_row(reading.record))
    except Exception as error:
        return Failure.of(error)


_ready: dict[str, TextWriter] = {}


def read_there(writer: TextWriter, reading: _Reading) -> Any:
    """Prepare a clip in a worker, whose writer has no weights.

    Raises:
        ExtractionError: this machine does not see the media, or what prepares clips cannot be opened.
    """
    require_files(reading.seen)
    key = writer.spec.fingerprint
    if key not in _ready:
        writer.load_reader()
        _ready[key] = writer
    return _read(_ready[key], reading)


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
        self._light: TextWriter | None = None

    def write_missing(self, show_progress: bool) -> None:
        """Write what the store lacks, here or with other processes; the writer is loaded if there is any.

        Raises:
            ExtractionError: the model cannot be loaded; what is complete is kept.
        """
        if not self.find_missing():
            return
        if not self.writer.is_loaded:
            self._light = copy(self.writer) if self.features.executor != LOCAL else None
            self.writer.load()
            self.writer.is_loaded = True
        progress = ClipProgress(len(self.pending), show_progress, f"{self.writer.kind}s")
        with Claims(self.features.store) as claims, progress:
            self._run(claims, progress)

    def _run(self, claims: Claims, progress: ClipProgress) -> None:
        """Claim, decode, write and store until nothing is pending."""
        ahead: deque[tuple[list[int], dict[int, Any]]] = deque()
        with self._readers() as workers:
            while True:
                waits_for: set[str] = set()
                while self._has_room(workers, ahead) and (rows := self.claim(claims, waits_for)):
                    ahead.append((rows, {}))
                    for row in rows:
                        workers.submit(self._reading(row))
                in_hand = sum(len(rows) for rows, _ in ahead)
                progress.update(len(self.pending) + in_hand, self.num_failed, set() if ahead else waits_for)
                if ahead:
                    rows, prepared = ahead[0]
                    while len(prepared) < len(rows):
                        for reading, result in workers.completed(1.0):
                            next(each for own, each in ahead if reading.row in own)[reading.row] = result
                    ahead.popleft()
                    self.finish(rows, [prepared[row] for row in rows], claims)
                elif self.pending:
                    time.sleep(_POLL_SECONDS)
                else:
                    return

    @contextmanager
    def _readers(self) -> Iterator[Workers[_Reading, Any]]:
        """Start what reads clips: threads that share the loaded writer, or workers of elsewhere that have their own."""
        name, number = self.features.executor, self.features.num_workers
        engine = Threads("read", number) if self._light is None else open_engine(name, number)
        task = partial(_read, self.writer) if self._light is None else partial(read_there, self._light)
        with engine, Workers(engine, task) as workers:
            yield workers

    def _has_room(self, workers: Workers[_Reading, Any], ahead: Collection[tuple[list[int], Any]]) -> bool:
        """Tell whether to take another batch: some ahead of the model, and enough for all that read."""
        if not workers.limit:  # one of them has died, and which clip is to blame is being found
            return False
        in_hand = sum(len(rows) for rows, _ in ahead)
        return len(ahead) < _AHEAD or in_hand < workers.limit

    def _reading(self, row: int) -> _Reading:
        record = self.records[row]
        return _Reading(row, record, () if self._light is None else files_of([record]))

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
