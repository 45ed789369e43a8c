"""The feature store: vectors of clips and a ledger of failures, as Parquet parts that are only ever added.

```
<store>/<corpus>/<modality>/<encoder id>-<fingerprint>/
    encoder.json              what made the vectors, for people
    part-<uuid>.parquet       clip_id, source, vector (float32 [2 * width], [width] without pooling), note, figures
    ledger-<uuid>.parquet     clip_id, source, status ("failed" or "absent"), reason, time (UTC, ISO 8601), figures
    .compacted/               which parts became which, see `encoders.store.parts`
<store>/<corpus>/<modality>/<encoder id>-<fingerprint>-sequence-<cap>/   see `encoders.store.sequence_store`
<store>/<corpus>/<modality>/<encoder id>-<fingerprint>-frames-<rate>/    see `encoders.store.timed_store`
<store>/.claims/              who works on what right now, see `encoders.store.claims`
```

A file appears whole or not at all: it is written under a temporary name in the same folder, flushed to the disk and
renamed. `source` is a short hash of what a vector was made from, so that a clip whose media or text changed is
extracted again; rows of another source are ignored when reading, and count again if the old media comes back.
`figures` is JSON of what was measured of the clip's media, such as `encoders.visibility.FaceFigures`; the column is
there only where something was, and never in parts of before.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from encoders.errors import StoreError
from encoders.spec import EncoderSpec
from encoders.store.claims import announce
from encoders.store.index import DONE, FIGURES, KEY, Index
from encoders.store.parts import list_parts, read_part, utc_now
from mmpsr.files import write_whole

__all__ = ["LEDGER_COLUMNS", "FeatureStore", "positions"]

LEDGER_COLUMNS = ("corpus", "clip_id", "modality", "encoder", "status", "reason", "time")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_GROUP_BYTES = 64_000_000
_LEDGER_SCHEMA = pa.schema([(name, pa.string()) for name in ("clip_id", "source", "status", "reason", "time")])


class FeatureStore:
    """Vectors of clips by corpus, modality and encoder; any number of processes may read and add at once.

    Writers that must not store a clip twice coordinate through `encoders.store.claims.Claims`.

    Args:
        root: folder of the store; made when first written to.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._indices: dict[Path, Index] = {}

    def folder(self, corpus: str, spec: EncoderSpec) -> Path:
        """Folder of one encoder's vectors of one corpus (it need not exist).

        Raises:
            StoreError: the corpus' or modality's name cannot be a folder's name.
        """
        for kind, name in (("corpus", corpus), ("modality", spec.base)):
            if not _NAME.fullmatch(name):
                raise StoreError(
                    f"{kind} {name!r} cannot name a folder of the feature store {self.root}; use letters, digits, "
                    "dots, dashes and underscores, and start with a letter or a digit"
                )
        return self.root / corpus / spec.base / spec.key

    def write(
        self,
        corpus: str,
        spec: EncoderSpec,
        clip_ids: Sequence[str],
        sources: Sequence[str],
        vectors: NDArray[np.float32],
        notes: Sequence[str | None] | None = None,
        figures: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Add vectors as one part.

        Args:
            corpus: name of the corpus.
            spec: the encoder that made the vectors.
            clip_ids: n ids.
            sources: n hashes of what the vectors were made from, see `encoders.base.Encoder.source`.
            vectors: `[n, spec.vector_width]`, finite.
            notes: n sentences of the encoder on how the vector came about, `None` where it has none.
            figures: n times JSON values by name, measured of the clip's media, `None` where there are none.

        Raises:
            StoreError: the vectors have another shape or are not finite.
        """
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.shape != (len(clip_ids), spec.vector_width):
            raise StoreError(
                f"{len(clip_ids)} clips of {spec.id!r} need vectors {(len(clip_ids), spec.vector_width)}, "
                f"found {vectors.shape}"
            )
        if not np.isfinite(vectors).all():
            bad = clip_ids[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])]
            raise StoreError(f"the vector of clip {bad!r} by {spec.id!r} is not finite; record it as a failure")
        if not len(clip_ids):
            return
        kind = pa.list_(pa.field("element", pa.float32(), nullable=False), spec.vector_width)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=kind)
        self._add_part(corpus, spec, clip_ids, sources, {"vector": column, **_figures_column(figures)}, notes)

    def write_failures(
        self,
        corpus: str,
        spec: EncoderSpec,
        rows: Sequence[tuple[str, str, str, str]],
        time: str | None = None,
        figures: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Add `(clip_id, source, "failed" or "absent", reason)` rows to the ledger; `time` is now unless given.

        `figures` are those of `write`, of each row.
        """
        if not rows:
            return
        wrong = [row for row in rows if row[2] not in ("failed", "absent")]
        if wrong:
            raise StoreError(f"clip {wrong[0][0]!r}: a ledger status is 'failed' or 'absent', found {wrong[0][2]!r}")
        columns = [*map(list, zip(*rows, strict=True)), [time or utc_now()] * len(rows)]
        table = pa.table(columns, schema=_LEDGER_SCHEMA)
        for name, column in _figures_column(figures).items():
            table = table.append_column(name, column)
        self._add(corpus, spec, "ledger", table)

    def done(self, corpus: str, spec: EncoderSpec, added: Iterable[str] | None = None) -> Index:
        """Tell what is settled; only parts that are new since the last call are opened.

        Args:
            corpus: name of the corpus.
            spec: whose vectors.
            added: names of all parts and ledgers that are new since, where that is known, see
                `encoders.store.claims.Claims.news`; else the folder is listed.
        """
        folder = self.folder(corpus, spec)
        index = self._indices.get(folder)
        if index is None:
            index, added = self._indices.setdefault(folder, Index()), None
        index.refresh(folder, added)
        return index

    def clip_ids(self, corpus: str, spec: EncoderSpec) -> set[str]:
        """List clips of which anything is known."""
        tables = self._tables(corpus, spec, ["clip_id"], ("part-", "ledger-"))
        return {clip_id for table in tables for clip_id in table["clip_id"].to_pylist()}

    def read(
        self, corpus: str, spec: EncoderSpec, clip_ids: Sequence[str], sources: Sequence[str]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Read vectors in the order of the clips asked for.

        Args:
            corpus: name of the corpus.
            spec: whose vectors.
            clip_ids: n distinct ids.
            sources: n hashes; vectors of another source are not used.

        Returns:
            Presence `[n]`, and vectors `[n, spec.vector_width]` with zeros where absent.

        Raises:
            StoreError: a clip is asked for twice, or a part cannot be read.
        """
        present = np.zeros(len(clip_ids), dtype=np.bool_)
        vectors = np.zeros((len(clip_ids), spec.vector_width), dtype=np.float32)
        self.read_into(corpus, spec, clip_ids, sources, np.arange(len(clip_ids)), present, vectors)
        return present, vectors

    def read_into(
        self,
        corpus: str,
        spec: EncoderSpec,
        clip_ids: Sequence[str],
        sources: Sequence[str],
        places: NDArray[np.int64],
        present: NDArray[np.bool_],
        vectors: NDArray[np.float32],
    ) -> None:
        """Read vectors as `read` does into arrays of more clips, which then are held once.

        Args:
            corpus: name of the corpus.
            spec: whose vectors.
            clip_ids: n distinct ids.
            sources: n hashes.
            places: `[n]`, each clip's row of the arrays.
            present: `[N]`, set true where there is a vector.
            vectors: `[N, spec.vector_width]`, to fill.
        """
        place = positions(corpus, clip_ids, sources)
        for table in self._tables(corpus, spec, [*KEY, "vector"]):
            asked = [place.get(key, -1) for key in zip(*(table[name].to_pylist() for name in KEY), strict=True)]
            clips = np.array(asked, dtype=np.int64)
            values = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(clips), -1)
            if clips.size and clips.min() < 0:
                values, clips = values[clips >= 0], clips[clips >= 0]
            vectors[places[clips]] = values
            present[places[clips]] = True

    def notes(self, corpus: str, spec: EncoderSpec) -> dict[tuple[str, str], str]:
        """Read sentences that the encoder left about clips: `{(clip_id, source): note}`."""
        kept: dict[tuple[str, str], str] = {}
        for table in self._tables(corpus, spec, [*KEY, "note"]):
            rows = table.to_pydict()
            keys = zip(rows["clip_id"], rows["source"], strict=True)
            kept.update({key: note for key, note in zip(keys, rows["note"], strict=True) if note is not None})
        return kept

    def figures(self, corpus: str, spec: EncoderSpec) -> dict[tuple[str, str], dict[str, Any]]:
        """Read what was measured of clips' media: `{(clip_id, source): figures}`, of those without a vector, too."""
        kept: dict[tuple[str, str], dict[str, Any]] = {}
        for table in self._tables(corpus, spec, [*KEY, FIGURES], ("part-", "ledger-")):
            if FIGURES in table.column_names:
                rows = zip(*(table[name].to_pylist() for name in (*KEY, FIGURES)), strict=True)
                kept |= {(clip_id, source): json.loads(text) for clip_id, source, text in rows if text is not None}
        return kept

    def figure_rows(self, corpus: str, spec: EncoderSpec, keys: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """List the figures of clips asked for, as rows with `corpus`, `clip_id`, `modality` and `encoder`."""
        index = self.done(corpus, spec)
        about = {"corpus": corpus, "modality": spec.subject, "encoder": spec.id}
        texts = ((key[0], index.figures_of(key)) for key in keys)
        return [{**about, "clip_id": clip_id, **json.loads(text)} for clip_id, text in texts if text is not None]

    def ledger(self, corpus: str, spec: EncoderSpec, keys: Sequence[tuple[str, str]] | None = None) -> pd.DataFrame:
        """List clips without a vector (or a sequence) and why, latest word only: columns `LEDGER_COLUMNS`.

        Args:
            corpus: name of the corpus.
            spec: whose failures.
            keys: `(clip_id, source)` pairs to keep, in this order; every pair ever recorded where `None`.
        """
        index = self.done(corpus, spec)
        rows = [
            (corpus, key[0], spec.subject, spec.id, *entry)
            for key in (index.undone if keys is None else keys)
            if (entry := index.get(key)) is not None and entry != DONE
        ]
        return pd.DataFrame(rows, columns=list(LEDGER_COLUMNS), dtype="string")

    def _tables(
        self, corpus: str, spec: EncoderSpec, columns: list[str], prefixes: tuple[str, ...] = ("part-",)
    ) -> Iterator[pa.Table]:
        return (table for _, table in self._parts(corpus, spec, columns, prefixes))

    def _parts(
        self, corpus: str, spec: EncoderSpec, columns: list[str], prefixes: tuple[str, ...] = ("part-",)
    ) -> Iterator[tuple[Path, pa.Table]]:
        """Read part by part; rows that compaction moves meanwhile may come twice, at last from where they lie."""
        folder, gone, read = self.folder(corpus, spec), "", set()
        while names := [name for name in list_parts(folder, *prefixes) if name not in read]:
            for name in names:
                try:
                    table = read_part(folder / name, columns)
                except FileNotFoundError:
                    if name == gone:
                        raise StoreError(f"{folder / name}: is listed, and is not there; remove the entry") from None
                    gone = name
                    break
                read.add(name)
                yield folder / name, table
            else:
                return

    def _add_part(
        self,
        corpus: str,
        spec: EncoderSpec,
        clip_ids: Sequence[str],
        sources: Sequence[str],
        columns: Mapping[str, pa.Array],
        notes: Sequence[str | None] | None,
        name: str | None = None,
    ) -> None:
        keys = {"clip_id": pa.array(clip_ids, pa.string()), "source": pa.array(sources, pa.string())}
        column = pa.array(notes if notes is not None else [None] * len(clip_ids), pa.string())
        self._add(corpus, spec, "part", pa.table({**keys, **columns, "note": column}), name)

    def _describe(self, corpus: str, spec: EncoderSpec) -> Path:
        """Make a folder, with what people read of it, where it is not there yet."""
        folder = self.folder(corpus, spec)
        if not (folder / "encoder.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(asdict(spec) | {"modality": spec.base}, indent=2, sort_keys=True, default=str) + "\n"
            write_whole(folder / "encoder.json", text)
        return folder

    def _add(self, corpus: str, spec: EncoderSpec, kind: str, table: pa.Table, name: str | None = None) -> None:
        path = self._describe(corpus, spec) / f"{kind}-{name or uuid.uuid4().hex}.parquet"
        write_whole(path, lambda path: write_table(table, path))
        announce(path)


def write_table(table: pa.Table, path: Path) -> None:
    """Write rows as all parts are written: plain, in groups of at most 64 MB."""
    rows = max(1, len(table) * _GROUP_BYTES // max(1, table.nbytes))
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, path, row_group_size=rows, **options)


def _figures_column(figures: Sequence[Mapping[str, Any] | None] | None) -> dict[str, pa.Array]:
    """Make the column of figures, JSON; none where no clip has any."""
    if figures is None or all(values is None for values in figures):
        return {}
    texts = [None if values is None else json.dumps(values, sort_keys=True, allow_nan=False) for values in figures]
    return {FIGURES: pa.array(texts, pa.string())}


def positions(corpus: str, clip_ids: Sequence[str], sources: Sequence[str]) -> dict[tuple[str, str], int]:
    """Number clips by `(clip_id, source)`.

    Raises:
        StoreError: a clip is there twice.
    """
    place = {key: row for row, key in enumerate(zip(clip_ids, sources, strict=True))}
    if len(place) != len(clip_ids):
        raise StoreError(f"a clip of corpus {corpus!r} is asked for twice; ids are unique within a corpus")
    return place
