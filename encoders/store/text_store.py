"""Texts that models wrote about clips, kept in the feature store where a person can read and correct them.

```
<store>/<corpus>/texts/<kind>-<model>-<fingerprint>/
    encoder.json              what wrote the texts: model, revision, prompt
    part-<uuid>.parquet       clip_id, source, text, language, words (JSON: [[word, start, end], ...], in seconds)
    ledger-<uuid>.parquet     clips without a text, and why, as in `encoders.store.vector_store`
    corrections.csv           clip_id,text: written by a person; its rows win over the model's
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from encoders.errors import StoreError
from encoders.spec import EncoderSpec
from encoders.store.vector_store import FeatureStore
from mmpsr.delimited import decode_table, read_text_table

__all__ = ["CORRECTIONS", "TEXTS", "TextStore", "Word", "Written"]

TEXTS = "texts"
"""Name of the folder of texts, beside those of the modalities."""
CORRECTIONS = "corrections.csv"
"""Name of the file of corrections, in the folder of the texts that it corrects."""

Word = tuple[str, float, float]
"""A word, and the seconds from the beginning of the clip where it starts and ends."""

_SCHEMA = pa.schema([(name, pa.string()) for name in ("clip_id", "source", "text", "language", "words")])


@dataclass(frozen=True)
class Written:
    """What a model wrote about one clip.

    Attributes:
        text: not blank.
        language: ISO 639-1 code of a transcript, where the model knows.
        words: when each word of a transcript was said, or None.
    """

    text: str
    language: str | None = None
    words: Sequence[Word] | None = None


class TextStore(FeatureStore):
    """Texts by corpus and by what wrote them; a ledger of failures, claims and atomic parts as for vectors."""

    def write_texts(
        self, corpus: str, spec: EncoderSpec, clip_ids: Sequence[str], sources: Sequence[str], texts: Sequence[Written]
    ) -> None:
        """Add the texts of n clips as one part, with the hashes of what they were made from."""
        if not len(texts):
            return
        words = [None if text.words is None else json.dumps(text.words, ensure_ascii=False) for text in texts]
        columns = [clip_ids, sources, [text.text for text in texts], [text.language for text in texts], words]
        self._add(corpus, spec, "part", pa.table([pa.array(column, pa.string()) for column in columns], schema=_SCHEMA))

    def read_texts(self, corpus: str, spec: EncoderSpec) -> dict[tuple[str, str], Written]:
        """Read texts that the model wrote: `{(clip_id, source): text}`."""
        kept: dict[tuple[str, str], Written] = {}
        for table in self._tables(corpus, spec, _SCHEMA.names):
            for row in table.to_pylist():
                words = (
                    None if row["words"] is None else [(str(word), *span) for word, *span in json.loads(row["words"])]
                )
                kept[row["clip_id"], row["source"]] = Written(row["text"], row["language"], words)
        return kept

    def corrections(self, corpus: str, spec: EncoderSpec) -> Mapping[str, str | None]:
        """Tell what a person wrote in place of the model: text by clip id, None where the clip shall have no text.

        Raises:
            StoreError: the file is not a table with the columns `clip_id` and `text`, or names a clip twice.
        """
        path = self.folder(corpus, spec) / CORRECTIONS
        try:
            table = read_text_table(decode_table(path.read_bytes()))
        except FileNotFoundError:
            return {}
        except (ValueError, OSError) as error:
            raise StoreError(f"{path}: not a table of corrections ({error}); it must be CSV in UTF-8") from None
        if any(table.head.count(name) != 1 for name in ("clip_id", "text")):
            raise StoreError(
                f"{path}: columns must be clip_id,text (separated by a comma), found {','.join(table.head)}"
            )
        for number, reason in table.faults:
            raise StoreError(f"{path}, row {number}: {reason}")
        corrections: dict[str, str | None] = {}
        for number, row in zip(table.numbers, table.rows, strict=True):
            clip, text = (row[table.head.index(name)] for name in ("clip_id", "text"))
            if clip in corrections or not clip.strip():
                what = f"clip {clip!r} occurs twice; keep one" if clip.strip() else "clip_id is empty"
                raise StoreError(f"{path}, row {number}: {what}")
            corrections[clip] = text.strip() or None
        return corrections
