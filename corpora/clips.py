"""The clip table: what every corpus adapter returns, and the only thing the rest of the system reads.

One row is one clip. `clips` has the columns of `CLIP_COLUMNS`, one column `<task>.<class>` per label (float, NaN
where unknown), and any number of `raw.<name>` columns (text) that keep what the corpus itself said. What an adapter
could not use, or had to mend, is a row of `defects`, with its kind, where it was found and why; nothing is dropped or
repaired silently. `timelines` has the labels in time of clips that have such, see `corpora.timeline`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.timeline import Timeline
from mmpsr.errors import UserError
from mmpsr.tasks import TaskSpec

__all__ = [
    "CLIP_COLUMNS",
    "DEFECT_COLUMNS",
    "DEFECT_KINDS",
    "SPLITS",
    "SPLIT_NAMES",
    "ClipTable",
    "CorpusError",
    "Defects",
    "GroupKind",
    "Severity",
    "Split",
    "concatenate",
    "conform",
    "defect_frame",
    "label_column",
    "label_columns",
]

Split = Literal["train", "dev", "test"]
GroupKind = Literal["participant", "video", "dialogue", "clip"]
SPLITS: tuple[Split, ...] = get_args(Split)
SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "test": "test",
    "training": "train", "development": "dev", "testing": "test",
}  # fmt: skip
"""What files call a split, in lower case -> its name here."""

CLIP_COLUMNS: Mapping[str, str] = {
    "corpus": "name of the corpus in the configuration",
    "release": "the corpus' release, where it has several",
    "split": "train, dev or test",
    "clip_id": "unique within the corpus",
    "media": "path of the video (or audio) file; missing where the corpus gives none",
    "start": "seconds into the media where the clip starts; NaN means its beginning",
    "end": "seconds into the media where the clip ends; NaN means its end",
    "audio_media": "path of a separate sound file; missing where the sound is that of the media",
    "audio_start": "seconds into the sound file where the clip starts; NaN means its beginning",
    "audio_end": "seconds into the sound file where the clip ends; NaN means its end",
    "fallback_media": "path of a file to use where the media cannot be decoded or is black",
    "fallback_start": "seconds into the fallback where the clip starts; NaN means its beginning",
    "fallback_end": "seconds into the fallback where the clip ends; NaN means its end",
    "faces": "folder of face pictures that comes with the corpus; missing where it gives none",
    "group": "clips that must never be separated by a split",
    "group_kind": "participant, video, dialogue or clip",
    "speaker": "who speaks, where the corpus says so",
    "language": "ISO 639-1 code of the transcript, where known",
    "text": "transcript; missing where the corpus gives none",
    "context": "what was said before in the same dialogue, oldest first, a line per utterance; missing where unknown",
    "description": "described behaviour that comes with the corpus; missing where it gives none",
    "consent_challenges": "the participant allows use in challenges; missing where not asked",
    "consent_publications": "the participant allows use in publications; missing where not asked",
}
"""Column name -> meaning. Text columns are pandas `string`, consent is `boolean`, seconds are float64."""

Severity = Literal["error", "warning", "note"]
DEFECT_COLUMNS = ("corpus", "clip_id", "kind", "where", "reason")
DEFECT_KINDS: Mapping[str, Severity] = {
    "bad_label": "error",  # a cell that is no label of its task
    "bad_number": "error",  # a cell that should be a number
    "bad_row": "error",  # a row whose cells do not fit the head of its table
    "duplicate_id": "error",  # a clip occurs twice
    "unknown_split": "error",  # a cell, or a folder of media, that names no split
    "short_row": "warning",  # a row of fewer cells than the head; those that are not there are empty
    "unusable_row": "warning",  # a row without what a clip needs; it is not used
    "missing_media": "warning",  # a clip without its media file
    "missing_text": "warning",  # a clip without the transcript that it should have
    "missing_label": "warning",  # a clip without the label that it should have
    "missing_metadata": "warning",  # a participant without metadata, or without a consent that can be read
    "missing_annotation": "warning",  # media or a transcript that nothing annotates; not used
    "bad_span": "warning",  # a start or end that cannot be
    "disagreement": "warning",  # two files of the corpus say different things
    "mended": "note",  # something small that was put right
    "unlabeled": "note",  # a clip whose label is withheld
    "ignored": "note",  # a file that is left out on purpose
    "known_bad": "note",  # a clip whose file is known to be bad, or was never published
}
"""Kind of defect -> severity. With an error training would be wrong, so it does not begin; a warning costs a clip, a
modality or a label; a note tells what was done."""

_CONSENT = ("consent_challenges", "consent_publications")
_SPANS = (("start", "end"), ("audio_start", "audio_end"), ("fallback_start", "fallback_end"))
_SECONDS = tuple(name for span in _SPANS for name in span)
_DTYPES: Mapping[str, Literal["boolean", "float64", "string"]] = {
    name: "boolean" if name in _CONSENT else "float64" if name in _SECONDS else "string" for name in CLIP_COLUMNS
}
_GROUP_KINDS: tuple[GroupKind, ...] = get_args(GroupKind)


class CorpusError(UserError):
    """A corpus that cannot be used; the message says what was found, where (file, row, column, clip), what to do."""


def label_column(task: str, name: str) -> str:
    """Name the clip-table column that holds one label, for example `emotion.Anger`."""
    return f"{task}.{name}"


def label_columns(task: str, spec: TaskSpec) -> list[str]:
    """List label columns of a task, in the order of its classes."""
    return [label_column(task, name) for name in spec.classes]


@dataclass
class ClipTable:
    """Clips of one or several corpora, and what could not be used.

    Attributes:
        clips: one row per clip, see the module's description; index 0..n-1.
        defects: columns `corpus, clip_id, kind, where, reason`; `kind` is one of `DEFECT_KINDS`, `where` a file and
            row, `reason` a sentence.
        timelines: by corpus and clip id the labels in time, by task; clips without any are left out.
    """

    clips: pd.DataFrame
    defects: pd.DataFrame = field(default_factory=lambda: defect_frame())
    timelines: Mapping[tuple[str, str], Mapping[str, Timeline]] = field(default_factory=dict)

    def with_clips(self, clips: pd.DataFrame) -> ClipTable:
        """Take other clips, with the defects of this table and those of its timelines whose clips are among them."""
        stay = set(zip(clips["corpus"], clips["clip_id"], strict=True)) if self.timelines else set()
        return ClipTable(clips, self.defects, {clip: own for clip, own in self.timelines.items() if clip in stay})

    def require_sound(self) -> ClipTable:
        """Return the table itself, unless it has a defect with which training would be wrong.

        Raises:
            CorpusError: there is such a defect; the first is told, and how many more there are.
        """
        errors = self.defects[self.defects["kind"].map(DEFECT_KINDS).eq("error")]
        if len(errors):
            first = errors.iloc[0]
            more = f" ({len(errors) - 1} more such errors; `mmpsr doctor` lists all)" if len(errors) > 1 else ""
            raise CorpusError(f"{first['where']}: {first['reason']}{more}")
        return self

    def validate(self, tasks: Mapping[str, TaskSpec]) -> ClipTable:
        """Check the schema, identities and label ranges.

        Args:
            tasks: specifications by task name; their missing label columns are added as unknown (NaN).

        Returns:
            A table with the columns in canonical order.

        Raises:
            CorpusError: an id occurs twice in a corpus, a split or group kind is unknown, an end lies before its
                start, or a label lies outside its task's range; the clip and the value are named. Likewise for
                timelines: one of no clip, of a task with other than single labels, or of more classes than it has.
        """
        clips = conform(self.clips)
        for task, spec in tasks.items():
            for column in label_columns(task, spec):
                if column not in clips:
                    clips[column] = np.nan
                clips[column] = clips[column].astype("float64")
        _check_identity(clips)
        _check_spans(clips)
        for task, spec in tasks.items():
            _check_labels(clips, task, spec)
        table = self.with_clips(clips)
        _check_timelines(self.timelines, table.timelines, tasks)
        return table


class Defects:
    """Collects what cannot be used while a corpus is read.

    Args:
        corpus: the corpus' name in the configuration.

    Example:
        >>> defects = Defects("mine")
        >>> defects.add("bad_label", "clips.csv, row 3, column 'joy'", "'many' is not a number")
        >>> defects.frame()["kind"].tolist()
        ['bad_label']
    """

    def __init__(self, corpus: str) -> None:
        self.corpus = corpus
        self.rows: list[tuple[object, ...]] = []

    def add(self, kind: str, where: str, reason: str, clip_id: object = None) -> None:
        """Note one defect; `kind` is one of `DEFECT_KINDS`."""
        if kind not in DEFECT_KINDS:
            raise KeyError(f"no kind of defect is named {kind!r}")
        self.rows.append((self.corpus, clip_id, kind, where, reason))

    def add_rows(self, kind: str, clips: pd.DataFrame, rows: pd.Series, reason: str) -> None:
        """Note the same defect for all clips (with columns `clip_id` and `where`) that the mask `rows` chooses."""
        if not rows.any():
            return
        for clip_id, where in clips.loc[rows, ["clip_id", "where"]].itertuples(index=False):
            self.add(kind, where, reason, clip_id)

    def frame(self) -> pd.DataFrame:
        """List all defects so far, in their order."""
        return defect_frame(self.rows)


def defect_frame(defects: Iterable[Sequence[object]] = ()) -> pd.DataFrame:
    """Make a frame of `string` columns from defects, rows of `DEFECT_COLUMNS`."""
    return pd.DataFrame(list(defects), columns=list(DEFECT_COLUMNS)).astype("string")


def conform(clips: pd.DataFrame) -> pd.DataFrame:
    """Give a frame the clip table's columns and dtypes, in canonical order, other columns after them."""
    clips = clips.reset_index(drop=True)
    unknown = {dtype: pd.Series(np.nan, clips.index, "float64").astype(dtype) for dtype in set(_DTYPES.values())}
    columns = {}
    for column, dtype in _DTYPES.items():
        if column not in clips:
            columns[column] = unknown[dtype]
        elif str(clips[column].dtype) == dtype:
            columns[column] = clips[column]
        else:
            columns[column] = clips[column].astype(dtype)
    return pd.DataFrame(columns | {name: clips[name] for name in clips if name not in _DTYPES}, index=clips.index)


def concatenate(tables: Sequence[ClipTable]) -> ClipTable:
    """Join the tables of several corpora, in their order; label columns missing in one corpus are unknown there."""
    if not tables:
        raise CorpusError("no corpus was given; declare at least one under [corpora.sources]")
    clips = pd.concat([table.clips for table in tables], ignore_index=True)
    defects = pd.concat([table.defects for table in tables], ignore_index=True)
    timelines = {clip: own for table in tables for clip, own in table.timelines.items()}
    return ClipTable(conform(clips), defects, timelines)


def _check_identity(clips: pd.DataFrame) -> None:
    for column in ("corpus", "split", "clip_id", "group"):
        if (row := _first(clips[column].isna())) is not None:
            raise CorpusError(f"{_clip_name(clips, row)} has no {column}; every clip needs one")
    if (row := _first(clips.duplicated(["corpus", "clip_id"]))) is not None:
        raise CorpusError(f"{_clip_name(clips, row)} occurs twice; ids must be unique within a corpus")
    if (row := _first(~clips["split"].isin(SPLITS))) is not None:
        split = clips["split"].iloc[row]
        raise CorpusError(f"{_clip_name(clips, row)} is in split {split!r}; splits are {', '.join(SPLITS)}")
    if (row := _first(~clips["group_kind"].fillna("clip").isin(_GROUP_KINDS))) is not None:
        kind = clips["group_kind"].iloc[row]
        raise CorpusError(f"{_clip_name(clips, row)} has group kind {kind!r}; kinds are {', '.join(_GROUP_KINDS)}")


def _check_spans(clips: pd.DataFrame) -> None:
    for start, end in _SPANS:
        if (row := _first((clips[start] < 0) | (clips[end] < clips[start].fillna(0.0)))) is not None:
            raise CorpusError(
                f"{_clip_name(clips, row)} runs from {clips[start].iloc[row]} s to {clips[end].iloc[row]} s "
                f"({start}, {end}); a start must be at least 0 and an end not before it"
            )


def _check_labels(clips: pd.DataFrame, task: str, spec: TaskSpec) -> None:
    columns = label_columns(task, spec)
    values = clips[columns].to_numpy(dtype=np.float64)
    outside = (values < 0.0) | (values > 1.0)
    if (row := _first(outside.any(axis=1))) is not None:
        column = int(outside[row].argmax())
        raise CorpusError(
            f"{_clip_name(clips, row)}: {columns[column]} is {values[row, column]:g}, outside [0, 1]; "
            "rescale the labels (a table corpus has `scale` for that)"
        )
    known = ~np.isnan(values).all(axis=1)
    one_class = np.nan_to_num(values).sum(axis=1) == 1.0
    if spec.kind == "single_label" and (row := _first(known & ~one_class)) is not None:
        labels = dict(zip(spec.classes, values[row].tolist(), strict=True))
        raise CorpusError(f"{_clip_name(clips, row)}: task {task!r} takes one class, found {labels}")


def _check_timelines(
    timelines: Mapping[tuple[str, str], Mapping[str, Timeline]],
    of_clips: Mapping[tuple[str, str], Mapping[str, Timeline]],
    tasks: Mapping[str, TaskSpec],
) -> None:
    for (corpus, clip), own in timelines.items():
        name = f"clip {clip!r} of corpus {corpus!r}"
        if (corpus, clip) not in of_clips:
            raise CorpusError(f"{name} has labels in time, but is no clip of the table")
        for task, timeline in own.items():
            spec = tasks.get(task)
            if spec is None:
                continue
            if spec.kind != "single_label":
                raise CorpusError(f"{name}: labels in time are of single-label tasks, task {task!r} is {spec.kind}")
            if timeline.highest() >= len(spec.classes):
                raise CorpusError(
                    f"{name}: a label in time is {timeline.highest()}, but task {task!r} has {len(spec.classes)} "
                    "classes, counted from 0"
                )


def _first(rows: pd.Series | NDArray[np.bool_]) -> int | None:
    """Find the first row that a mask marks, if any."""
    positions = np.flatnonzero(rows)
    return int(positions[0]) if len(positions) else None


def _clip_name(clips: pd.DataFrame, row: int) -> str:
    return f"clip {clips['clip_id'].iloc[row]!r} of corpus {clips['corpus'].iloc[row]!r}"
