"""Any corpus that is a table (CSV, TSV, Parquet, JSON lines, a dataset of Hugging Face), its columns declared by name.

Media are found in folders by the names that the table gives, see `find_media`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from corpora.clips import SPLIT_NAMES, SPLITS, CorpusError, Defects, GroupKind, Split
from corpora.labels import LabelColumns, read_labels
from corpora.reading.cells import Cells, ColumnPattern, Selector, plain_numbers, read_cells
from corpora.reading.numbers import Decimal
from corpora.reading.paths import MEDIA_SUFFIXES
from corpora.segments import TimelineLabels, add_timelines
from corpora.source import CorpusSource
from corpora.splitting import Fraction, split_by_group
from corpora.timeline import UNKNOWN
from mmpsr.config import Config, nearest
from mmpsr.delimited import separator_of
from mmpsr.tasks import TaskSpec

__all__ = ["MEDIA_COLUMNS", "UNKNOWN_SPLIT", "SplitColumn", "TableCorpus", "find_media", "read_splits"]

_SOUND = (".wav", ".flac", ".mp3", ".m4a", ".ogg")


_VIDEO_FIRST = MEDIA_SUFFIXES


_SOUND_FIRST = (*_SOUND, *(suffix for suffix in MEDIA_SUFFIXES if suffix not in _SOUND))


MEDIA_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "media": _VIDEO_FIRST,
    "audio_media": _SOUND_FIRST,
    "fallback_media": _VIDEO_FIRST,
    "faces": (),
}
"""Column of the clip table -> suffixes by which its files are found, first come first; `faces` are folders."""
UNKNOWN_SPLIT = "?"
"""Split of rows whose cell names none, until they are set aside."""
_SECONDS = ("start", "end", "audio_start", "audio_end", "fallback_start", "fallback_end")
_SPANS = (("start", "end"), ("audio_start", "audio_end"), ("fallback_start", "fallback_end"))
_CONSENTS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class _Folders:
    """What lies in folders, each listed once."""

    def __init__(self) -> None:
        self._files: dict[Path, dict[str, str]] = {}

    def find(self, path: Path, suffixes: tuple[str, ...]) -> Path | None:
        """The file itself, or one of the same stem with one of the suffixes; for no suffixes, the folder."""
        if not suffixes:
            return path if os.path.isdir(path) else None
        files = self._listed(path.parent)
        if files.get(path.name) == path.name:
            return path
        stem = path.stem if path.suffix.lower() in MEDIA_SUFFIXES else path.name
        found = next((files[stem + suffix] for suffix in suffixes if stem + suffix in files), None)
        return None if found is None else path.with_name(found)

    def _listed(self, folder: Path) -> dict[str, str]:
        """Files of a folder by name, also by the name with its suffix in lower case."""
        if folder not in self._files:
            names: list[str] = []
            try:
                with os.scandir(folder) as entries:
                    names = sorted(entry.name for entry in entries if entry.is_file())
            except (OSError, ValueError):  # no such folder, or a name that no system allows
                pass
            lower = {os.path.splitext(name)[0] + os.path.splitext(name)[1].lower(): name for name in reversed(names)}
            self._files[folder] = lower | {name: name for name in names}
        return self._files[folder]


def find_media(clips: pd.DataFrame, defects: Defects) -> pd.DataFrame:
    """The clips with the files and folders that are there, missing where they are not.

    A path without a suffix, or one that is not there, stands for the file of the same stem in the same folder, whatever
    its suffix. What is not found is a defect of its clip; where nothing at all is found, the corpus is taken as one
    without media, and gets a single defect.

    Args:
        clips: with the columns of `MEDIA_COLUMNS`, `clip_id` and `where`.
        defects: where to note what is not there.
    """
    clips, folders = clips.copy(), _Folders()
    missed: list[tuple[str, str, str]] = []
    anything = False
    for column, suffixes in MEDIA_COLUMNS.items():
        found = {path: folders.find(Path(path), suffixes) for path in clips[column].dropna().unique()}
        anything |= any(path is not None for path in found.values())
        absent = clips[clips[column].isin([path for path, file in found.items() if file is None])]
        kind = "media file" if suffixes else "folder of faces"
        missed += [
            (clip, where, f"there is no {kind} {path}")
            for clip, where, path in absent[["clip_id", "where", column]].itertuples(index=False)
        ]
        clips[column] = clips[column].map({path: str(file) for path, file in found.items() if file}).astype("string")
    if missed and not anything:
        clip, where, reason = missed[0]
        defects.add("missing_media", where, f"none of {len(missed)} media files exists; {reason}, and so on")
    for clip, where, reason in missed if anything else ():
        defects.add("missing_media", where, reason, clip)
    return clips


class SplitColumn(Config):
    """A column that names the split, in the corpus' own words."""

    column: str
    """Column of the split."""
    values: dict[str, Split] = Field(default_factory=dict)
    """Split by cell, for cells other than the usual names (train, training, dev, val, validation, test and so on)."""


class TableCorpus(CorpusSource):
    """A corpus declared column by column."""

    adapter: Literal["table"]
    """Chooses this adapter."""
    files: str | dict[Split, str]
    """One table file or folder of Hugging Face's `save_to_disk`, or one per split; relative to `path`."""
    separator: str | None = None
    """What separates the cells of a text table: a character or its name; left out, told from its head."""
    quoting: bool | None = None
    """Whether a quotation mark that begins a cell quotes it (true) or is content (false); left out, doubt stops."""
    decimal: Decimal | None = None
    """The sign before decimals, `.` or `,`; left out, both are read where a column has no doubt."""
    encoding: str = "utf-8-sig"
    """Encoding of text files."""
    missing: tuple[str, ...] = ("nan", "NaN", "NA")
    """Cells of label, time and consent columns that mean 'unknown', besides blank ones; -1 is also -1.0."""
    id: Selector
    """Clip ids, unique in the corpus."""
    text: Selector | None = None
    """Transcripts."""
    context: Selector | None = None
    """What was said before in the same dialogue."""
    description: Selector | None = None
    """Described behaviour."""
    media: Selector | None = None
    """Media files, relative to `media_root`, with or without suffix; templates may name `{split}` besides columns."""
    audio_media: Selector | None = None
    """Sound files, where the sound is not that of the media; likewise."""
    fallback_media: Selector | None = None
    """Files to use where the media cannot be decoded or is black; likewise."""
    faces: Selector | None = None
    """Folders of face pictures, relative to `media_root`."""
    media_root: str = "."
    """Folder of the media files, relative to `path`."""
    start: Selector | None = None
    """Where clips start in the media: seconds, minutes:seconds or hours:minutes:seconds; so in all such columns."""
    end: Selector | None = None
    """Seconds into the media where clips end."""
    audio_start: Selector | None = None
    """Seconds into the sound file where clips start."""
    audio_end: Selector | None = None
    """Seconds into the sound file where clips end."""
    fallback_start: Selector | None = None
    """Seconds into the fallback where clips start."""
    fallback_end: Selector | None = None
    """Seconds into the fallback where clips end."""
    group: Selector | None = None
    """What no split may separate; left out, every clip is its own group."""
    group_kind: GroupKind | None = None
    """What a group is; left out, `video` where `group` is given, else `clip`."""
    speaker: Selector | None = None
    """Speakers."""
    language: Selector | None = None
    """Languages (ISO 639-1): a column, or one two-letter code for all clips."""
    consent_challenges: Selector | None = None
    """Whether use in challenges is allowed: yes, true or 1, or no, false or 0."""
    consent_publications: Selector | None = None
    """Whether use in publications is allowed; likewise."""
    split: str | SplitColumn | None = None
    """Column of the split; a corpus without labels needs none, its clips are train."""
    shares: dict[Split, Fraction] = Field(default_factory=dict)
    """Share of a split's clips that is used, chosen by a hash of corpus name and id; left out, all."""
    labels: dict[str, LabelColumns] = Field(default_factory=dict)
    """Label columns by task; a corpus without any serves for pseudo-labels."""
    timeline: str | None = None
    """Labels in time: a table `clip, start, end, label`, or a folder of .eaf or .TextGrid files; relative to `path`."""
    tier: str | None = None
    """Tier of these files that holds the labels; left out, the only one."""
    timeline_task: str | None = None
    """Single-label task of `timeline`; left out, the only one under `labels`."""
    timeline_values: dict[str, str] = Field(default_factory=dict)
    """Class by label of `timeline`, besides names of classes (and 0 and 1 of two); left out, `values` of the task."""
    timeline_outside: str | None = None
    """Class of what no segment covers, or `unknown`; left out, the task's first class."""
    keep: tuple[str, ...] = ()
    """Further columns to keep as `raw.<column>`, to hold out or analyse by."""

    @field_validator("separator")
    @classmethod
    def _one_character(cls, separator: str | None) -> str | None:
        return None if separator is None else separator_of(separator)

    @model_validator(mode="after")
    def _one_split(self) -> TableCorpus:
        own = isinstance(self.files, dict) + (self.split is not None)
        if own > 1 or (self.labels and not (own or self.splits_anew)):
            raise ValueError(
                "say once what the splits are: a file per split in `files`, or `split`; or split anew by one of "
                "`fractions`, `hold_out` and `fold`"
            )
        for setting in ("tier", "timeline_task", "timeline_values", "timeline_outside"):
            if self.timeline is None and getattr(self, setting):
                raise ValueError(f"`{setting}` is about labels in time; set `timeline` to where they are")
        if self.shares and self.splits_anew:
            raise ValueError("`shares` are of the corpus' own splits; leave out `fractions`, `hold_out` and `fold`")
        return self

    def label_tasks(self) -> tuple[str, ...]:
        """Tasks under `labels`, and that of labels in time."""
        return tuple(dict.fromkeys([*self.labels, *([self.timeline_task] if self.timeline_task else [])]))

    def collect(self, name: str, root: Path, tasks: Mapping[str, TaskSpec], defects: Defects) -> pd.DataFrame:
        """Read the files; see `CorpusSource.collect`."""
        parts = [
            self._read_file(name, root, self._cells(name, root, file, defects), split, tasks, defects)
            for split, file in self._files_by_split(name)
        ]
        clips = pd.concat(parts, ignore_index=True)
        if self.timeline is not None:
            wanted = self.own_splits or SPLITS
            clips = add_timelines(
                clips, root / self.path / self.timeline, root, self._timeline_labels(name, tasks), self.tier,
                partial(self._cells, name, root, self.timeline, defects),
                isinstance(self.files, str) or set(self.files) <= set(wanted), defects,
            )  # fmt: skip
        for split, share in self.shares.items():
            drawn = split_by_group(f"{name}/shares", clips["clip_id"], {"train": share, "test": 1.0 - share})
            left = clips["split"].eq(split) & drawn.ne("train")
            if left.any():
                place = f"corpora.sources.{name}.shares.{split}"
                defects.add("ignored", place, f"{left.sum()} of {clips['split'].eq(split).sum()} clips are not used")
            clips = clips[~left]
        return find_media(clips.reset_index(drop=True), defects)

    def _timeline_labels(self, name: str, tasks: Mapping[str, TaskSpec]) -> TimelineLabels:
        """Choose the task of labels in time, and what their words mean."""
        place = f"corpora.sources.{name}"
        fitting = [task for task in self.labels if tasks[task].kind == "single_label"]
        if self.timeline_task is None and len(fitting) != 1:
            raise CorpusError(
                f"{place}.timeline: its labels are of one single-label task, and {len(fitting)} stand under `labels`; "
                f"set `timeline_task`"
            )
        task = self.timeline_task or fitting[0]
        spec, declared = tasks[task], self.labels.get(task)
        if spec.kind != "single_label":
            raise CorpusError(f"{place}.timeline_task: {task!r} is a {spec.kind} task; labels in time take one class")
        outside = 0
        if self.timeline_outside is not None and self.timeline_outside not in spec.classes:
            if self.timeline_outside != "unknown":
                hint = nearest(self.timeline_outside, [*spec.classes, "unknown"])
                raise CorpusError(f"{place}.timeline_outside: unknown class {self.timeline_outside!r}; {hint}")
            outside = UNKNOWN
        elif self.timeline_outside is not None:
            outside = spec.classes.index(self.timeline_outside)
        values = self.timeline_values or (declared.values if declared is not None else None) or {}
        return TimelineLabels(place, task, spec, values, outside, self.missing)

    def _cells(self, name: str, root: Path, file: str, defects: Defects) -> Cells:
        return read_cells(
            root / self.path / file, root, self.separator, self.encoding, quoting=self.quoting, decimal=self.decimal,
            setting=f"corpora.sources.{name}", defects=defects,
        )  # fmt: skip

    def _files_by_split(self, name: str) -> list[tuple[Split | None, str]]:
        if isinstance(self.files, str):
            return [(None, self.files)]
        wanted = self.own_splits
        for split in wanted or ():
            if split not in self.files:
                raise CorpusError(
                    f"corpora.sources.{name}.splits asks for {split!r}, but files has only {', '.join(self.files)}"
                )
        return [(split, file) for split, file in self.files.items() if split in (wanted or SPLITS)]

    def wanted_splits(self, name: str) -> dict[Split, str]:
        """Splits that must have clips, and the settings that ask for them."""
        if self.splits is None and isinstance(self.files, dict) and not self.splits_anew:
            place = f"corpora.sources.{name}.files"
            return {split: f"{place}.{split} ({file})" for split, file in self.files.items()}
        if self.splits is None and self.split is None and isinstance(self.files, str) and not self.splits_anew:
            return {"train": f"corpora.sources.{name}.files ({self.files})"}
        return super().wanted_splits(name)

    def _read_file(
        self,
        name: str,
        root: Path,
        cells: Cells,
        split: Split | None,
        tasks: Mapping[str, TaskSpec],
        defects: Defects,
    ) -> pd.DataFrame:
        """Usable clips of one file, with their place as column `where`."""
        place = f"corpora.sources.{name}"
        splits = self._splits_of(name, cells, split, defects)
        fields = {} if self.splits_anew else {"split": splits}

        def select(source: Selector | None) -> pd.Series:
            if source is None:
                return pd.Series(pd.NA, index=cells.frame.index, dtype="string")
            return cells.select(source, **fields)

        clips = pd.DataFrame({"clip_id": select(self.id)})
        clips["where"] = cells.places()
        clips["corpus"], clips["release"], clips["split"] = name, self.release, splits
        for column in ("text", "context", "description", "speaker"):
            clips[column] = select(getattr(self, column))
        folder = root / self.path / self.media_root
        for column in MEDIA_COLUMNS:
            paths = select(getattr(self, column))
            clips[column] = paths.map(lambda path: str(folder / path), na_action="ignore").astype("string")
        for column in _SECONDS:
            source = getattr(self, column)
            clips[column] = cells.numbers(select(source), _named(source), self.missing, defects, clock=True)
        for column in ("consent_challenges", "consent_publications"):
            source = getattr(self, column)
            clips[column] = self._consents(cells, select(source), _named(source), defects)
        clips["language"] = self._languages(cells)
        clips["group"] = clips["clip_id"] if self.group is None else select(self.group)
        clips["group_kind"] = self.group_kind or ("clip" if self.group is None else "video")
        labels = [
            read_labels(cells, f"{place}.labels.{task}", task, tasks[task], source, self.missing, defects)
            for task, source in self.labels.items()
        ]
        kept = [cells.column(column).astype("string").rename(f"raw.{column}") for column in self.keep]
        frames = pd.concat([clips, *labels, *kept], axis=1)
        return self._set_aside(frames.loc[:, ~frames.columns.duplicated()], defects)  # tasks may share a raw column

    def _set_aside(self, clips: pd.DataFrame, defects: Defects) -> pd.DataFrame:
        clips = clips.copy()
        reasons = {
            f"no id in {_named(self.id)}": clips["clip_id"].isna(),
            f"no group in {_named(self.group)}": clips["group"].isna(),
            f"no split in {_named(self.split)}": clips["split"].isna() & (not self.splits_anew),
        }
        for start, end in _SPANS:
            early = clips[start] < 0.0
            for clip, where, seconds in clips.loc[early, ["clip_id", "where", start]].itertuples(index=False):
                reason = f"{start} {seconds:g} s lies before the file's beginning; taken as 0"
                defects.add("mended", where, reason, clip)
            clips.loc[early, start] = 0.0
            reasons[f"the {end} lies before the {start}"] = clips[end] < clips[start].fillna(0.0)
        usable = clips["split"].ne(UNKNOWN_SPLIT).fillna(True).astype(bool)
        for reason, rows in reasons.items():
            defects.add_rows("unusable_row", clips, rows & usable, f"{reason}; the row is not used")
            usable &= ~rows
        return clips[usable]

    def _languages(self, cells: Cells) -> pd.Series | str | None:
        if self.language is None or (isinstance(self.language, str) and re.fullmatch("[a-z]{2}", self.language)):
            return self.language if self.language not in cells.frame else cells.select(str(self.language))
        return cells.select(self.language)

    def _consents(self, cells: Cells, text: pd.Series, origin: str, defects: Defects) -> pd.Series:
        found = plain_numbers(text.str.strip().str.lower()).map(_CONSENTS)
        unclear = found.isna() & ~cells.missing(text, self.missing)
        for row in np.flatnonzero(unclear):
            reason = f"{text[row]!r} is not yes, true, 1, no, false or 0; the consent stays unknown"
            defects.add("missing_metadata", f"{cells.where(int(row))}, {origin}", reason)
        return found.astype("boolean")

    def _splits_of(self, name: str, cells: Cells, split: Split | None, defects: Defects) -> pd.Series:
        if split is not None or self.splits_anew:
            return pd.Series(split, index=cells.frame.index, dtype="string")
        if self.split is None:  # unlabelled: for pseudo-labels only
            return pd.Series("train", index=cells.frame.index, dtype="string")
        source = SplitColumn(column=self.split) if isinstance(self.split, str) else self.split
        return read_splits(cells, source, f"corpora.sources.{name}.split.values", defects)


def read_splits(cells: Cells, source: SplitColumn, place: str, defects: Defects) -> pd.Series:
    """Read splits by row: missing where blank, `UNKNOWN_SPLIT` where a cell names none, which is noted.

    Args:
        cells: the file.
        source: its column, and what its words mean.
        place: the setting that translates words, for messages.
        defects: notes words that name no split, and those that were read as one.
    """
    found = cells.select(source.column).str.strip()
    names, unclear = _split_names(found.dropna().unique(), source.values)
    unknown = found.notna() & ~found.isin(list(names))
    for row in np.flatnonzero(unknown):
        reason = f"unknown split {found[row]!r}; {nearest(found[row], [*SPLITS, *source.values])}"
        reason = f"{unclear.get(found[row], reason)}; set {place} to translate it"
        defects.add("unknown_split", f"{cells.where(int(row))}, column {source.column!r}", reason)
    read_as = [f"{cell!r} as {split}" for cell, split in names.items() if cell not in (*SPLITS, *source.values)]
    if read_as:
        defects.add("mended", f"{cells.file}, column {source.column!r}", f"splits are read: {', '.join(read_as)}")
    return found.map(names).astype("string").mask(unknown, UNKNOWN_SPLIT)


def _split_names(found: Iterable[str], values: Mapping[str, Split]) -> tuple[dict[str, Split], dict[str, str]]:
    """The split by cell, and why a cell's is unclear: two words that usually mean one split stand beside each other.

    Args:
        found: different cells.
        values: the split by cell where the configuration says it; in any case of letters where that is no other cell.
    """
    folded = {cell.casefold(): split for cell, split in values.items()}
    names: dict[str, Split] = {}
    words: dict[Split, dict[str, str]] = {}
    for cell in found:
        split = values.get(cell, folded.get(cell.casefold()))
        if split is None and (split := SPLIT_NAMES.get(cell.casefold())) is not None:
            words.setdefault(split, {})[cell] = cell.casefold()
        if split is not None:
            names[cell] = split
    unclear: dict[str, str] = {}
    for split, cells in words.items():
        if len(set(cells.values())) > 1:
            shown = " and ".join(map(repr, cells))
            unclear |= dict.fromkeys(cells, f"{shown} both usually mean {split}, and may be two splits here")
    return {cell: split for cell, split in names.items() if cell not in unclear}, unclear


def _named(source: Selector | SplitColumn | None) -> str:
    if isinstance(source, ColumnPattern):
        return f"column {source.column!r} by pattern {source.pattern!r}"
    column = source.column if isinstance(source, SplitColumn) else source
    return f"{'template' if '{' in str(column) else 'column'} {column!r}"
