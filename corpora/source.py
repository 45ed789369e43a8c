"""What every corpus entry of a configuration has in common, `[corpora.sources.<name>]`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pandas as pd
from pydantic import Field

from corpora.clips import ClipTable, CorpusError, Defects, Split, conform
from corpora.labels import LabelColumns, read_labels
from corpora.reading.cells import RawCells
from corpora.splitting import SplitSettings, dealing_advice, resplit
from mmpsr.tasks import TaskSpec

__all__ = ["CorpusSource", "OfficialCorpus"]


class CorpusSource(SplitSettings):
    """One corpus on a user's disk. Adapters add the field `adapter`, by which the configuration chooses them."""

    if TYPE_CHECKING:
        adapter: str
    path: str = "."
    """Folder of the corpus, relative to `corpora.root`."""
    release: str | None = None
    """Which release of the corpus this is; noted with every clip."""
    zero_shot: bool = False
    """Never train on this corpus, only evaluate on it."""
    splits: tuple[Split, ...] | None = Field(default=None, min_length=1)
    """Use only these splits; left out, all that the corpus has."""
    metrics: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Metrics by task, reported for this corpus instead of the task's own."""
    groups_overlap: ClassVar[bool] = False
    """Whether the official splits are known to share groups."""

    @abstractmethod
    def label_tasks(self) -> tuple[str, ...]:
        """List tasks that this corpus has labels for."""

    @abstractmethod
    def collect(self, name: str, root: Path, tasks: Mapping[str, TaskSpec], defects: Defects) -> pd.DataFrame:
        """Read all clips from disk, in the corpus' own splits.

        Args:
            name: the corpus' name in the configuration.
            root: `corpora.root`.
            tasks: specifications of at least `label_tasks()`.
            defects: where to note what cannot be used; errors of single cells and rows are noted, not raised.

        Returns:
            A frame with columns of the clip table (those that the corpus lacks may be left out), label columns,
            `raw.<name>` columns, and `where`: file and row of each clip. A column `timelines`, where there is one,
            holds each clip's labels in time: a mapping of task to `Timeline`, or a missing value.

        Raises:
            CorpusError: a file, folder or column is not as declared.
        """

    def add_labels(
        self, name: str, clips: pd.DataFrame, tasks: Mapping[str, TaskSpec], defects: Defects
    ) -> pd.DataFrame:
        """Add labels that the configuration declares beyond those that `collect` reads; here none."""
        return clips

    def published_counts(self) -> Mapping[str, int]:
        """Report clips by split as the corpus' authors report them for this release; empty where they do not."""
        return {}

    @property
    def own_splits(self) -> tuple[Split, ...] | None:
        """The corpus' own splits that have to be read: `splits`, or all (None) where it is split anew."""
        return None if self.splits_anew else self.splits

    def scan(self, name: str, root: Path, tasks: Mapping[str, TaskSpec]) -> ClipTable:
        """Read the corpus from disk; single cells and rows that are wrong are defects, whatever their severity.

        Args:
            name: the corpus' name in the configuration.
            root: `corpora.root`.
            tasks: specifications of at least `label_tasks()`.

        Returns:
            The clips and everything that could not be used.

        Raises:
            CorpusError: a file, folder or column is not as declared, or a split that is asked for has no clip.
        """
        defects = Defects(name)
        clips = self.collect(name, root, tasks, defects).reset_index(drop=True)
        clips = self.add_labels(name, clips, tasks, defects)
        repeated = clips["clip_id"].duplicated()
        first = clips[~repeated].set_index("clip_id")["where"]
        for clip, where in clips.loc[repeated, ["clip_id", "where"]].itertuples(index=False):
            defects.add("duplicate_id", where, f"id {clip!r} occurs already in {first[clip]}; ids must be unique", clip)
        clips = clips[~repeated].reset_index(drop=True)
        if self.splits_anew:
            clips["split"] = resplit(name, clips, self)
        for split, setting in self.wanted_splits(name).items():
            if not clips["split"].eq(split).any():
                message = f"corpus {name!r} has no clip in split {split!r}, which {setting} asks for"
                if self.splits_anew and len(clips):
                    message += f"; {dealing_advice(name, clips['group'], clips['split'], self)}"
                if defects.rows:
                    *_, where, reason = defects.rows[0]
                    message += f"; {len(defects.rows)} rows have defects, the first: {where}: {reason}"
                raise CorpusError(message)
        if self.splits is not None:
            clips = clips[clips["split"].isin(self.splits)]
        timelines = {}
        if "timelines" in clips:
            for clip, own in zip(clips["clip_id"], clips["timelines"], strict=True):
                if isinstance(own, Mapping) and own:
                    timelines[name, str(clip)] = own
        clips = clips.drop(columns=["where", "timelines"], errors="ignore")
        return ClipTable(conform(clips), defects.frame(), timelines)

    def read(self, name: str, root: Path, tasks: Mapping[str, TaskSpec]) -> ClipTable:
        """Read the corpus from disk, to be trained or evaluated on; see `scan`.

        Raises:
            CorpusError: also where a single cell or row is wrong; file, row, column and content are named.
        """
        return self.scan(name, root, tasks).require_sound()

    def wanted_splits(self, name: str) -> dict[Split, str]:
        """List splits that must have clips, and the settings that ask for them."""
        place = f"corpora.sources.{name}"
        if self.splits is not None:
            return {split: f"{place}.splits" for split in self.splits}
        return {split: f"{place}.fractions" for split in self.fractions or ()}


class OfficialCorpus(CorpusSource):
    """A corpus with a layout of its own, whose adapter knows its labels."""

    labels: dict[str, LabelColumns] = Field(default_factory=dict)
    """Labels of further tasks (or other labels of its own), from what the corpus says: its `raw.` columns."""
    tasks: ClassVar[tuple[str, ...]] = ()
    """Tasks that the adapter itself reads labels of."""

    def label_tasks(self) -> tuple[str, ...]:
        """List the corpus' own tasks, and those under `labels`."""
        return tuple(dict.fromkeys((*type(self).tasks, *self.labels)))

    def add_labels(
        self, name: str, clips: pd.DataFrame, tasks: Mapping[str, TaskSpec], defects: Defects
    ) -> pd.DataFrame:
        """Add the labels that `labels` declares over the `raw.` columns of clips."""
        raw = clips.filter(regex=r"^raw\.").rename(columns=lambda column: column.removeprefix("raw."))
        cells = RawCells(f"corpus {name!r}", raw.fillna("").astype("string"), clips["where"].tolist())
        for task, source in self.labels.items():
            place = f"corpora.sources.{name}.labels.{task}"
            columns = read_labels(cells, place, task, tasks[task], source, ("nan", "NaN", "NA"), defects)
            labels = columns.filter(regex=r"^(?!raw\.)").set_axis(clips.index)
            clips = clips.drop(columns=[column for column in labels if column in clips]).join(labels)
        return clips
