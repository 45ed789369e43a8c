"""Any corpus that is a table: CSV, TSV, Parquet or JSON lines, with its columns declared in the configuration."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from corpora.cells import Cells, ColumnPattern, Selector, read_cells
from corpora.clips import SPLITS, ClipTable, CorpusError, GroupKind, Split, conform, defect_frame
from corpora.labels import LabelColumns, read_labels
from corpora.source import CorpusSource, require_splits, require_unique
from mmpsr.config import Config, nearest
from mmpsr.tasks import TaskSpec

__all__ = ["SplitColumn", "TableCorpus", "split_by_group"]

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]


class SplitColumn(Config):
    """A column that names the split, in the corpus' own words."""

    column: str
    """Column of the split."""
    values: dict[str, Split] = Field(default_factory=dict)
    """Split by cell, for cells that are not train, dev or test themselves."""


class TableCorpus(CorpusSource):
    """A corpus declared column by column."""

    adapter: Literal["table"]
    """Chooses this adapter."""
    files: str | dict[Split, str]
    """One table file, or one per split; relative to `path`."""
    separator: str | None = None
    """What separates the cells of a text table; left out, told by the suffix."""
    encoding: str = "utf-8-sig"
    """Encoding of text files."""
    missing: tuple[str, ...] = ("nan", "NaN", "NA")
    """Cells of label and time columns that mean 'unknown', besides blank ones."""
    id: Selector
    """Clip ids, unique in the corpus."""
    text: Selector | None = None
    """Transcripts."""
    description: Selector | None = None
    """Described behaviour."""
    media: Selector | None = None
    """Media files, relative to `media_root`."""
    media_root: str = "."
    """Folder of the media files, relative to `path`."""
    start: Selector | None = None
    """Seconds into the media where clips start."""
    end: Selector | None = None
    """Seconds into the media where clips end."""
    group: Selector | None = None
    """What no split may separate; left out, every clip is its own group."""
    group_kind: GroupKind | None = None
    """What a group is; left out, `video` where `group` is given, else `clip`."""
    speaker: Selector | None = None
    """Speakers."""
    language: Selector | None = None
    """Languages (ISO 639-1): a column, or one two-letter code for all clips."""
    split: str | SplitColumn | None = None
    """Column of the split."""
    fractions: dict[Split, Fraction] | None = None
    """Share of the groups in each split, decided by a hash of corpus name and group that no other row changes."""
    labels: dict[str, LabelColumns] = Field(default_factory=dict)
    """Label columns by task."""

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, fractions: dict[Split, float] | None) -> dict[Split, float] | None:
        if fractions is not None and not np.isclose(sum(fractions.values()), 1.0):
            raise ValueError(f"fractions must sum to 1, they sum to {sum(fractions.values()):g}")
        return fractions

    @model_validator(mode="after")
    def _one_split(self) -> TableCorpus:
        given = (isinstance(self.files, dict), self.split is not None, self.fractions is not None)
        if sum(given) != 1:
            raise ValueError("say once what the splits are: a file per split in `files`, or `split`, or `fractions`")
        return self

    def label_tasks(self) -> tuple[str, ...]:
        """Tasks under `labels`."""
        return tuple(self.labels)

    def read(self, name: str, root: Path, tasks: Mapping[str, TaskSpec]) -> ClipTable:
        """Read the files; see `CorpusSource.read`."""
        parts: list[pd.DataFrame] = []
        defects: list[tuple[object, ...]] = []
        for split, file in self._files_by_split(name):
            cells = read_cells(root / self.path / file, root, self.separator, self.encoding)
            clips, unusable = self._read_file(name, root, cells, split, tasks)
            parts.append(clips)
            defects += unusable
        clips = pd.concat(parts, ignore_index=True)
        require_unique(clips["clip_id"], clips["where"])
        require_splits(name, clips, defect_frame(defects), self._wanted(name))
        if self.splits is not None:
            clips = clips[clips["split"].isin(self.splits)]
        exists = {path: os.path.isfile(path) for path in clips["media"].dropna().unique()}
        absent = clips[clips["media"].map(exists).eq(False).fillna(False).astype(bool)]
        for clip, where, path in absent[["clip_id", "where", "media"]].itertuples(index=False):
            defects.append((name, clip, where, f"there is no media file {path}"))
        return ClipTable(conform(clips.drop(columns="where")), defect_frame(defects))

    def _files_by_split(self, name: str) -> list[tuple[Split | None, str]]:
        if isinstance(self.files, str):
            return [(None, self.files)]
        for split in self.splits or ():
            if split not in self.files:
                raise CorpusError(
                    f"corpora.sources.{name}.splits asks for {split!r}, but files has only {', '.join(self.files)}"
                )
        return [(split, file) for split, file in self.files.items() if split in (self.splits or SPLITS)]

    def _wanted(self, name: str) -> dict[Split, str]:
        """Splits that must have clips, and the settings that ask for them."""
        place = f"corpora.sources.{name}"
        if self.splits is not None:
            return {split: f"{place}.splits" for split in self.splits}
        if isinstance(self.files, dict):
            return {split: f"{place}.files.{split} ({file})" for split, file in self.files.items()}
        return {split: f"{place}.fractions" for split in self.fractions or ()}

    def _read_file(
        self, name: str, root: Path, cells: Cells, split: Split | None, tasks: Mapping[str, TaskSpec]
    ) -> tuple[pd.DataFrame, list[tuple[object, ...]]]:
        """Usable clips of one file, with their place as column `where`, and defects."""
        place = f"corpora.sources.{name}"
        clips = pd.DataFrame({"clip_id": cells.select(self.id)})
        clips["where"] = cells.places()
        clips["corpus"], clips["release"] = name, self.release
        for column in ("text", "description", "speaker", "media", "start", "end"):
            source: Selector | None = getattr(self, column)
            clips[column] = pd.NA if source is None else cells.select(source)
        folder = root / self.path / self.media_root
        clips["media"] = clips["media"].map(lambda path: str(folder / path), na_action="ignore")
        clips["language"] = self._languages(cells)
        clips["group"] = clips["clip_id"] if self.group is None else cells.select(self.group)
        clips["group_kind"] = self.group_kind or ("clip" if self.group is None else "video")
        clips["split"] = self._splits_of(name, cells, split, clips["group"])
        labels = [
            read_labels(cells, f"{place}.labels.{task}", task, tasks[task], source, self.missing)
            for task, source in self.labels.items()
        ]
        frames = pd.concat([clips, *labels], axis=1)
        clips = frames.loc[:, ~frames.columns.duplicated()]  # two tasks may share a raw column
        for column in ("start", "end"):
            clips[column] = cells.numbers(clips[column].astype("string"), _named(getattr(self, column)), self.missing)
        return self._set_aside(name, clips)

    def _set_aside(self, name: str, clips: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[object, ...]]]:
        defects: list[tuple[object, ...]] = []
        early = clips["start"] < 0.0
        for clip, where, start in clips.loc[early, ["clip_id", "where", "start"]].itertuples(index=False):
            defects.append((name, clip, where, f"start {start:g} s lies before the media's beginning; taken as 0"))
        clips.loc[early, "start"] = 0.0
        reasons = {
            f"no id in {_named(self.id)}": clips["clip_id"].isna(),
            f"no group in {_named(self.group)}": clips["group"].isna(),
            f"no split in {_named(self.split)}": clips["split"].isna(),
            "the end lies before the start": clips["end"] < clips["start"].fillna(0.0),
        }
        usable = pd.Series(True, index=clips.index)
        for reason, rows in reasons.items():
            for clip, where in clips.loc[rows & usable, ["clip_id", "where"]].itertuples(index=False):
                defects.append((name, clip, where, f"{reason}; the row is not used"))
            usable &= ~rows
        return clips[usable], defects

    def _languages(self, cells: Cells) -> pd.Series | str | None:
        if self.language is None or (isinstance(self.language, str) and re.fullmatch("[a-z]{2}", self.language)):
            return self.language if self.language not in cells.frame else cells.select(str(self.language))
        return cells.select(self.language)

    def _splits_of(self, name: str, cells: Cells, split: Split | None, groups: pd.Series) -> pd.Series:
        if split is not None:
            return pd.Series(split, index=groups.index, dtype="string")
        if self.fractions is not None:
            return split_by_group(name, groups, self.fractions)
        source = SplitColumn(column=self.split) if isinstance(self.split, str) else self.split
        assert source is not None  # _one_split
        found = cells.select(source.column).str.strip()
        names: dict[str, Split] = dict(zip(SPLITS, SPLITS, strict=True)) | source.values
        unknown = np.flatnonzero(found.notna() & ~found.isin(list(names)))
        if len(unknown):
            row = int(unknown[0])
            raise CorpusError(
                f"{cells.where(row)}, column {source.column!r}: unknown split {found[row]!r}; "
                f"{nearest(found[row], names)}; set corpora.sources.{name}.split.values to translate it"
            )
        return found.map(names)


def _named(source: Selector | SplitColumn | None) -> str:
    if isinstance(source, ColumnPattern):
        return f"column {source.column!r} by pattern {source.pattern!r}"
    column = source.column if isinstance(source, SplitColumn) else source
    return f"{'template' if '{' in str(column) else 'column'} {column!r}"


def split_by_group(name: str, groups: pd.Series, fractions: Mapping[Split, float]) -> pd.Series:
    """Draw each group's split from a SHA-256 of `<corpus name>/<group>`: the same whatever else the table holds.

    Args:
        name: the corpus' name in the configuration; renaming a corpus draws anew.
        groups: group by row; missing stays missing.
        fractions: expected share of the groups by split, summing to 1.

    Example:
        >>> split_by_group("toy", pd.Series(["c", "d", "c"]), {"train": 0.5, "dev": 0.5}).tolist()
        ['dev', 'train', 'dev']
    """
    present = [split for split in SPLITS if split in fractions]
    bounds = np.cumsum([fractions[split] for split in present])[:-1]

    def draw(group: str) -> Split:
        digest = hashlib.sha256(f"{name}/{group}".encode()).digest()
        return present[int(np.searchsorted(bounds, int.from_bytes(digest[:8], "big") / 2**64, side="right"))]

    return groups.map({group: draw(group) for group in groups.dropna().unique()}).astype("string")
