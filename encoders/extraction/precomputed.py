"""Features computed elsewhere, given to the feature store like any encoder's vectors.

```toml
[features]
encoders = { video = "openface", audio = "sound", text = "minilm" }

[features.precomputed.openface]
path = "features/openface-UTT/{clip_id}.npy"

[features.precomputed.sound]
path = "Processed/aligned_50.pkl"
field = "audio"
key = "{group}$_${raw.clip}"
```

Paths are relative to the working directory; `{...}` are columns of the clip table (whole numbers without a point).
Whether a clip has one vector `[D]` (stored as it is) or a sequence `[T, D]` (stored as mean and standard deviation),
and how wide it is, is told by the first file that is there.

| suffix | what is in it | key |
|---|---|---|
| `.npy` | one clip's array | none |
| `.npz` | an array per clip, or (with a field) one clip's arrays by name | the array's name, or none |
| `.pkl`, `.pickle` | splits, each a dictionary with `id` and arrays `[N, T, D]` or lists of `[T, D]` by name | `id` |
| `.parquet` | a text column of keys, and one list column (the field) or numeric columns | the text column |

Shared files are opened once per process and kept until `close_files`.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from encoders.base import Embeddings, Encoder, read_each
from encoders.config import COLUMN, PrecomputedConfig
from encoders.errors import EncodingError, ExtractionError, MissingModality
from encoders.media.clip import ClipMedia
from mmpsr.config import nearest
from mmpsr.files import sha256_of
from mmpsr.unpickling import PickleError, load_pickle

__all__ = ["Precomputed", "close_files"]


class Precomputed(Encoder):
    """Arrays read from files; what they were made with is known to their maker.

    Args:
        name: how the configuration calls them; names their folder in the feature store.
        modality: what they describe.
        declared: where they are.

    Raises:
        ExtractionError: no file is there yet, or the first one cannot be used.
    """

    def __init__(self, name: str, modality: str, declared: PrecomputedConfig) -> None:
        super().__init__(modality)
        self.id = name  # type: ignore[misc]  # one class, a name per declaration
        self.declared = declared
        path = _first_file(declared.path)
        if path is None:
            raise ExtractionError(
                f"features.precomputed.{name}: there is no file {declared.path} (relative to the working directory, "
                "whatever stands for {...})"
            )
        try:
            shape = _first_shape(path, declared.field, _file_state(path) or (0, 0))
        except (EncodingError, MissingModality) as reason:
            raise ExtractionError(f"features.precomputed.{name}: {reason}") from None
        if len(shape) not in (1, 2) or shape[-1] == 0:
            raise ExtractionError(f"features.precomputed.{name}: {path}: shape {shape}, expected [D] or [T, D]")
        self._width = shape[-1]
        self.pooling = declared.pooling or ("none" if len(shape) == 1 else "mean+std")

    @property
    def width(self) -> int:
        """Width D of the arrays."""
        return self._width

    def settings(self) -> Mapping[str, object]:
        """Tell where the arrays come from; that a file was replaced is seen by `source`."""
        return {
            "path": self.declared.path, "format": self.declared.format, "field": self.declared.field,
            "key": self.declared.key,
        }  # fmt: skip

    def source(self, clip: Mapping[str, Any]) -> str:
        """Hash the file's path, size and modification time, and the clip's key in it, to twelve hexadecimal digits."""
        try:
            path, key = self._place(clip)
            parts: list[object] = [path, key, _file_state(path)]
        except MissingModality:
            parts = []
        return sha256_of(json.dumps(parts))[:12]

    def encode(self, clips: Sequence[ClipMedia]) -> list[Embeddings]:
        """Read the clips' arrays; a missing file or key is absence, another width or several vectors a failure."""
        return list(read_each(clips, lambda clip: self._read(*self._place(clip.row))))

    def _place(self, clip: Mapping[str, Any]) -> tuple[str, str]:
        return _fill(self.declared.path, clip), _fill(self.declared.key, clip)

    def _read(self, path: str, key: str) -> NDArray[np.float32]:
        array = _read_features(path, self.declared.field, key)
        sequence = array[np.newaxis] if array.ndim == 1 else array
        fits = sequence.ndim == 2 and len(sequence) > 0 and sequence.shape[1] == self.width
        if not fits or (self.pooling == "none" and len(sequence) > 1):
            expected = f"[{self.width}]" if self.pooling == "none" else f"[T >= 1, {self.width}]"
            raise EncodingError(f"{path}: shape {array.shape}, expected {expected}")
        return sequence


def _fill(template: str, clip: Mapping[str, Any]) -> str:
    """Put a clip's values into a template.

    Example:
        >>> _fill("{group}$_${raw.clip}", {"group": "a-B3", "raw.clip": 12.0})
        'a-B3$_$12'
    """

    def value(column: re.Match[str]) -> str:
        cell = clip.get(column[1])
        if pd.isna(cell) is True:
            raise MissingModality(f"{template}: the clip has no {column[1]!r}")
        return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)

    return COLUMN.sub(value, template)


def _first_file(template: str) -> str | None:
    """Find the first file, in the order of names, that a template may stand for; a value may hold slashes."""
    literal = [glob.escape(part) for part in COLUMN.split(template)[::2]]  # without the columns between
    plain = "*".join(literal)
    nested = PurePath(plain)
    patterns = [plain, str(nested.parent / "**" / f"*{nested.suffix}")] if len(literal) > 1 else [plain]
    paths = (min(glob.iglob(pattern, recursive=True), default=None) for pattern in patterns)
    return next((path for path in paths if path is not None), None)


@dataclass(frozen=True)
class _Arrays:
    """Arrays of a file by key; `repeated` keys stand there twice, `padded` ones may have rows of zeros as padding."""

    by_key: Mapping[str, Any]
    repeated: set[str] = field(default_factory=set)
    padded: set[str] = field(default_factory=set)


def _file_state(path: str) -> tuple[int, int] | None:
    """Tell the size and modification time (ns) of a file, None where there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _read_features(path: str, name: str | None, key: str) -> NDArray[np.float32]:
    """Read the array of one clip: of a field by name where the format has fields, by key in a shared file.

    Rows of an MMSA pickle are cut to `<field>_lengths` where the file has it; elsewhere its rows that are zero
    throughout are taken for padding, at the front, at the back or between, and left out.

    Raises:
        MissingModality: there is no such file, or nothing under this key in it.
        EncodingError: the file cannot be read, is not laid out as expected, or holds no numbers under this key.
    """
    state = _file_state(path)
    if state is None:
        raise MissingModality(f"{path}: there is no such file")
    arrays = _open(path, name, state)
    if path.lower().endswith(".npy"):
        key = ""
    elif _is_npz(path) and name is not None:
        key = name
    if key in arrays.repeated:
        raise EncodingError(f"{path}: {key!r} stands there more than once; the key must tell clips apart")
    if key not in arrays.by_key:
        example = next(iter(arrays.by_key), None)
        raise MissingModality(f"{path}: nothing is named {key!r} among {len(arrays.by_key)}, for example {example!r}")
    return _array(path, arrays, key)


@lru_cache(maxsize=64)
def _first_shape(path: str, name: str | None, state: tuple[int, int]) -> tuple[int, ...]:
    """Tell the shape of a file's first array, which tells the others' width; raises as `_read_features` does."""
    arrays = _open(path, name, state)
    first = name if _is_npz(path) and name is not None else next(iter(arrays.by_key), None)
    if first is None or first not in arrays.by_key:
        wanted = "" if name is None else f" named {name!r}; {nearest(name, arrays.by_key)}"
        raise EncodingError(f"{path}: holds no array{wanted}")
    return _array(path, arrays, first).shape


def close_files() -> None:
    """Forget the contents of shared files; shapes that were asked for stay known."""
    _opened.cache_clear()
    _pickled.cache_clear()


def _is_npz(path: str) -> bool:
    return path.lower().endswith(".npz")


def _array(path: str, arrays: _Arrays, key: str) -> NDArray[np.float32]:
    try:
        array = np.asarray(arrays.by_key[key])
    except Exception as error:  # a damaged member of an archive raises whatever its compression does
        raise EncodingError(f"{path}: {key!r} cannot be read ({error})") from None
    if array.dtype.kind not in "biuf":
        raise EncodingError(f"{path}: {key!r} is of type {array.dtype}, expected numbers")
    if key in arrays.padded and array.ndim == 2:
        array = array[array.any(axis=1)]
        if not len(array):
            raise EncodingError(f"{path}: {key!r} is zero throughout")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _open(path: str, name: str | None, state: tuple[int, int]) -> _Arrays:
    try:
        if path.lower().endswith(".npy"):
            with open(path, "rb") as stream:
                return _Arrays({"": np.lib.format.read_array(stream, allow_pickle=False)})
        return _opened(path, name, state)
    except EncodingError:
        raise
    except Exception as error:  # so many formats, so many errors
        raise EncodingError(f"{path}: cannot be read ({type(error).__name__}: {error})") from None


@lru_cache(maxsize=8)
def _opened(path: str, name: str | None, state: tuple[int, int]) -> _Arrays:
    if _is_npz(path):
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise EncodingError(f"{path}: holds one array as .npy does, expected an archive of arrays")
        return _Arrays(archive)
    if path.lower().endswith(".parquet"):
        return _read_parquet(path, name)
    return _read_splits(path, str(name), _pickled(path, state))


@lru_cache(maxsize=2)
def _pickled(path: str, state: tuple[int, int]) -> object:
    """Read the whole of a pickle, kept apart from its fields: the modalities of one corpus often share one."""
    try:
        return load_pickle(path, path, arrays=True)
    except PickleError as error:
        raise EncodingError(str(error)) from None


def _read_splits(path: str, name: str, tree: object) -> _Arrays:
    """Index the rows of every split by id; nothing is copied."""
    parts = tree.items() if isinstance(tree, dict) else ()
    splits = {split: part for split, part in parts if isinstance(part, dict) and "id" in part}
    if not splits:
        contents = f"a dictionary of {', '.join(map(repr, tree))}" if isinstance(tree, dict) else type(tree).__name__
        raise EncodingError(f"{path}: expected splits, each a dictionary with 'id' and arrays; found {contents}")
    by_key: dict[str, Any] = {}
    arrays = _Arrays(by_key)
    for split, part in splits.items():
        if name not in part:
            raise EncodingError(f"{path}: split {split!r} has no {name!r}; {nearest(name, map(str, part))}")
        keys, rows, lengths = [_key(key) for key in part["id"]], part[name], part.get(f"{name}_lengths")
        if len(rows) != len(keys) or (lengths is not None and len(lengths) != len(keys)):
            counts = f"{len(keys)} ids, {len(rows)} rows" + ("" if lengths is None else f", {len(lengths)} lengths")
            raise EncodingError(f"{path}: split {split!r} has {counts} of {name!r}")
        if lengths is None:
            arrays.padded.update(keys)
        for index, key in enumerate(keys):
            if key in by_key:
                arrays.repeated.add(key)
            by_key[key] = rows[index] if lengths is None else np.asarray(rows[index])[: int(lengths[index])]
    return arrays


def _key(value: Any) -> str:
    """Turn an id into text; arrays of one text and bytes occur."""
    values = np.asarray(value).ravel()
    value = values[0] if len(values) == 1 else value
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _read_parquet(path: str, name: str | None) -> _Arrays:
    """Index the rows of a table by its text column; rows that share a key are frames in the order of the file."""
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        texts = [column.name for column in schema if _is_text(column.type)]
        key = "clip_id" if "clip_id" in texts else texts[0] if len(texts) == 1 else None
        if key is None:
            raise EncodingError(
                f"{path}: expected one text column of keys, or one named 'clip_id'; text columns are {texts}"
            )
        if name is not None and name not in schema.names:
            raise EncodingError(f"{path}: no column is named {name!r}; {nearest(name, schema.names)}")
        numbers = [
            column.name
            for column in schema
            if (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
            and not column.name.startswith("__index_level_")  # what pandas adds
        ]
        columns = numbers if name is None else [name]
        if not columns:
            raise EncodingError(f"{path}: has no numeric column; name the column of lists as field")
        frame = file.read(columns=[key, *columns]).to_pandas()
    if name is None:
        values: Any = frame[columns].to_numpy(dtype=np.float64)
    else:
        values = [_frames(row) for row in frame[name]]
    groups = frame.groupby(frame[key].astype(object).to_numpy(), sort=False).indices
    if all(len(rows) == 1 for rows in groups.values()):
        return _Arrays({str(label): values[rows[0]] for label, rows in groups.items()})
    return _Arrays({str(label): np.stack([values[row] for row in rows]) for label, rows in groups.items()})


def _frames(row: Any) -> Any:
    """Stack a list of lists to one array `[T, D]`; all else stays as it is."""
    is_nested = isinstance(row, np.ndarray) and row.dtype == object and len(row) > 0
    return np.stack(list(row)) if is_nested else row


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
