"""What an encoder is: one modality of a clip in, a sequence of vectors out, pooled to one fixed-width vector.

A clip's vector is the mean and the population standard deviation over time of the encoder's frame or token
embeddings, concatenated: `[T, width] -> [2 * width]`. Where features computed elsewhere give one vector per clip, it is
kept as it is: `[1, width] -> [width]`. Where `features.sequences` names the modality, the sequence is kept beside the
vector, see `encoders.sequences`.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator, model_validator

from encoders.catalogue_entries import ENTRIES
from encoders.catalogue_entry import EMBEDDED
from encoders.face_config import FacesConfig
from encoders.identity import source_of
from encoders.text_config import DescriberConfig, TranscriberConfig
from mmpsr.config import Config, nearest

if TYPE_CHECKING:
    from encoders.media import ClipMedia

__all__ = [
    "COLUMN",
    "MODALITIES",
    "Absent",
    "Encoder",
    "EncodingError",
    "FeaturesConfig",
    "Pooling",
    "PrecomputedConfig",
    "pool",
]

MODALITIES = ("video", "audio", "text", "behavior")
COLUMN = re.compile(r"\{([^{}]+)\}")
"""A column of the clip table in a template, such as `{clip_id}`."""

Pooling = Literal["mean+std", "none"]

_FORMATS = {".npy": "npy", ".npz": "npz", ".pkl": "pickle", ".pickle": "pickle", ".parquet": "parquet"}
_Names = TypeVar("_Names", dict[str, str], tuple[str, ...])
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class EncodingError(Exception):
    """An encoder could not turn a clip into vectors although the modality is given; the message is the reason."""


class Absent(Exception):  # noqa: N818  absence is not an error
    """The clip has nothing of this modality (no media file, no transcript); the message says what is missing."""


class Encoder(ABC):
    """Turns one modality of clips into sequences of vectors.

    Constructors are light: they know width and settings (so the fingerprint) without weights, because the parent
    process constructs encoders to learn what is missing. `load` is called in the worker processes; encoders whose
    weights should be loaded only once derive from `encoders.device.DeviceEncoder`.
    """

    id: ClassVar[str]
    """Name in the catalogue and in configurations."""
    version: ClassVar[int] = 1
    """Raised whenever the same clip would give other vectors; part of the fingerprint."""
    pooling: Pooling = "mean+std"
    """How a clip's embeddings become its vector, see `pool`."""

    def __init__(self, modality: str) -> None:
        self.modality = modality

    @property
    @abstractmethod
    def width(self) -> int:
        """Width of one embedding; a vector pooled by mean and standard deviation is twice as wide."""

    def settings(self) -> Mapping[str, object]:
        """Everything besides id, version and modality that decides the vectors: revision, preprocessing, prompt."""
        return {}

    def source(self, clip: Mapping[str, Any]) -> str:
        """Twelve hexadecimal digits over what the clip's vector is made from; when they change, it is made anew.

        Args:
            clip: a row of the clip table.
        """
        return source_of(clip, self.modality)

    def load(self) -> None:  # noqa: B027  light encoders have nothing to load
        """Load weights and detectors; called once in a worker, before the first `encode`."""

    @abstractmethod
    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | Absent]:
        """Embed clips.

        Args:
            clips: any number of clips; a clip's result must not depend on its neighbours.

        Returns:
            Per clip an array `[T, width]` with T >= 1, or the exception that says why there is none. Nothing is
            raised for a single clip's sake.
        """

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change whenever this encoder's vectors would."""
        identity = {
            "id": self.id, "version": self.version, "modality": self.modality, "width": self.width,
            "pooling": self.pooling, "settings": dict(self.settings()),
        }  # fmt: skip
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def pool(sequence: NDArray[np.float32], pooling: Pooling = "mean+std") -> NDArray[np.float32]:
    """Mean and population standard deviation over time, `[T, width] -> [2 * width]`, computed in float64.

    Args:
        sequence: `[T, width]`; T is 1 without pooling.
        pooling: `mean+std`, or `none` for the one vector as it is.

    Example:
        >>> pool(np.array([[0.0, 1.0], [2.0, 1.0]], dtype=np.float32)).tolist()
        [1.0, 1.0, 1.0, 0.0]
        >>> pool(np.array([[2.0, 1.0]], dtype=np.float32), "none").tolist()
        [2.0, 1.0]
    """
    if pooling == "none":
        return sequence[0].astype(np.float32)
    wide = np.asarray(sequence, dtype=np.float64)
    return np.concatenate([wide.mean(axis=0), wide.std(axis=0)]).astype(np.float32)


class PrecomputedConfig(Config):
    """Where features computed elsewhere lie, see `encoders.precomputed`."""

    path: str
    """File or files, relative to the working directory; `{clip_id}` and other clip-table columns are filled in."""
    field: str | None = None
    """Array of a pickle or of one clip's `.npz`, or column of lists of a Parquet file."""
    key: str = "{clip_id}"
    """What names a clip in a file that holds several, from clip-table columns."""
    pooling: Pooling | None = None
    """`mean+std` over time or `none`; left out, the first file decides: `[T, D]` or `[D]`."""

    @property
    def format(self) -> str:
        """`npy`, `npz`, `pickle` or `parquet`, from the path's suffix."""
        return _FORMATS[PurePath(self.path).suffix.lower()]

    @property
    def columns(self) -> list[str]:
        """Clip-table columns that path and key name."""
        return COLUMN.findall(self.path) + COLUMN.findall(self.key)

    @model_validator(mode="after")
    def _check(self) -> PrecomputedConfig:
        if PurePath(self.path).suffix.lower() not in _FORMATS:
            raise ValueError(f"path {self.path!r} must end in {', '.join(_FORMATS)}")
        for template in (self.path, self.key):
            if re.search(r"[{}]", COLUMN.sub("", template)):
                raise ValueError(f"{template!r} has a brace too many; columns are written {{clip_id}}")
        if self.format == "pickle" and self.field is None:
            raise ValueError('field is missing: which array of the pickle, for example "vision"')
        if self.format == "npy" and self.field is not None:
            raise ValueError(f"field = {self.field!r} means nothing here: a .npy file holds one array")
        if self.format == "npy" or (self.format == "npz" and self.field is not None):
            if self.key != "{clip_id}":
                raise ValueError(f"key = {self.key!r} means nothing here: each file holds one clip")
            if not COLUMN.search(self.path):
                raise ValueError(f"path {self.path!r} is the same for every clip; put {{clip_id}} into it")
        return self


class FeaturesConfig(Config):
    """Which encoder describes each modality, and where the vectors are kept."""

    store: str = "data/features"
    """Folder of the feature store, relative to the working directory."""
    encoders: dict[str, str] = Field(
        default={"video": "face-mesh", "audio": "egemaps", "text": "minilm", "behavior": "cue-narrative"}
    )
    """Encoder id by modality, or a name under `precomputed`; `package.module:Class` names an encoder of your own."""
    precomputed: dict[str, PrecomputedConfig] = Field(default_factory=dict)
    """Features computed elsewhere, by a name of your own."""
    faces: FacesConfig = Field(default_factory=FacesConfig)
    """How the pictures are made that image encoders see for video."""
    sequences: dict[str, Annotated[int, Field(ge=2)]] = Field(default_factory=dict)
    """Most elements kept of a clip's sequence beside its vector, by modality; those left out keep vectors only."""
    num_workers: int = Field(default=2, ge=1)
    """Worker processes that decode and encode, per launched process."""
    chunk_size: int = Field(default=16, ge=1)
    """Clips that a worker takes at a time and that are stored together; a kill costs the chunks in flight."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where pretrained models run; `auto` is the CUDA device of the process' local rank, or the CPU without any."""
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """What pretrained models compute in; `auto` is float16 on a CUDA device and float32 on the CPU."""
    batch_size: int = Field(default=32, ge=1)
    """Most clips of one forward pass of a pretrained model."""
    transcriber: TranscriberConfig | None = None
    """What writes transcripts where clips have none; left out, nothing does."""
    describer: DescriberConfig | None = None
    """What writes descriptions of behaviour where clips have none; left out, nothing does."""
    weights: dict[str, str] = Field(default_factory=dict)
    """Local copies of pretrained models, by the id of their repository."""
    trust_remote_code: tuple[str, ...] = ()
    """Ids of repositories whose own code may run; needed by a few encoders."""
    retry_failed: bool = False
    """Try clips again that failed before."""

    @field_validator("precomputed")
    @classmethod
    def _check_names(cls, precomputed: dict[str, PrecomputedConfig]) -> dict[str, PrecomputedConfig]:
        from encoders.catalogue import CATALOGUE  # which imports this module

        for name in precomputed:
            if name in CATALOGUE:
                raise ValueError(f"{name!r} is an encoder of the catalogue; choose another name for your files")
            if not _FOLDER_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} cannot name a folder of the feature store; use letters, digits, dots, dashes and "
                    "underscores, and start with a letter or a digit"
                )
        return precomputed

    @field_validator("sequences")
    @classmethod
    def _check_sequences(cls, sequences: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        encoders = info.data.get("encoders", sequences)  # which may be what is wrong
        for modality in sequences:
            if modality not in encoders:
                raise ValueError(f"{modality!r} has no encoder; {nearest(modality, encoders)}")
        return sequences

    @field_validator("weights", "trust_remote_code")
    @classmethod
    def _check_repositories(cls, names: _Names, info: ValidationInfo) -> _Names:
        known = {entry.home for entry in ENTRIES if entry.family != EMBEDDED}
        writers = info.data.get("transcriber"), info.data.get("describer")
        known |= {writer.model for writer in writers if writer is not None}
        for name in names:
            if name not in known:
                raise ValueError(f"no encoder of the catalogue has weights named {name!r}; {nearest(name, known)}")
        return names
