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

Paths are relative to the working directory; `{...}` are columns of the clip table (whole numbers without a point). The
formats are those of `encoders.extraction.precomputed_files`. Whether a clip has one vector `[D]` (stored as it is) or a
sequence `[T, D]` (stored as mean and standard deviation), and how wide it is, is told by the first file that is there.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from encoders.base import Embeddings, Encoder, read_each
from encoders.config import COLUMN, PrecomputedConfig
from encoders.errors import EncodingError, ExtractionError, MissingModality
from encoders.extraction.precomputed_files import file_state, first_shape, read_features
from encoders.media.clip import ClipMedia
from mmpsr.files import sha256_of

__all__ = ["Precomputed"]


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
            shape = first_shape(path, declared.field)
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
        """Where the arrays come from; that a file was replaced is seen by `source`."""
        return {
            "path": self.declared.path, "format": self.declared.format, "field": self.declared.field,
            "key": self.declared.key,
        }  # fmt: skip

    def source(self, clip: Mapping[str, Any]) -> str:
        """Twelve hexadecimal digits over the file's path, size and modification time, and the clip's key in it."""
        try:
            path, key = self._place(clip)
            parts: list[object] = [path, key, file_state(path)]
        except MissingModality:
            parts = []
        return sha256_of(json.dumps(parts))[:12]

    def encode(self, clips: Sequence[ClipMedia]) -> list[Embeddings]:
        """Read the clips' arrays; a missing file or key is absence, another width or several vectors a failure."""
        return list(read_each(clips, lambda clip: self._read(*self._place(clip.row))))

    def _place(self, clip: Mapping[str, Any]) -> tuple[str, str]:
        return _fill(self.declared.path, clip), _fill(self.declared.key, clip)

    def _read(self, path: str, key: str) -> NDArray[np.float32]:
        array = read_features(path, self.declared.field, key)
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
        found = clip.get(column[1])
        if pd.isna(found) is True:
            raise MissingModality(f"{template}: the clip has no {column[1]!r}")
        return str(int(found)) if isinstance(found, float) and found.is_integer() else str(found)

    return COLUMN.sub(value, template)


def _first_file(template: str) -> str | None:
    """First file, in the order of names, that a template may stand for; a value may hold slashes in the file's name."""
    literal = [glob.escape(part) for part in COLUMN.split(template)[::2]]  # without the columns between
    plain = "*".join(literal)
    nested = PurePath(plain)
    patterns = [plain, str(nested.parent / "**" / f"*{nested.suffix}")] if len(literal) > 1 else [plain]
    found = (min(glob.iglob(pattern, recursive=True), default=None) for pattern in patterns)
    return next((path for path in found if path is not None), None)
