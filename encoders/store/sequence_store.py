"""Sequences of embeddings in the feature store, in folders of their own that readers of vectors never open.

```
<store>/<corpus>/<modality>/<encoder id>-<fingerprint>-sequence-<cap>/
    encoder.json              what made the sequences, for people
    part-<uuid>.parquet       clip_id, source, length (int32), sequence, note
    ledger-<uuid>.parquet     as in `encoders.store.vector_store`, of clips that have a vector and no sequence
```

`sequence` is a list of elements, each of them the bytes of `width` little-endian float16 numbers: Parquet reads these
as they lie, whereas it takes lists of lists of numbers apart number by number. Clips without a vector have no
sequence for the same reason, which stands in the vectors' ledger only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from encoders.errors import StoreError
from encoders.sequences import concatenated
from encoders.spec import SequenceSpec
from encoders.store.parts import find_rows, read_part
from encoders.store.vector_store import FeatureStore, positions

__all__ = ["Places", "SequenceStore", "unpack"]

_MOST_MOVES = 20


@dataclass(frozen=True)
class Places:
    """Where the sequences of n clips lie.

    Attributes:
        paths: the parts.
        parts: `[n]`, position of the clip's part in `paths`; -1 where it has no sequence.
        rows: `[n]`, the clip's row in that part.
        lengths: `[n]`, elements of the sequence, 0 where there is none.
    """

    paths: list[Path]
    parts: NDArray[np.int64]
    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]


class SequenceStore(FeatureStore):
    """Sequences by corpus and encoder; claims, atomic parts and a ledger as for vectors."""

    def write_sequences(
        self,
        corpus: str,
        spec: SequenceSpec,
        clip_ids: Sequence[str],
        sources: Sequence[str],
        sequences: Sequence[NDArray[np.float16]],
        notes: Sequence[str | None] | None = None,
    ) -> None:
        """Add sequences as one part.

        Args:
            corpus: name of the corpus.
            spec: what made the sequences.
            clip_ids: n ids.
            sources: n hashes of what the sequences were made from.
            sequences: n arrays `[T, spec.width]`, finite, with T from 1 to `spec.cap`.
            notes: n sentences of the encoder, `None` where it has none.

        Raises:
            StoreError: a sequence has another shape or is not finite.
        """
        for clip_id, sequence in zip(clip_ids, sequences, strict=True):
            if sequence.ndim != 2 or not 0 < len(sequence) <= spec.cap or sequence.shape[1] != spec.width:
                raise StoreError(
                    f"the sequence of clip {clip_id!r} by {spec.id!r} has shape {sequence.shape}, expected "
                    f"[1 to {spec.cap}, {spec.width}]"
                )
            if not np.isfinite(sequence).all():
                raise StoreError(
                    f"the sequence of clip {clip_id!r} by {spec.id!r} is not finite; record it as a failure"
                )
        if not len(clip_ids):
            return
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int32)
        values = np.concatenate(sequences).astype("<f2")
        kind = pa.list_(pa.field("element", pa.binary(2 * spec.width), nullable=False))
        elements = pa.Array.from_buffers(kind.value_type, len(values), [None, pa.py_buffer(values)])
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        column = pa.ListArray.from_arrays(offsets, elements, type=kind)
        self._add_part(corpus, spec, clip_ids, sources, {"length": pa.array(lengths), "sequence": column}, notes)

    def locate(self, corpus: str, spec: SequenceSpec, clip_ids: Sequence[str], sources: Sequence[str]) -> Places:
        """Tell where sequences lie and how long they are, without reading them.

        Args:
            corpus: name of the corpus.
            spec: whose sequences.
            clip_ids: n distinct ids.
            sources: n hashes; sequences of another source are not used.

        Raises:
            StoreError: a clip is asked for twice, or a part cannot be read.
        """
        place = positions(corpus, clip_ids, sources)
        paths: list[Path] = []
        parts, rows, lengths = np.full((3, len(clip_ids)), -1, dtype=np.int64)
        for number, (path, table) in enumerate(self._parts(corpus, spec, ["clip_id", "source", "length"])):
            paths.append(path)
            keys = zip(table["clip_id"].to_pylist(), table["source"].to_pylist(), strict=True)
            clips = np.array([place.get(key, -1) for key in keys], dtype=np.int64)
            stored = np.flatnonzero(clips >= 0)
            parts[clips[stored]], rows[clips[stored]] = number, stored
            lengths[clips[stored]] = table["length"].to_numpy()[stored]
        return Places(paths, parts, rows, np.maximum(lengths, 0))

    def fill(self, spec: SequenceSpec, places: Places, starts: NDArray[np.int64], values: NDArray[np.float16]) -> None:
        """Read sequences into an array, part by part.

        Args:
            spec: whose sequences.
            places: where the sequences of n clips lie.
            starts: `[n]`, row of `values` at which the clip's sequence shall begin.
            values: `[total, spec.width]`, to fill.

        Raises:
            StoreError: a part cannot be read, or is no longer the one that was located.
        """
        for number, path in enumerate(places.paths):
            clips = np.flatnonzero(places.parts == number)
            if not len(clips):
                continue
            table, row = _read_moved(path)
            try:
                offsets, elements = unpack(table, spec.width)
            except ValueError as error:
                raise StoreError(f"{path}: {error}; delete it and its clips are extracted again") from None
            lengths, rows = places.lengths[clips], places.rows[clips] + row
            values[concatenated(starts[clips], lengths)] = elements[concatenated(offsets[rows], lengths)]


def _read_moved(path: Path) -> tuple[pa.Table, int]:
    """Read a part's sequences, or those of what compaction made of it; and the row at which its own begin."""
    row = 0
    for _ in range(_MOST_MOVES):
        try:
            return read_part(path, ["length", "sequence"]), row
        except FileNotFoundError:
            moved = find_rows(path.parent, path.name)
            if moved is None:
                break
            path, row = path.with_name(moved.part), row + moved.row
    raise StoreError(f"{path}: is not there any more; read the sequences again")


def unpack(table: pa.Table, width: int | None) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """Read offsets `[n + 1]` and values `[total, width]` of a part's sequences, as in `encoders.sequences.Sequences`.

    Args:
        table: with the columns `length` and `sequence`.
        width: expected of an element; None where it is not known.

    Raises:
        ValueError: the columns are not what `SequenceStore.write_sequences` writes.
    """
    kind = table.schema.field("sequence").type
    is_list = pa.types.is_list(kind) and pa.types.is_fixed_size_binary(kind.value_type)
    num_bytes = kind.value_type.byte_width if is_list else 0
    if not is_list or num_bytes not in ((num_bytes // 2 * 2,) if width is None else (2 * width,)):
        expected = "float16 numbers" if width is None else f"{width} float16 numbers"
        raise ValueError(f"sequences are of type {kind}, expected lists of the bytes of {expected}")
    array = table["sequence"].combine_chunks()
    offsets = array.offsets.to_numpy().astype(np.int64)
    lengths = np.diff(offsets)
    if (lengths < 1).any() or (lengths != table["length"].to_numpy()).any():
        raise ValueError("lengths of sequences are not those stated")
    elements = array.values
    values = np.frombuffer(elements.buffers()[1] or b"", dtype="<f2").reshape(-1, num_bytes // 2)
    return offsets, values[elements.offset : elements.offset + len(elements)]
