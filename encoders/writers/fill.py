"""Clip tables completed with the texts that models write; killed and started again it continues.

As for vectors, any number of processes may share the work on one store.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from encoders.config import FeaturesConfig
from encoders.errors import StoreError
from encoders.store.progress import ExtractionSummary
from encoders.store.queue import CLIP_COLUMNS, records_of
from encoders.store.text_store import CORRECTIONS, TextStore, Written
from encoders.writers.base import TextWriter
from encoders.writers.build import text_writers
from encoders.writers.work import WriterWork

__all__ = ["FilledTexts", "TextWork", "fill_texts"]

_COLUMNS = [name for name in CLIP_COLUMNS if name not in ("faces", "context")]


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
        show_progress: show a progress bar (on a terminal) or lines, soon one a minute (elsewhere).
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
        work.write_missing(show_progress)
        work.add_to(summary)
        summary.num_clips += work.num_made
        clips = work.filled(clips)
    summary.seconds = time.perf_counter() - began
    return FilledTexts(clips, summary)


class TextWork(WriterWork):
    """Which texts of one kind a clip table still needs.

    Attributes:
        corrections: by corpus and clip id, what a person wrote.
    """

    def __init__(self, clips: pd.DataFrame, writer: TextWriter, features: FeaturesConfig) -> None:
        store, records = TextStore(features.store), records_of(clips, _COLUMNS)
        corpora = dict.fromkeys(record["corpus"] for record in records)
        self.corrections = {corpus: store.corrections(corpus, writer.spec) for corpus in corpora}
        sources: dict[int, str] = {}
        to_write = []
        for row, record in enumerate(records):
            is_corrected = record["clip_id"] in self.corrections[record["corpus"]]
            if is_corrected or writer.overwrite or not (record[writer.column] or "").strip():
                sources[row] = writer.source(record)
                to_write += [] if is_corrected else [row]
        rows = sorted(to_write, key=lambda row: _order(records[row]))
        super().__init__(store, records, writer, features, sources, rows)
        self._texts: dict[str, dict[tuple[str, str], Written]] = {}
        for corpus, corrections in self.corrections.items():
            known = {record["clip_id"] for record in self.records if record["corpus"] == corpus}
            if not corrections.keys() <= known:
                known |= self.store.clip_ids(corpus, self.spec)
            unknown = [clip_id for clip_id in corrections if clip_id not in known]
            if unknown:
                path = self.store.folder(corpus, self.spec) / CORRECTIONS
                raise StoreError(
                    f"{path}: corpus {corpus!r} has no clip {unknown[0]!r}"
                    + (f" (nor {len(unknown) - 1} others)" if len(unknown) > 1 else "")
                )

    def text(self, row: int) -> tuple[str | None, str | None]:
        """Return text and language of a clip as the store and a person have them."""
        item, corpus = self.items[row], self.records[row]["corpus"]
        if corpus not in self._texts:
            self._texts[corpus] = self.store.read_texts(corpus, self.spec)
        written = self._texts[corpus].get((item.clip_id, item.source))
        language = (None if written is None else written.language) or self.records[row]["language"]
        if item.clip_id in self.corrections[corpus]:
            return self.corrections[corpus][item.clip_id], language
        return (None, None) if written is None else (written.text, language)

    def filled(self, clips: pd.DataFrame) -> pd.DataFrame:
        """Put the texts into the clip table; a clip that the model failed on keeps what it has."""
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
        """Tell when the words of a clip's transcript were said, as JSON; None where the text is not the model's."""
        item, corpus = self.items[row], self.records[row]["corpus"]
        if item.clip_id in self.corrections[corpus]:
            return None
        written = self._texts[corpus].get((item.clip_id, item.source))
        return None if written is None or written.words is None else json.dumps(written.words, ensure_ascii=False)


def _order(record: Mapping[str, Any]) -> tuple[str, float]:
    """Sort corpus by corpus, longest clips first, so that those of a batch are similar; unknown lengths before all."""
    known = record["start"] is not None and record["end"] is not None
    return record["corpus"], record["start"] - record["end"] if known else -np.inf
