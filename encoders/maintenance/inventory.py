"""What a feature store holds, whether it can be trusted, and what a configuration uses of it.

`take_inventory` counts and examines part by part, so that memory stays flat; a damaged file is reported and stops
nothing. `usage_of` says which folders and clips a configuration uses; `encoders.maintenance.pruning` removes others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from encoders.config import FeaturesConfig
from encoders.errors import StoreError
from encoders.extraction.read import make_encoders, sequence_specs, timed_source, timed_specs
from encoders.spec import EncoderSpec, TimedSpec, cap_of, rate_of
from encoders.store.parts import list_parts
from encoders.store.queue import records_of
from encoders.store.sequence_store import unpack
from encoders.store.text_store import TEXTS
from encoders.store.timed_store import PLACES, part_of, rows_of
from encoders.timed import NONE, REPEATED
from encoders.visibility import FaceFigures, FaceSummary, summarize_faces
from encoders.writers.build import text_writers
from encoders.writers.fill import TextWork

__all__ = ["Damage", "FolderReport", "Usage", "take_inventory", "usage_of"]

_LEDGER = ("clip_id", "source", "status", "time")
_SLICE = 4096
"""Elements of sequences that are examined at a time."""


@dataclass(frozen=True)
class Damage:
    """A file that cannot be read, and why."""

    file: str
    reason: str


@dataclass
class FolderReport:
    """What one encoder's folder of one corpus holds: vectors, sequences, values in time or texts.

    What a folder of sequences says of rows, it says of the elements of all sequences, and a folder of values in time of
    the frames of all clips, those included that have nothing. Clips without a vector are in
    the counts of the vectors' folder only.

    Attributes:
        folder: below the store's root.
        corpus: name of the corpus.
        modality: what is described; `texts` where models wrote texts about clips.
        encoder: its id; the folder's name where `encoder.json` cannot be read.
        fingerprint: of its settings; empty where `encoder.json` cannot be read.
        in_use: whether the configuration uses it; None without a configuration.
        done: clips with a vector, a sequence, values in time or a text.
        failed: clips that should have one and have none, by the latest word.
        absent: clips that have nothing of the modality, by the latest word.
        superseded: rows that count no longer: made from other media or text than the clip's, of clips that the corpus
            does not have, and failures that something later replaced.
        cap: most elements of a sequence; None where there are none.
        longest: elements of the longest sequence, or frames of the longest clip; None where there are none.
        rate: frames per second of values in time, `own` for each file's own; None for other folders.
        num_frames: frames of all clips; None where nothing is in time.
        num_repeated: those of them that repeat the last before them.
        num_none: those that have nothing.
        width: of a vector or an element; None where there are none.
        mean: over all values of all rows; None where there are none.
        std: population standard deviation over the same.
        constant_columns: positions at which all rows are equal; None with fewer than two rows.
        constant_vectors: vectors all of whose values are equal; sequences and clips in time whose rows all are.
        not_finite: vectors, sequences or clips that hold NaN or infinity; the other figures leave them out.
        num_parts: parts, with damaged ones.
        num_bytes: of all files in the folder.
        oldest: when the oldest part was written, UTC in ISO 8601; None without parts.
        newest: when the newest part was.
        damaged: files that cannot be read; their rows are in no figure.
        faces: what the pictures show of faces, of clips with and without a vector; None where no clip was measured.
    """

    folder: str
    corpus: str
    modality: str
    encoder: str
    fingerprint: str = ""
    in_use: bool | None = None
    done: int = 0
    failed: int = 0
    absent: int = 0
    superseded: int = 0
    cap: int | None = None
    longest: int | None = None
    rate: str | None = None
    num_frames: int | None = None
    num_repeated: int | None = None
    num_none: int | None = None
    width: int | None = None
    mean: float | None = None
    std: float | None = None
    constant_columns: int | None = None
    constant_vectors: int = 0
    not_finite: int = 0
    num_parts: int = 0
    num_bytes: int = 0
    oldest: str | None = None
    newest: str | None = None
    damaged: list[Damage] = field(default_factory=list)
    faces: FaceSummary | None = None

    @property
    def is_sound(self) -> bool:
        """Whether every file can be read and every value is finite."""
        return not self.damaged and not self.not_finite


def take_inventory(root: Path, usage: Usage | None = None) -> Iterator[FolderReport]:
    """Examine every encoder's folder of a feature store, in the order of their names.

    Args:
        root: folder of the store; it need not exist.
        usage: what a configuration uses; left out, `in_use` is not known, and the rows of a clip count as one.
    """
    for path in sorted(root.glob("*/*/*")):
        folder = path.relative_to(root)
        if any(part.startswith(".") for part in folder.parts) or not path.is_dir():
            continue
        while True:
            names = list_parts(path, "part-", "ledger-")
            if not names and not (path / "encoder.json").exists():
                break
            with suppress(FileNotFoundError):  # compaction took a part meanwhile
                yield _examine(path, folder.as_posix(), names, usage)
                break


def _examine(path: Path, folder: str, names: list[str], usage: Usage | None) -> FolderReport:
    corpus, modality, name = folder.split("/")
    report = FolderReport(folder, corpus, modality, name, cap=cap_of(name), rate=rate_of(name))
    values = _Values()
    try:
        spec = json.loads((path / "encoder.json").read_text(encoding="utf-8"))
        if modality != TEXTS:
            width = int(spec["width"])
            is_whole = report.cap is None and report.rate is None and spec.get("pooling") != "none"
            report.width = 2 * width if is_whole else width
        report.encoder, report.fingerprint = str(spec["id"]), str(spec["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        report.damaged.append(Damage(f"{folder}/encoder.json", f"{type(error).__name__}: {error}"))
    keys = _Keys()
    held: tuple[str, ...] = ("vector",) if report.cap is None else ("length", "sequence")
    held = ("text",) if modality == TEXTS else held if report.rate is None else PLACES
    times = []
    for file in (path / name for name in names):
        try:
            if file.name.startswith("part-"):
                report.num_parts += 1
                times.append(file.stat().st_mtime)
                table = _read(file, ("clip_id", "source", *held), ("figures",))
                if report.rate is not None:
                    _add_timed(report, values, table, rows_of(file))
                elif report.cap is not None:
                    offsets, elements = unpack(table, report.width)
                    report.width, longest = elements.shape[1], int(np.diff(offsets).max(initial=0))
                    report.longest = max(report.longest or 0, longest)
                    values.add_sequences(offsets, elements)
                elif modality != TEXTS:
                    vectors = _vectors(table, report.width)
                    report.width = vectors.shape[1]
                    values.add(vectors)
                keys.add_parts(table)
            else:
                keys.add_ledger(_read(file, _LEDGER, ("figures",)))
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            report.damaged.append(Damage(f"{folder}/{file.name}", str(error).strip().partition("\n")[0]))
    keys.count(report, None if usage is None else usage.clips_of(folder, corpus))
    values.tell(report)
    report.in_use = None if usage is None else folder in usage.folders
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):  # a temporary file, whose writer has just finished
            report.num_bytes += file.stat().st_size if file.is_file() else 0
    if times:
        report.oldest, report.newest = _iso(min(times)), _iso(max(times))
    return report


def _read(path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> pa.Table:
    with pq.ParquetFile(path) as file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise ValueError(f"has no column {missing[0]!r}, found {', '.join(file.schema_arrow.names)}")
        return file.read(columns=[*columns, *(name for name in optional if name in file.schema_arrow.names)])


def _add_timed(report: FolderReport, values: _Values, table: pa.Table, path: Path) -> None:
    """Examine the clips of a part of values in time, each for itself, so that none but one is held."""
    lengths, offsets = table["length"].to_numpy(), table["offset"].to_numpy()
    states = [np.frombuffer(state, dtype=np.int8) for state in table["state"].to_pylist()]
    if not path.exists() and part_of(path).exists():
        raise ValueError(f"its rows, {path.name}, are not there")
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    if rows.ndim != 2 or rows.dtype != np.float16 or report.width not in (None, rows.shape[1]):
        raise ValueError(f"{path.name} holds {rows.dtype} {rows.shape}, expected float16 [rows, {report.width}]")
    told = (lengths >= 1) & (offsets >= 0) & (offsets + lengths <= len(rows)) & (lengths == [*map(len, states)])
    if not told.all():
        raise ValueError(f"places or states of clips do not fit the {len(rows)} rows of {path.name}")
    report.width = rows.shape[1]
    report.longest = max(report.longest or 0, int(lengths.max(initial=0)))
    report.num_frames = (report.num_frames or 0) + int(lengths.sum())
    report.num_repeated = (report.num_repeated or 0) + sum(int((state == REPEATED).sum()) for state in states)
    report.num_none = (report.num_none or 0) + sum(int((state == NONE).sum()) for state in states)
    for offset, length in zip(offsets, lengths, strict=True):
        values.add_sequences(np.array([0, length]), rows[offset : offset + length])


def _vectors(table: pa.Table, width: int | None) -> NDArray[np.float32]:
    kind = table.schema.field("vector").type
    if not pa.types.is_fixed_size_list(kind) or width not in (None, kind.list_size):
        expected = "all equally wide" if width is None else f"{width} wide"
        raise ValueError(f"vectors are of type {kind}, expected float32 {expected}")
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    return np.asarray(flat, dtype=np.float32).reshape(-1, kind.list_size)


class _Keys:
    """Which clips have a vector, by clip and what it was made from; a vector outweighs failures, late ones early."""

    def __init__(self) -> None:
        self.num_rows = 0
        self.words: dict[tuple[str, str], tuple[str, str]] = {}
        self.figures: dict[tuple[str, str], str] = {}

    def add_parts(self, table: pa.Table) -> None:
        self.num_rows += len(table)
        self.words.update(dict.fromkeys(self._keys(table), _DONE))

    def _keys(self, table: pa.Table) -> list[tuple[str, str]]:
        """List the keys of rows, and keep their figures."""
        keys = list(zip(table["clip_id"].to_pylist(), table["source"].to_pylist(), strict=True))
        if "figures" in table.column_names:
            texts = zip(keys, table["figures"].to_pylist(), strict=True)
            self.figures |= {key: text for key, text in texts if text is not None}
        return keys

    def add_ledger(self, table: pa.Table) -> None:
        self.num_rows += len(table)
        self._keys(table)
        for clip_id, source, status, time in zip(*(table[name].to_pylist() for name in _LEDGER), strict=True):
            self.words[clip_id, source] = max(self.words.get((clip_id, source), _NOTHING), (time, status))

    def count(self, report: FolderReport, clips: Mapping[str, str | None] | None) -> None:
        """Put the numbers into a report: a clip counts once, by its best word.

        Args:
            report: to fill.
            clips: the corpus' clips and what their vectors are made from now, None where that is not known; or None
                where the clips are not known.
        """
        best: dict[str, tuple[str, str]] = {}
        faces: dict[str, FaceFigures] = {}
        for (clip_id, source), word in self.words.items():
            if clips is None or (clip_id in clips and clips[clip_id] in (None, source)):
                if word >= best.get(clip_id, _NOTHING) and (clip_id, source) in self.figures:
                    figures = FaceFigures.of(json.loads(self.figures[clip_id, source]))
                    faces |= {} if figures is None else {clip_id: figures}
                best[clip_id] = max(best.get(clip_id, _NOTHING), word)
        for _, status in best.values():
            setattr(report, status, getattr(report, status) + 1)
        report.superseded = self.num_rows - len(best)
        report.faces = summarize_faces(faces.values())


_NOTHING = ("", "")
_DONE = ("~", "done")
"""Later than every time, so that it is the best word."""


class _Values:
    """Figures over the values of vectors or elements that come part by part."""

    def __init__(self) -> None:
        self.num_values = self.num_rows = self.not_finite = self.num_constant = 0
        self.mean = self.squares = 0.0
        self.lowest: Any = np.inf
        self.highest: Any = -np.inf

    def add(self, vectors: NDArray[np.float32]) -> None:
        finite = np.isfinite(vectors).all(axis=1)
        self.not_finite += int(len(vectors) - finite.sum())
        kept = vectors[finite]
        if kept.shape[1] > 1:
            self.num_constant += int((kept.min(axis=1) == kept.max(axis=1)).sum())
        self._add(kept.astype(np.float64))

    def add_sequences(self, offsets: NDArray[np.int64], values: NDArray[np.float16]) -> None:
        starts, lengths = offsets[:-1], np.diff(offsets)
        finite = np.logical_and.reduceat(np.isfinite(values).all(axis=1), starts)
        still = np.logical_and.reduceat((values == np.repeat(values[starts], lengths, axis=0)).all(axis=1), starts)
        self.not_finite += int((~finite).sum())
        self.num_constant += int((still & finite & (lengths > 1)).sum())
        kept = values if finite.all() else values[np.repeat(finite, lengths)]
        for start in range(0, len(kept), _SLICE):
            self._add(kept[start : start + _SLICE].astype(np.float64))

    def _add(self, kept: NDArray[np.float64]) -> None:
        if not kept.size:
            return
        self.num_rows += len(kept)
        self.lowest = np.minimum(self.lowest, kept.min(axis=0))
        self.highest = np.maximum(self.highest, kept.max(axis=0))
        # two sets' squares about their own means, joined to those about the common mean
        total, shift = self.num_values + kept.size, float(kept.mean()) - self.mean
        self.squares += float(kept.var()) * kept.size + shift**2 * self.num_values * kept.size / total
        self.mean += shift * kept.size / total
        self.num_values = total

    def tell(self, report: FolderReport) -> None:
        report.not_finite, report.constant_vectors = self.not_finite, self.num_constant
        if self.num_values:
            report.mean, report.std = self.mean, (self.squares / self.num_values) ** 0.5
        if self.num_rows > 1:
            report.constant_columns = int((self.lowest == self.highest).sum())


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Usage:
    """What a configuration uses.

    Attributes:
        folders: below the store's root, with the encoder's id.
        clips: ids by corpus; corpora that cannot be read are not in it.
        sources: by folder what each clip's vector, sequence or values in time are made from now, see
            `encoders.base.Encoder.source`.
    """

    folders: Mapping[str, str]
    clips: Mapping[str, frozenset[str]]
    sources: Mapping[str, Mapping[str, str]]

    def clips_of(self, folder: str, corpus: str) -> Mapping[str, str | None] | None:
        """List clips of a folder's corpus with their sources, None where not known; None where no clips are known."""
        if folder in self.sources:
            return self.sources[folder]
        return dict.fromkeys(self.clips[corpus]) if corpus in self.clips else None


def usage_of(features: FeaturesConfig, tables: Mapping[str, pd.DataFrame | None]) -> Usage:
    """List what encoders and writers of texts use of the store; no weights are loaded and nothing is written.

    Args:
        features: encoders of the modalities in use, writers of texts, and the store.
        tables: clip table of each corpus, None where it cannot be read.

    Raises:
        ConfigError: an encoder is not known, cannot be made as configured, or has no sequences as asked for.
        ExtractionError: an encoder cannot be imported, or precomputed features are not there.
        StoreError: a file of corrected texts cannot be used.
    """
    folders: dict[str, str] = {}
    sources: dict[str, dict[str, str]] = {}
    encoders = make_encoders(features)
    vectors = {name: encoder.spec for name, encoder in encoders.items()}
    timed = timed_specs(features, encoders)
    specs = [*vectors.values(), *sequence_specs(features, vectors).values(), *timed.values()]
    writers = text_writers(features)
    for corpus, clips in tables.items():
        for spec in [*specs, *(writer.spec for writer in writers)]:
            folders[_folder(corpus, spec)] = spec.id
        if clips is None:
            continue
        for writer in writers:
            work = TextWork(clips, writer, features)
            sources[_folder(corpus, writer.spec)] = {item.clip_id: item.source for item in work.items.values()}
            with suppress(StoreError):  # a damaged part, which the inventory reports
                clips = work.filled(clips)
        rows = records_of(clips, clips.columns)
        made_from = {
            name: {str(row["clip_id"]): encoder.source(row) for row in rows} for name, encoder in encoders.items()
        }
        sources |= {
            _folder(corpus, spec): made_from[spec.modality] for spec in specs if not isinstance(spec, TimedSpec)
        }
        for name, spec in timed.items():
            made = {str(row["clip_id"]): timed_source(encoders[name], row) for row in rows}
            sources[_folder(corpus, spec)] = made
    known = {name: frozenset(clips["clip_id"]) for name, clips in tables.items() if clips is not None}
    return Usage(folders, known, sources)


def _folder(corpus: str, spec: EncoderSpec) -> str:
    return f"{corpus}/{spec.base}/{spec.key}"
