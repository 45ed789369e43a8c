"""What texts of one kind a clip table still needs, and what becomes of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from encoders.config import FeaturesConfig
from encoders.errors import Failure, StoreError
from encoders.store.claims import Claims, Item
from encoders.store.parts import clean, utc_now
from encoders.store.progress import Count, ExtractionSummary
from encoders.store.text_store import CORRECTIONS, TextStore, Written
from encoders.writers.base import TextWriter, write_batch

__all__ = ["TextWork"]

_COLUMNS = (
    "corpus", "clip_id", "media", "start", "end", "audio_media", "audio_start", "audio_end", "fallback_media",
    "fallback_start", "fallback_end", "language", "text", "description",
)  # fmt: skip


class TextWork:
    """Which texts of one kind a clip table still needs."""

    def __init__(self, clips: pd.DataFrame, writer: TextWriter, features: FeaturesConfig) -> None:
        self.features, self.writer = features, writer
        self.store, self.spec = TextStore(features.store), writer.spec
        columns = clips.reindex(columns=list(_COLUMNS)).astype(object)
        self.records = cast(list[dict[str, Any]], columns.where(columns.notna(), None).to_dict("records"))
        corpora = list(dict.fromkeys(record["corpus"] for record in self.records))
        self.folders = {corpus: self.store.folder(corpus, self.spec) for corpus in corpora}
        names = {corpus: path.relative_to(self.store.root).as_posix() for corpus, path in self.folders.items()}
        self.corrections = {corpus: self.store.corrections(corpus, self.spec) for corpus in corpora}
        lacking = [writer.overwrite or not (record[writer.column] or "").strip() for record in self.records]
        corrected = [record["clip_id"] in self.corrections[record["corpus"]] for record in self.records]
        self.rows = [row for row in range(len(self.records)) if lacking[row] or corrected[row]]
        self.items = {
            row: Item(names[record["corpus"]], record["clip_id"], writer.source(record))
            for row, record in ((row, self.records[row]) for row in self.rows)
        }
        self.to_write = [row for row in self.rows if not corrected[row]]
        self._texts: dict[str, dict[tuple[str, str], Written]] = {}
        self.pending = deque(sorted(self.to_write, key=self._order))
        self.began = utc_now()
        self.num_failed = 0
        self.made: set[Item] = set()
        for folder in self.folders.values():
            clean(folder)
        self._check_corrections()

    def _order(self, row: int) -> tuple[str, float]:
        """Corpus by corpus, longest clips first, so that those of a batch are similar; unknown lengths before all."""
        record = self.records[row]
        known = record["start"] is not None and record["end"] is not None
        return record["corpus"], record["start"] - record["end"] if known else -np.inf

    def _check_corrections(self) -> None:
        for corpus, corrections in self.corrections.items():
            known = {record["clip_id"] for record in self.records if record["corpus"] == corpus}
            if not corrections.keys() <= known:
                known |= {clip_id for clip_id, _ in self.store.done(corpus, self.spec)}
            unknown = [clip_id for clip_id in corrections if clip_id not in known]
            if unknown:
                raise StoreError(
                    f"{self.folders[corpus] / CORRECTIONS}: corpus {corpus!r} has no clip {unknown[0]!r}"
                    + (f" (nor {len(unknown) - 1} others)" if len(unknown) > 1 else "")
                )

    def settled(self) -> dict[str, Mapping[tuple[str, str], Any]]:
        """What the store knows by now, by corpus."""
        return {corpus: self.store.done(corpus, self.spec) for corpus in self.folders}

    def refresh(self) -> bool:
        """Look into the store, forget clips that need nothing, and say whether any are left."""
        settled = self.settled()
        self.pending = deque(row for row in self.pending if self._is_missing(row, settled))
        return bool(self.pending)

    def claim(self, claims: Claims, waits_for: set[str]) -> list[int]:
        """The next batch that nobody holds, claimed; `waits_for` gets the processes that hold others."""
        if not self.pending:
            return []
        rows: list[int] = []
        passed: list[int] = []
        with claims.exclusive:
            taken = claims.others()  # before the look into the store, see encoders.store.claims
            settled = self.settled()
            while self.pending and len(rows) < self.writer.batch_size:
                row = self.pending.popleft()
                if rows and self.records[row]["corpus"] != self.records[rows[0]]["corpus"]:
                    passed.append(row)
                    break
                if not self._is_missing(row, settled):
                    continue
                if self.items[row] in taken:
                    passed.append(row)
                    waits_for.add(taken[self.items[row]])
                else:
                    rows.append(row)
            self.pending.extendleft(reversed(passed))
            if rows:
                claims.add(self.items[row] for row in rows)
        return rows

    def finish(self, rows: Sequence[int], prepared: Sequence[Any], claims: Claims) -> None:
        """Let the model write about a batch, store what it wrote, then drop the claim."""
        ready = [index for index, each in enumerate(prepared) if not isinstance(each, Failure)]
        results: list[Any] = list(prepared)
        for index, result in zip(ready, write_batch(self.writer, [prepared[i] for i in ready]), strict=True):
            results[index] = result
        items, corpus = [self.items[row] for row in rows], self.records[rows[0]]["corpus"]
        written = [(item, text) for item, text in zip(items, results, strict=True) if isinstance(text, Written)]
        self.store.write_texts(
            corpus, self.spec, [item.clip_id for item, _ in written], [item.source for item, _ in written],
            [text for _, text in written],
        )  # fmt: skip
        failures = [
            (item.clip_id, item.source, why.status, why.reason)
            for item, why in zip(items, results, strict=True)
            if isinstance(why, Failure)
        ]
        self.store.write_failures(corpus, self.spec, failures)
        self.num_failed += sum(status == "failed" for _, _, status, _ in failures)
        self.made.update(item for item, _ in written)
        claims.drop(items)

    def text(self, row: int) -> tuple[str | None, str | None]:
        """Text and language of a clip as the store and a person have them."""
        item, corpus = self.items[row], self.records[row]["corpus"]
        if corpus not in self._texts:
            self._texts[corpus] = self.store.read_texts(corpus, self.spec)
        written = self._texts[corpus].get((item.clip_id, item.source))
        language = (None if written is None else written.language) or self.records[row]["language"]
        if item.clip_id in self.corrections[corpus]:
            return self.corrections[corpus][item.clip_id], language
        return (None, None) if written is None else (written.text, language)

    def filled(self, clips: pd.DataFrame) -> pd.DataFrame:
        """The clip table with the texts; a clip that the model failed on keeps what it has."""
        texts = [record[self.writer.column] for record in self.records]
        languages = [record["language"] for record in self.records]
        for row in self.rows:
            text, language = self.text(row)
            if text is None and self.items[row].clip_id not in self.corrections[self.records[row]["corpus"]]:
                continue
            texts[row], languages[row] = text, language
        columns = {self.writer.column: texts, **({"language": languages} if self.writer.kind == "transcript" else {})}
        return clips.assign(
            **{name: pd.Series(values, index=clips.index, dtype="string") for name, values in columns.items()}
        )

    def summarise(self, summary: ExtractionSummary) -> pd.DataFrame:
        """Add counts over the whole table as the store now has it; returns the ledger of clips without a text."""
        settled = self.settled()
        ledgers = []
        for corpus in self.folders:
            items = [self.items[row] for row in self.to_write if self.records[row]["corpus"] == corpus]
            count = summary.counts.setdefault((corpus, self.writer.kind), Count())
            for item in items:
                status = settled[corpus][item.clip_id, item.source].status
                kind = "reused" if status == "done" and item not in self.made else status
                setattr(count, kind, getattr(count, kind) + 1)
            ledgers.append(self.store.ledger(corpus, self.spec, [(item.clip_id, item.source) for item in items]))
        summary.num_clips += len(self.made)
        return pd.concat(ledgers, ignore_index=True) if ledgers else summary.ledger

    def _is_missing(self, row: int, settled: Mapping[str, Mapping[tuple[str, str], Any]]) -> bool:
        """Whether a clip needs a text. A retried failure is settled once its row is newer than this run."""
        item = self.items[row]
        entry = settled[self.records[row]["corpus"]].get((item.clip_id, item.source))
        retry = self.features.retry_failed and entry is not None and entry.status == "failed"
        return entry is None or (retry and entry.time < self.began)
