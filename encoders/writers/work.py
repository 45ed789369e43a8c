"""What texts of one kind a clip table still needs, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from encoders.config import FeaturesConfig
from encoders.errors import Failure, StoreError
from encoders.store.claims import Claims
from encoders.store.progress import ExtractionSummary
from encoders.store.queue import CLIP_COLUMNS, WorkQueue, records_of
from encoders.store.text_store import CORRECTIONS, TextStore, Written
from encoders.writers.base import TextWriter, write_batch

__all__ = ["TextWork"]

_COLUMNS = [name for name in CLIP_COLUMNS if name not in ("faces", "context")]


class TextWork(WorkQueue):
    """Which texts of one kind a clip table still needs.

    Attributes:
        items: by row, texts that the model wrote or is to write, or a person corrected.
        corrections: by corpus and clip id, what a person wrote.
    """

    def __init__(self, clips: pd.DataFrame, writer: TextWriter, features: FeaturesConfig) -> None:
        self.features, self.writer = features, writer
        self.store, self.spec = TextStore(features.store), writer.spec
        records = records_of(clips, _COLUMNS)
        corpora = dict.fromkeys(record["corpus"] for record in records)
        self.corrections = {corpus: self.store.corrections(corpus, self.spec) for corpus in corpora}
        sources: dict[int, str] = {}
        to_write = []
        for row, record in enumerate(records):
            is_corrected = record["clip_id"] in self.corrections[record["corpus"]]
            if is_corrected or writer.overwrite or not (record[writer.column] or "").strip():
                sources[row] = writer.source(record)
                to_write += [] if is_corrected else [row]
        super().__init__(
            self.store,
            records,
            {writer.kind: self.spec},
            {self.spec.modality: sources},
            sorted(to_write, key=lambda row: _order(records[row])),
            features.retry_failed,
        )
        self.items = {row: self.item(row, writer.kind) for row in sources}
        self._texts: dict[str, dict[tuple[str, str], Written]] = {}
        self._check_corrections()

    def _check_corrections(self) -> None:
        for corpus, corrections in self.corrections.items():
            known = {record["clip_id"] for record in self.records if record["corpus"] == corpus}
            if not corrections.keys() <= known:
                known |= {clip_id for clip_id, _ in self.store.done(corpus, self.spec)}
            unknown = [clip_id for clip_id in corrections if clip_id not in known]
            if unknown:
                path = self.store.folder(corpus, self.spec) / CORRECTIONS
                raise StoreError(
                    f"{path}: corpus {corpus!r} has no clip {unknown[0]!r}"
                    + (f" (nor {len(unknown) - 1} others)" if len(unknown) > 1 else "")
                )

    def refresh(self) -> bool:
        """Look into the store, forget clips that need nothing, and say whether any are left."""
        return bool(self.find_missing())

    def claim(self, claims: Claims, waits_for: set[str]) -> list[int]:
        """Claim the next batch that nobody holds; `waits_for` gets the processes that hold others."""
        return list(self.claim_rows(claims, self.writer.batch_size, waits_for))

    def finish(self, rows: Sequence[int], prepared: Sequence[Any], claims: Claims) -> None:
        """Let the model write about a batch, store what it wrote, then drop the claim."""
        ready = [index for index, each in enumerate(prepared) if not isinstance(each, Failure)]
        results: list[Any] = list(prepared)
        for index, result in zip(ready, write_batch(self.writer, [prepared[i] for i in ready]), strict=True):
            results[index] = result
        items, corpus = [self.items[row] for row in rows], self.records[rows[0]]["corpus"]
        write = partial(self.store.write_texts, corpus, self.spec)
        self.settle(corpus, self.writer.kind, list(zip(items, results, strict=True)), write)
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
        words = list(clips.get("words", pd.Series(pd.NA, clips.index)))
        for row in self.items:
            text, language = self.text(row)
            if text is None and self.items[row].clip_id not in self.corrections[self.records[row]["corpus"]]:
                continue
            texts[row], languages[row], words[row] = text, language, self.words(row)
        columns = {self.writer.column: texts}
        if self.writer.kind == "transcript":
            columns |= {"language": languages, "words": words}
        return clips.assign(
            **{name: pd.Series(values, index=clips.index, dtype="string") for name, values in columns.items()}
        )

    def words(self, row: int) -> str | None:
        """When the words of a clip's transcript were said, as JSON; None where the text is not the model's."""
        item, corpus = self.items[row], self.records[row]["corpus"]
        if item.clip_id in self.corrections[corpus]:
            return None
        written = self._texts[corpus].get((item.clip_id, item.source))
        return None if written is None or written.words is None else json.dumps(written.words, ensure_ascii=False)

    def summarise(self, summary: ExtractionSummary) -> None:
        """Add counts over the whole table as the store now has it, and the ledger of clips without a text."""
        self.add_to(summary)
        summary.num_clips += len(self.made)


def _order(record: Mapping[str, Any]) -> tuple[str, float]:
    """Sort corpus by corpus, longest clips first, so that those of a batch are similar; unknown lengths before all."""
    known = record["start"] is not None and record["end"] is not None
    return record["corpus"], record["start"] - record["end"] if known else -np.inf
