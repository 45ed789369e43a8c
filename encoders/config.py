"""Configuration of features: which encoder describes each modality, how faces are cut out, and what writes texts.

The prompts of vision-language models are here too: they are what `features.describer.prompt` names. Their wordings are
this project's own; a changed wording changes the fingerprint of every description made with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from encoders.base import Pooling
from encoders.catalogue.entries import ENTRIES
from encoders.catalogue.entry import EMBEDDED
from mmpsr.config import Config, base_of, nearest
from mmpsr.executors.base import LOCAL, ExecutorName

__all__ = [
    "COLUMN",
    "DESCRIPTION_PROMPTS",
    "MODALITIES",
    "DescriberConfig",
    "FacesConfig",
    "FeaturesConfig",
    "PrecomputedConfig",
    "TranscriberConfig",
    "VGGishConfig",
    "in_order",
    "wrong_modality",
]

_EXPERT = "You are an expert in visual human behaviour. The pictures are frames of one video clip, in order of time."
_EVIDENCE = (
    "Rely only on the face, the gaze, the posture, the gestures and the movements of the head; do not guess at "
    "anything that cannot be seen, such as words, causes, age or occupation."
)
_FORM = "Answer with one continuous paragraph of at most 75 tokens, without headings, lists or quotation marks."

DESCRIPTION_PROMPTS: Mapping[str, str] = {
    "full": (
        f"{_EXPERT} Describe how the person appears: the emotional state that is visible, tendencies of personality "
        "that the manner suggests, and every sign of ambivalence or hesitancy. "
        f"{_EVIDENCE} Where states are mixed or change, name each of them together with the cue that shows it. {_FORM}"
    ),
    "short": (
        "Describe in one paragraph of at most 75 tokens the visible emotion, the manner and any hesitancy of the "
        "person in these frames, each with the facial, gaze, postural or head movement that shows it. Do not guess."
    ),
    "emotion": (
        f"{_EXPERT} Describe only the emotional state that is visible, how strong it is and how it changes, with the "
        f"cue that shows each emotion. {_EVIDENCE} {_FORM}"
    ),
}
"""Name in a configuration -> what the model is asked of a clip."""
MODALITIES = ("video", "audio", "text", "behavior")
"""Each may have several encoders: one under its own name, and further views under `<modality>.<view>`."""
_VIEW = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_NO_VIEW = ("ratio",)  # `novelty.text.ratio` is a column of predictions
COLUMN = re.compile(r"\{([^{}]+)\}")
"""A column of the clip table in a template, such as `{clip_id}`."""
_FORMATS = {".npy": "npy", ".npz": "npz", ".pkl": "pickle", ".pickle": "pickle", ".parquet": "parquet"}
_Names = TypeVar("_Names", dict[str, str], tuple[str, ...])
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def wrong_modality(name: str) -> str | None:
    """Say why a name is neither a modality nor a view of one; None where it is.

    Example:
        >>> wrong_modality("text.lexica")
        >>> wrong_modality("txt")
        "no modality is named 'txt'; did you mean 'text'?"
    """
    base, _, view = name.partition(".")
    if base not in MODALITIES:
        return f"no modality is named {base!r}; {nearest(base, MODALITIES)}"
    if name != base and (view in _NO_VIEW or not _VIEW.fullmatch(view)):
        return (
            f"{name!r} is no name of a view of {base}; after the dot stand small letters and digits, first a letter, "
            f"with single dashes or underscores between, and not {_NO_VIEW[0]!r}"
        )
    return None


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Put modalities and views into the order of models: that of `MODALITIES`, each followed by its views as given.

    Example:
        >>> in_order(["text.lexica", "audio", "text"])
        ('audio', 'text', 'text.lexica')
    """
    return tuple(sorted(names, key=lambda name: (MODALITIES.index(base_of(name)), "." in name)))


class TranscriberConfig(Config):
    """What writes transcripts: a Whisper model."""

    model: str = "openai/whisper-large-v3-turbo"
    """Id on the hub; `features.weights` may name a local copy of it."""
    revision: str | None = None
    """Commit of its repository; left out, the one that the catalogue pins, or the newest."""
    language: str | None = None
    """ISO 639-1 code of what is spoken; left out, it is detected in each clip."""
    batch_size: int = Field(default=16, ge=1)
    """Clips transcribed at once, and the most that a kill can cost."""
    overwrite: bool = False
    """Transcribe also clips that have a transcript, and use the model's."""


class DescriberConfig(Config):
    """What writes descriptions of behaviour: a vision-language model."""

    model: str = "Qwen/Qwen2.5-VL-3B-Instruct"
    """Id on the hub; `features.weights` may name a local copy of it."""
    revision: str | None = None
    """Commit of its repository; left out, the catalogue's or the newest. A model that runs its own code needs one."""
    prompt: str = "full"
    """`full`, `short` or `emotion`, see `encoders.config`; any other text is the prompt itself."""
    num_frames: int = Field(default=8, ge=1)
    """Uniformly spaced frames that the model sees of a clip."""
    max_new_tokens: int = Field(default=75, ge=1)
    """Most tokens of a description; one that reaches the limit ends with its last whole sentence."""
    batch_size: int = Field(default=8, ge=1)
    """Clips described at once, and the most that a kill can cost."""

    @property
    def wording(self) -> str:
        """What the model is asked."""
        return DESCRIPTION_PROMPTS.get(self.prompt, self.prompt)

    @field_validator("prompt")
    @classmethod
    def _check_prompt(cls, prompt: str) -> str:
        if prompt not in DESCRIPTION_PROMPTS and len(prompt.split()) < 2:
            raise ValueError(
                f"is neither a prompt of the catalogue nor a sentence; {nearest(prompt, DESCRIPTION_PROMPTS)}"
            )
        return prompt


class FacesConfig(Config):
    """Which faces of a frame are cut out, and how; part of the fingerprint of every encoder that sees faces."""

    source: Literal["detect", "shipped"] = "detect"
    """Find faces in the frames, or take the face pictures that a corpus ships where it ships them."""
    detector: Literal["long", "short"] = "long"
    """BlazeFace trained for faces up to five metres away, or up to two (it sees faces that fill the frame better)."""
    align: bool = True
    """Turn each face so that its eyes are level."""
    remove_background: bool = True
    """Make everything outside the convex hull of the face mesh black."""
    several_faces: Literal["average", "track"] = "average"
    """Average all faces of a frame but those much smaller than the largest, or follow the one person seen most."""


class VGGishConfig(Config):
    """How encoder `vggish` is used; other settings have another fingerprint."""

    hop: float = Field(default=0.96, ge=0.01, le=10)
    """Seconds from one embedding to the next, of those that are pooled, in hundredths; in time every frame has one."""
    last_rectifier: bool | None = None
    """End with the last rectifier or before it; left out, with it for vectors and before it for what is in time."""

    @field_validator("hop")
    @classmethod
    def _check_hop(cls, hop: float) -> float:
        if abs(100 * hop - round(100 * hop)) > 1e-6:
            raise ValueError("must be hundredths of a second, the frames of its spectrogram")
        return hop


class PrecomputedConfig(Config):
    """Where features computed elsewhere lie, see `encoders.extraction.precomputed`."""

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
    """Encoder id by modality, or a name under `precomputed`; `package.module:Class` names an encoder of your own. A
    further view of a modality is `"<modality>.<view>"`, in quotes."""
    precomputed: dict[str, PrecomputedConfig] = Field(default_factory=dict)
    """Features computed elsewhere, by a name of your own."""
    faces: FacesConfig = Field(default_factory=FacesConfig)
    """How the pictures are made that image encoders see for video."""
    vggish: VGGishConfig = Field(default_factory=VGGishConfig)
    """How encoder `vggish` is used."""
    sequences: dict[str, Annotated[int, Field(ge=2)]] = Field(default_factory=dict)
    """Most elements kept of a clip's sequence beside its vector, by modality; those left out keep vectors only."""
    timed: tuple[str, ...] = ()
    """Modalities kept in time, a row for every frame, beside their vectors; see `docs/in_time.md`."""
    timed_rate: float | None = Field(default=None, gt=0, le=1000)
    """Frames per second of what is kept in time; left out, each file's own, and a row for every decoded frame."""
    timed_text: Literal["words", "spread"] = "words"
    """Each word while it is spoken and nothing between, or all tokens spread evenly over the clip."""
    num_workers: int = Field(default=2, ge=1)
    """Worker processes that decode and encode, per launched process."""
    executor: ExecutorName = LOCAL
    """Who decodes and encodes: `local`, such processes; `dask://host:port`, the workers of a Dask cluster; or
    `package.module:factory`, a function that gives a `concurrent.futures.Executor`."""
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
        catalogue = {entry.id for entry in ENTRIES}
        for name in precomputed:
            if name in catalogue:
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

    @field_validator("timed")
    @classmethod
    def _check_timed(cls, timed: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        encoders = info.data.get("encoders", timed)
        for modality in timed:
            if modality not in encoders:
                raise ValueError(f"{modality!r} has no encoder; {nearest(modality, encoders)}")
        return timed

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
