"""The work that a clip table still needs, shared by any number of processes on one store.

    records -> items -> pending -> claim -> (the user's own work) -> settle -> summarise

A user says what is made of each clip (`specs`, by subject) and from what (`sources`); the queue knows what the store
has, hands out what nobody works on, and counts what became of it. Vectors with their sequences, and texts, use it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import pandas as pd

from encoders.errors import Failure
from encoders.spec import EncoderSpec
from encoders.store.claims import Claims, Item
from encoders.store.index import Entry, Index
from encoders.store.parts import clean, utc_now
from encoders.store.progress import Count, ExtractionSummary
from encoders.store.vector_store import FeatureStore

__all__ = ["CLIP_COLUMNS", "Records", "Settled", "WorkQueue", "records_of"]

CLIP_COLUMNS = (
    "corpus", "clip_id", "media", "start", "end", "audio_media", "audio_start", "audio_end", "fallback_media",
    "fallback_start", "fallback_end", "faces", "language", "text", "words", "context",
    "description",
)  # fmt: skip
"""Columns of the clip table that encoders read."""

Settled = Mapping[str, Index]
"""By folder, what the store knows of each clip."""


class Records(Sequence[dict[str, Any]]):
    """Rows of a clip table as dictionaries, made when they are asked for: kept, they take 600 bytes each.

    Args:
        columns: values of all rows by column.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        self._names, self._columns = tuple(columns), tuple(columns.values())

    def __len__(self) -> int:
        return len(self._columns[0]) if self._columns else 0

    @overload
    def __getitem__(self, row: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, row: slice) -> Records: ...

    def __getitem__(self, row: int | slice) -> dict[str, Any] | Records:
        values = (column[row] for column in self._columns)
        columns = dict(zip(self._names, values, strict=True))
        return Records(columns) if isinstance(row, slice) else columns

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self._names, values, strict=True)) for values in zip(*self._columns, strict=True))


def records_of(clips: pd.DataFrame, columns: Iterable[str]) -> Records:
    """Turn rows of a clip table into dictionaries, `None` where missing; columns the table lacks are missing."""
    lists: dict[str, list[Any]] = {}
    for name in columns:
        if name not in clips:
            lists[name] = [None] * len(clips)
            continue
        values = clips[name].astype(object)
        texts: dict[str, str] = {}  # many clips have the same corpus, file and language
        lists[name] = [
            texts.setdefault(value, value) if isinstance(value, str) else
            None if is_missing else value.item() if isinstance(value, np.generic) else value
            for value, is_missing in zip(values, values.isna(), strict=True)
        ]  # fmt: skip
    return Records(lists)


class WorkQueue:
    """What a clip table still needs, and what became of it.

    Args:
        store: where it goes.
        records: rows of the clip table.
        specs: by subject, what is made.
        sources: by modality and row, what it is made from (`encoders.spec.source_of`); by subject where that differs.
        rows: those that are asked for, in the order to be worked on.
        retry_failed: whether earlier failures are tried again.

    Attributes:
        pending: rows that may still need something.
        num_failed: failures so far.
        made: how many items this process made, by corpus and subject.
    """

    def __init__(
        self,
        store: FeatureStore,
        records: Sequence[Mapping[str, Any]],
        specs: Mapping[str, EncoderSpec],
        sources: Mapping[str, Mapping[int, str] | Sequence[str]],
        rows: Sequence[int],
        retry_failed: bool,
    ) -> None:
        self.records, self.specs, self.sources, self.retry_failed = records, specs, sources, retry_failed
        self.rows = sorted(rows)
        self.pending: deque[int] = deque(rows)
        self.began = utc_now()
        self.num_failed = 0
        self.made: Counter[tuple[str, str]] = Counter()
        self._corpora: list[str] = [record["corpus"] for record in records]
        self._ids: list[str] = [record["clip_id"] for record in records]
        self.corpora: list[str] = list(dict.fromkeys(self._corpora))
        self.folders = {
            (corpus, subject): store.folder(corpus, spec).relative_to(store.root).as_posix()
            for corpus in self.corpora
            for subject, spec in specs.items()
        }
        self._store = store
        for folder in self.folders.values():
            clean(store.root / folder)

    @property
    def num_made(self) -> int:
        """How many items this process made."""
        return self.made.total()

    def item(self, row: int, subject: str) -> Item:
        """Name one thing to be made of a clip."""
        source = self.sources[subject if subject in self.sources else self.specs[subject].modality][row]
        return Item(self.folders[self._corpora[row], subject], self._ids[row], source)

    def settled(self, claims: Claims | None = None) -> Settled:
        """Look up what the store knows by now.

        Args:
            claims: of this process, while it holds `exclusive`: what processes with claims have added is followed, and
                no folder is listed.
        """
        news = None if claims is None else claims.news()
        return {
            folder: self._store.done(corpus, self.specs[subject], None if news is None else news.get(folder, ()))
            for (corpus, subject), folder in self.folders.items()
        }

    def entry(self, row: int, subject: str, settled: Settled) -> Entry | None:
        """Look up what is known of one thing to be made of a clip; None where nothing is."""
        item = self.item(row, subject)
        return settled[item.folder].get((item.clip_id, item.source))

    def missing(self, row: int, settled: Settled) -> dict[str, Item]:
        """List what a clip still needs, by subject. A retried failure is settled once it is newer than this run."""
        missing = {}
        for subject in self.specs:
            entry = self.entry(row, subject, settled)
            retry = self.retry_failed and entry is not None and entry.status == "failed"
            if entry is None or (retry and entry.time < self.began):
                missing[subject] = self.item(row, subject)
        return missing

    def find_missing(self) -> set[str]:
        """Look into the store, forget clips that need nothing, and tell which subjects the others need."""
        settled, pending, subjects = self.settled(), deque[int](), set[str]()
        for row in self.pending:
            if missing := self.missing(row, settled):
                pending.append(row)
                subjects.update(missing)
        self.pending = pending
        return subjects

    def claim_rows(self, claims: Claims, most: int, waits_for: set[str]) -> dict[int, dict[str, Item]]:
        """Claim what nobody holds of the next clips of one corpus.

        Args:
            claims: of this process.
            most: number of clips.
            waits_for: gets the processes that hold what was passed over.

        Returns:
            By row, the items by subject; empty where nothing is free.
        """
        if not self.pending:
            return {}
        with claims.exclusive:
            taken = claims.others()  # before the look into the store, see encoders.store.claims
            settled, held = self.settled(claims), claims.held
            claimed: dict[int, dict[str, Item]] = {}
            passed: list[int] = []
            corpus = None
            while self.pending and len(claimed) < most:
                row = self.pending.popleft()
                if claimed and self._corpora[row] != corpus:
                    passed.append(row)
                    break
                missing = self.missing(row, settled)
                free = {name: item for name, item in missing.items() if item not in taken and item not in held}
                if len(free) < len(missing):
                    passed.append(row)
                    waits_for.update(taken[item] for item in missing.values() if item in taken)
                if free:
                    claimed[row], corpus = free, self._corpora[row]
            self.pending.extendleft(reversed(passed))
            if claimed:
                claims.add(item for items in claimed.values() for item in items.values())
        return claimed

    def settle(
        self,
        corpus: str,
        subject: str,
        results: Sequence[tuple[Item, Any]],
        write: Callable[[list[str], list[str], list[Any]], object],
    ) -> None:
        """Store what was made and why the rest was not; the claim is dropped afterwards, by who made it.

        Args:
            corpus: of the clips.
            subject: what was made.
            results: by item the value, or a `Failure`.
            write: stores values, given clip ids, sources and values; not called without any.
        """
        done = [(item, value) for item, value in results if not isinstance(value, Failure)]
        failed = [(item, why) for item, why in results if isinstance(why, Failure)]
        if done:
            items = [item for item, _ in done]
            write([item.clip_id for item in items], [item.source for item in items], [value for _, value in done])
            self.made[corpus, subject] += len(items)
        self._store.write_failures(
            corpus,
            self.specs[subject],
            [(item.clip_id, item.source, why.status, why.reason) for item, why in failed],
            figures=[why.figures for _, why in failed],
        )
        self.num_failed += sum(why.status == "failed" for _, why in failed)

    def add_to(self, summary: ExtractionSummary) -> None:
        """Add counts of the clips asked for as the store now has them, and the ledger of those without."""
        settled = self.settled()
        ledgers = [summary.ledger] if len(summary.ledger) else []
        for corpus in self.corpora:
            rows = [row for row in self.rows if self._corpora[row] == corpus]
            for subject, spec in self.specs.items():
                count = summary.counts.setdefault((corpus, subject), Count())
                entries = (self.entry(row, subject, settled) for row in rows)
                # none: another process has only now made the vector whose lack had settled the sequence, too
                statuses = Counter("failed" if entry is None else entry.status for entry in entries)
                made = min(self.made[corpus, subject], statuses["done"])
                count.done, count.reused = count.done + made, count.reused + statuses["done"] - made
                count.absent, count.failed = count.absent + statuses["absent"], count.failed + statuses["failed"]
                items = (self.item(row, subject) for row in rows)
                keys = [(item.clip_id, item.source) for item in items]
                summary.figures += self._store.figure_rows(corpus, spec, keys)
                if count.failed or count.absent:
                    ledgers.append(self._store.ledger(corpus, spec, keys))
        if ledgers:
            summary.ledger = pd.concat(ledgers, ignore_index=True)
