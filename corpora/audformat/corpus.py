"""A corpus that is an audformat database: whose tables' rows are clips, and which columns are labels.

A name in the configuration is a column, else a scheme; `table/column` where several tables have one. The tables of the
clips are searched first, and all others only where none of these has the name: what a table of files says holds for
every segment of a file, what a table of segments says for the segment with the same file, start and end.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field, model_validator

from corpora.audformat.database import FILE, Database, read_database
from corpora.audformat.view import View, find_columns
from corpora.clips import SPLITS, CorpusError, Defects, GroupKind, Split
from corpora.labels import LabelColumns, read_labels
from corpora.source import CorpusSource
from corpora.table import MEDIA_COLUMNS, UNKNOWN_SPLIT, SplitColumn, find_media, read_splits
from mmpsr.config import nearest
from mmpsr.tasks import TaskSpec

__all__ = ["AudformatCorpus"]

SPEAKER = "speaker"
"""Name of the column or scheme that tells who speaks, as most databases have it."""
TWO_LETTERS = {
    "ara": "ar", "ces": "cs", "cmn": "zh", "dan": "da", "deu": "de", "ell": "el", "eng": "en", "est": "et", "fas": "fa",
    "fin": "fi", "fra": "fr", "hin": "hi", "hun": "hu", "ita": "it", "jpn": "ja", "kor": "ko", "nld": "nl", "nor": "no",
    "pol": "pl", "por": "pt", "ron": "ro", "rus": "ru", "spa": "es", "swe": "sv", "tur": "tr", "ukr": "uk", "urd": "ur",
    "vie": "vi", "zho": "zh",
}  # fmt: skip
"""Code of a language in ISO 639-3, which headers have -> in ISO 639-1."""


class AudformatCorpus(CorpusSource):
    """A corpus whose files an audformat database describes: `db.yaml`, its tables, and media below the folder."""

    adapter: Literal["audformat"]
    """Chooses this adapter."""
    tables: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Tables whose rows are clips; left out, those with a column of `labels`, and all where there are no labels."""
    table_splits: dict[str, Split] = Field(default_factory=dict)
    """Split by table, before what the header says; needed for tables without a split, or with split `other`."""
    split: str | SplitColumn | None = None
    """Column or scheme of the split, in place of splits by table."""
    group: str | None = None
    """Column or scheme of what no split may separate, or `file`; left out, `speaker` where there is one, else files."""
    group_kind: GroupKind | None = None
    """What a group is; left out, `participant` where it is the speaker, else `video`."""
    speaker: str | None = None
    """Column or scheme of speakers; left out, `speaker` where there is one."""
    text: str | None = None
    """Column or scheme of transcripts."""
    description: str | None = None
    """Column or scheme of described behaviour."""
    language: str | None = None
    """Column or scheme of languages, or one two-letter code; left out, the header's where it names one."""
    labels: dict[str, LabelColumns] = Field(default_factory=dict)
    """Columns or schemes by task; where `scale` is left out, it is the range that the schemes say."""
    missing: tuple[str, ...] = ()
    """Cells of label columns that mean 'unknown', besides blank ones; -1 is also -1.0."""
    keep: tuple[str, ...] = ()
    """Further columns to keep as `raw.<column>`, to hold out or analyse by."""

    @model_validator(mode="after")
    def _one_way_to_split(self) -> AudformatCorpus:
        given = [bool(self.table_splits), self.split is not None, self.splits_anew]
        if sum(given) > 1:
            raise ValueError(
                "say once what the splits are: `table_splits`, `split`, or one of `fractions`, `hold_out` and `fold`"
            )
        return self

    def label_tasks(self) -> tuple[str, ...]:
        """List tasks under `labels`."""
        return tuple(self.labels)

    def collect(self, name: str, root: Path, tasks: Mapping[str, TaskSpec], defects: Defects) -> pd.DataFrame:
        """Read the database; see `CorpusSource.collect`."""
        database = read_database(root / self.path, root)
        place = f"corpora.sources.{name}"
        view = View(database, self._clip_tables(database, place), place, defects)
        clips = view.clips[["clip_id", "where"]].copy()
        clips["corpus"], clips["release"] = name, self.release
        clips["split"] = self._splits(view)
        for column in ("text", "description"):
            clips[column] = view.text(getattr(self, column), f"{place}.{column}")
        has_speakers = SPEAKER in database.names()
        speaker = self.speaker or (SPEAKER if has_speakers else None)
        clips["speaker"] = view.text(speaker, f"{place}.speaker")
        group = self.group or speaker or FILE
        clips["group"] = view.files if group == FILE else view.text(group, f"{place}.group")
        clips["group_kind"] = self.group_kind or ("participant" if group == speaker else "video")
        clips["language"] = self._languages(view)
        clips[list(MEDIA_COLUMNS)] = pd.NA
        clips["media"] = view.files.map(lambda file: str(database.folder / file)).astype("string")
        clips["start"], clips["end"] = (view.clips[column].astype("Float64") / 1e9 for column in ("start", "end"))
        labels = [self._labels(view, task, tasks[task], source) for task, source in self.labels.items()]
        kept = [view.values(column, f"{place}.keep").rename(f"raw.{column}") for column in self.keep]
        frame = pd.concat([clips, *labels, *kept], axis=1)
        view.note_unused()
        frame = _usable(frame.loc[:, ~frame.columns.duplicated()], group, defects)
        return find_media(frame.reset_index(drop=True), defects)

    def _clip_tables(self, database: Database, place: str) -> tuple[str, ...]:
        """Choose the tables whose rows are clips: all of files, or all of segments."""
        for setting, names in (("tables", self.tables or ()), ("table_splits", tuple(self.table_splits))):
            for table in names:
                if table not in database.tables:
                    raise CorpusError(f"{place}.{setting}: no table of {database.shown} is named {table!r}; "
                                      f"{nearest(table, database.tables)}")  # fmt: skip
        chosen = self.tables
        if chosen is None and self.labels:
            named = [(f"{place}.labels.{task}", name) for task, own in self.labels.items() for name in _columns(own)]
            tables = (table for setting, name in named for table, _ in find_columns(database, name, setting))
            chosen = tuple(dict.fromkeys(tables))
        chosen = chosen or tuple(database.tables)
        for table in self.table_splits:
            if table not in chosen:
                raise CorpusError(f"{place}.table_splits: the rows of {table!r} are no clips; those of "
                                  f"{', '.join(chosen)} are; see {place}.tables")  # fmt: skip
        segments = [table for table in chosen if database.tables[table].segmented]
        files = [table for table in chosen if table not in segments]
        if segments and files:
            raise CorpusError(
                f"{database.shown}: clips would be segments ({', '.join(segments)}) and whole files "
                f"({', '.join(files)}) at once; name in {place}.tables those whose rows are clips. Columns of "
                "tables of files hold for all their segments"
            )
        return chosen

    def _splits(self, view: View) -> pd.Series:
        """Read splits by clip: of a column, or of the tables that a clip stands in; missing where there is none."""
        place, defects = view.place, view.defects
        if self.splits_anew:
            return pd.Series(pd.NA, index=view.clips.index, dtype="string")
        if self.split is not None:
            source = SplitColumn(column=self.split) if isinstance(self.split, str) else self.split
            cells = view.cells({source.column: f"{place}.split"})
            return read_splits(cells, source, f"{place}.split.values", defects)
        of_tables = {table: self.table_splits.get(table, view.database.tables[table].split) for table in view.tables}
        if not self.labels and not any(of_tables.values()):  # for pseudo-labels only
            return pd.Series("train", index=view.clips.index, dtype="string")
        for table, split in of_tables.items():
            if split is None:
                raise CorpusError(
                    f"{view.database.shown}: table {table!r} has no split; set {place}.table_splits = "
                    f'{{ {table!r} = "train" }}, {place}.split to a column, or {place}.fractions'
                )
        splits = pd.Series(pd.NA, index=view.clips.index, dtype="string")
        for table, split in of_tables.items():
            inside = view.inside(table)
            if split not in SPLITS:
                others = inside & ~view.inside(*(name for name, own in of_tables.items() if own in SPLITS))
                reason = f"table {table!r} has split {split!r}; its clips are not used; see {place}.table_splits"
                defects.add_rows("unusable_row", view.clips, others, reason)
                splits = splits.mask(others, UNKNOWN_SPLIT)
                continue
            twice = inside & splits.isin(list(SPLITS)) & splits.ne(split).fillna(False)
            contradicting = view.clips.assign(other=splits).loc[twice, ["clip_id", "where", "other"]]
            for clip, where, other in contradicting.itertuples(index=False):
                reason = f"is {other}, and in table {table!r} {split}; name in {place}.tables those that are meant"
                defects.add("unknown_split", where, reason, clip)
            splits = splits.mask(inside & ~twice, split).mask(twice, UNKNOWN_SPLIT)
        return splits

    def _languages(self, view: View) -> pd.Series | str | None:
        setting = self.language
        if setting is not None and (len(setting) != 2 or setting in view.database.names()):
            return view.text(setting, f"{view.place}.language")
        languages = view.database.languages
        if setting is None and len(languages) == 1:
            return TWO_LETTERS.get(languages[0], languages[0] if len(languages[0]) == 2 else None)
        return setting

    def _labels(self, view: View, task: str, spec: TaskSpec, source: LabelColumns) -> pd.DataFrame:
        """Read one task's labels, numbers by the range of their schemes where no scale is set."""
        place, names = f"{view.place}.labels.{task}", _columns(source)
        cells = view.cells({column: place for column in names})
        view.note_spread(names, place)
        if source.column is None and source.scale is None:
            ranges = [(column, span) for column in names for span in view.ranges_of(column, place)]
            known = {span for _, span in ranges}
            if len(known) > 1:
                shown = ", ".join(f"{column} {low:g} to {high:g}" for column, (low, high) in ranges)
                raise CorpusError(f"{place}: the schemes of its columns have several ranges ({shown}); set `scale`")
            if known and (span := known.pop()) != (0.0, 1.0):
                source = source.model_copy(update={"scale": span})
                reason = f"labels of {task} from {span[0]:g} to {span[1]:g}, the range of their scheme, become 0 to 1"
                view.defects.add("mended", view.database.shown, reason)
        return read_labels(cells, place, task, spec, source, self.missing, view.defects)


def _columns(source: LabelColumns) -> list[str]:
    """List the columns that labels are read from."""
    if source.column is not None:
        return [source.column]
    return list(source.columns.values() if isinstance(source.columns, dict) else source.columns or ())


def _usable(clips: pd.DataFrame, group: str, defects: Defects) -> pd.DataFrame:
    """Set aside clips that lack what a clip needs; each is noted."""
    start, end = clips["start"].fillna(0.0), clips["end"]
    for clip, where, seconds in clips.loc[start < 0, ["clip_id", "where", "start"]].itertuples(index=False):
        reason = f"start {seconds:g} s lies before the file's beginning; taken as 0"
        defects.add("mended", where, reason, clip)
    clips = clips.assign(start=clips["start"].mask(start < 0, 0.0))
    unsplit = clips["split"].isna() & clips["split"].notna().any()
    reasons = {
        f"no group in {group!r}; correct it, or set `group`": clips["group"].isna(),
        "no split": unsplit,
        "the end does not lie behind the start": (end <= start.clip(lower=0.0)).fillna(False),
    }
    usable = clips["split"].ne(UNKNOWN_SPLIT).fillna(True).astype(bool)
    for reason, rows in reasons.items():
        wrong = rows.astype(bool) & usable
        defects.add_rows("unusable_row", clips, wrong, f"{reason}; the row is not used")
        usable &= ~wrong
    return clips[usable]
