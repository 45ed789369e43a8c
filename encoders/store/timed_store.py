"""Values in time in the feature store: a row for every frame of every clip, mapped into memory when they are read.

```
<store>/<corpus>/<modality>/<encoder id>-<fingerprint>-frames-<rate>/
    encoder.json              what made the values, for people
    frames-<uuid>.npy         float16 [rows, width]: the frames of the clips of one part, one clip after the other
    part-<uuid>.parquet       clip_id, source, offset and length (int64; rows of the file of the same uuid), rate as
                              numerator and denominator (int64), start (float64), state (bytes, one a frame), note
    ledger-<uuid>.parquet     as in `encoders.store.vector_store`, of clips that have nothing in time
```

The rows lie in `.npy` and not in an Arrow file: they are one plain array, which any program maps by its shape in the
header, and a part of hundreds of megabytes is written clip by clip without being put together in memory first. The
file of rows is written before the part that names it, so a part is there with all its rows or not at all; rows without
a part are the leftover of a killed writer.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa

from encoders.errors import StoreError
from encoders.spec import TimedSpec
from encoders.store.parts import find_rows
from encoders.store.vector_store import FeatureStore, positions
from encoders.timed import NONE, Timed, TimedSequences
from mmpsr.files import write_whole

__all__ = ["PLACES", "TimedStore", "part_of", "rows_of"]

PLACES = ("offset", "length", "numerator", "denominator", "start", "state")
"""Columns of a part that tell where a clip's frames lie and what they stand for."""


def rows_of(part: Path) -> Path:
    """Name the file of rows that belongs to a part."""
    return part.with_name(f"frames-{part.stem.removeprefix('part-')}.npy")


def part_of(rows: Path) -> Path:
    """Name the part that a file of rows belongs to."""
    return rows.with_name(f"part-{rows.stem.removeprefix('frames-')}.parquet")


def find_moved_rows(rows: Path) -> tuple[Path, int] | None:
    """Find where compaction put a file of rows: in which file, and from which row on; None where it took none."""
    moved = find_rows(rows.parent, part_of(rows).name)
    return None if moved is None else (rows_of(rows.with_name(moved.part)), moved.frame)


class TimedStore(FeatureStore):
    """Values in time by corpus and encoder; claims, atomic parts and a ledger as for vectors."""

    def write_timed(
        self,
        corpus: str,
        spec: TimedSpec,
        clip_ids: Sequence[str],
        sources: Sequence[str],
        clips: Sequence[Timed],
        notes: Sequence[str | None] | None = None,
    ) -> None:
        """Add clips as one part.

        Args:
            corpus: name of the corpus.
            spec: what made the values.
            clip_ids: n ids.
            sources: n hashes of what the values were made from.
            clips: n clips in time, `[T, spec.width]` each.
            notes: n sentences of the encoder, `None` where it has none.

        Raises:
            StoreError: values have another shape than the states or the encoder's width, are not finite, or are not
                zeros where there is nothing.
        """
        for clip_id, timed in zip(clip_ids, clips, strict=True):
            about = f"clip {clip_id!r} by {spec.id!r} in time"
            shape = (len(timed.state), spec.width)
            if timed.values.shape != shape or not len(timed.state) or timed.values.dtype != np.float16:
                raise StoreError(
                    f"{about}: values are {timed.values.dtype} {timed.values.shape} for {len(timed.state)} states, "
                    f"expected float16 [T, {spec.width}] with T >= 1"
                )
            if not np.isfinite(timed.values).all():
                raise StoreError(f"{about}: values are not finite; record it as a failure")
            if timed.values[timed.state == NONE].any():
                raise StoreError(f"{about}: values are not zero at frames that have none")
        if not len(clip_ids):
            return
        name = uuid.uuid4().hex
        lengths = np.array([len(timed.state) for timed in clips], dtype=np.int64)

        def write_rows(path: Path) -> None:
            header = {"descr": "<f2", "fortran_order": False, "shape": (int(lengths.sum()), spec.width)}
            with path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for timed in clips:
                    file.write(np.ascontiguousarray(timed.values, dtype="<f2").data)

        self._describe(corpus, spec)
        write_whole(self.folder(corpus, spec) / f"frames-{name}.npy", write_rows)
        columns = {
            "offset": pa.array(np.cumsum(lengths) - lengths),
            "length": pa.array(lengths),
            "numerator": pa.array([timed.rate.numerator for timed in clips], pa.int64()),
            "denominator": pa.array([timed.rate.denominator for timed in clips], pa.int64()),
            "start": pa.array([timed.start for timed in clips], pa.float64()),
            "state": pa.array([timed.state.astype(np.int8).tobytes() for timed in clips], pa.binary()),
        }
        self._add_part(corpus, spec, clip_ids, sources, columns, notes, name)

    def open_timed(
        self, corpus: str, spec: TimedSpec, clip_ids: Sequence[str], sources: Sequence[str]
    ) -> TimedSequences:
        """Tell where clips lie; their values are not read before they are asked for.

        Args:
            corpus: name of the corpus.
            spec: whose values.
            clip_ids: n distinct ids.
            sources: n hashes; values of another source are not used.

        Raises:
            StoreError: a clip is asked for twice, or a part or its rows cannot be read.
        """
        place = positions(corpus, clip_ids, sources)
        num = len(clip_ids)
        parts, offsets = np.full(num, -1, dtype=np.int64), np.zeros(num, dtype=np.int64)
        lengths, starts = np.zeros(num, dtype=np.int64), np.zeros(num)
        rates: list[Fraction | None] = [None] * num
        states = [b""] * num
        paths: list[Path] = []
        for path, columns in self._parts(corpus, spec, ["clip_id", "source", *PLACES]):
            table, rows = columns.to_pydict(), rows_of(path)
            if not rows.exists() and path.exists():  # compaction removes rows after their part
                raise StoreError(
                    f"{path}: its rows, {rows.name}, are not there; delete the part and its clips are extracted again"
                )
            paths.append(rows)
            for row, key in enumerate(zip(table["clip_id"], table["source"], strict=True)):
                clip = place.get(key)
                if clip is None:
                    continue
                parts[clip], offsets[clip] = len(paths) - 1, table["offset"][row]
                lengths[clip], starts[clip] = table["length"][row], table["start"][row]
                rates[clip] = Fraction(table["numerator"][row], table["denominator"][row])
                states[clip] = table["state"][row]
        return TimedSequences(spec.width, paths, parts, offsets, lengths, rates, starts, states, find_moved_rows)
