"""MELD in its official layout: `{train,dev,test}_sent_emo.csv` and one mp4 per utterance.

References:
    Poria et al., MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations, ACL 2019.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from corpora.cells import Cells, read_cells, shown_path
from corpora.clips import SPLITS, ClipTable, CorpusError, Split, conform, defect_frame, label_columns
from corpora.labels import one_hot
from corpora.source import CorpusSource, missing_path, require_splits, require_unique
from mmpsr.tasks import TaskSpec

__all__ = ["MeldCorpus", "seconds"]

FOLDERS: Mapping[Split, str] = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}
CLASSES: Mapping[str, str] = {
    "neutral": "Neutral", "anger": "Anger", "disgust": "Disgust", "fear": "Fear", "joy": "Happiness",
    "sadness": "Sadness", "surprise": "Surprise",
}  # fmt: skip
LONGEST_SECONDS = 40.0  # longer spans in the annotation are mistakes in its times

_FILE = re.compile(r"(?:.*_)?(train|dev|test)_sent_emo\.csv")
_CLIP = re.compile(r"dia(\d+)_utt(\d+)\.mp4")
_TIME = r"\s*(\d+):(\d+):(\d+)[,.](\d{1,3})\s*"


def _c1_characters() -> dict[int, str]:
    """C1 code points -> the cp1252 characters that older copies of the files meant by them."""
    meant = {code: bytes([code]).decode("cp1252", errors="ignore") for code in range(0x80, 0xA0)}
    return {code: character for code, character in meant.items() if character}


_C1 = _c1_characters()


@dataclass
class _Found:
    """What lies below the corpus' folder, by split."""

    tables: dict[str, list[Path]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    media: dict[str, dict[str, Path]] = field(default_factory=dict)
    """By split (only those with a media folder): `dia{D}_utt{U}` -> file."""


class MeldCorpus(CorpusSource):
    """MELD; clips are labelled with one emotion, grouped by dialogue."""

    adapter: Literal["meld"]
    """Chooses this adapter."""
    metrics: dict[str, tuple[str, ...]] = Field(default={"emotion": ("macro_f1", "weighted_f1", "uar")})
    """Metrics by task, reported for this corpus instead of the task's own."""

    def label_tasks(self) -> tuple[str, ...]:
        """MELD is annotated for emotion."""
        return ("emotion",)

    def read(self, name: str, root: Path, tasks: Mapping[str, TaskSpec]) -> ClipTable:
        """Read the annotation files and index the media; see `CorpusSource.read`."""
        folder = root / self.path
        if not folder.is_dir():
            raise missing_path("folder", folder, root)
        found = _index(folder)
        wanted = self.splits or tuple(split for split in SPLITS if found.tables[split])
        for split in wanted or ("{train,dev,test}",):
            if not found.tables.get(split):
                raise CorpusError(
                    f"corpora.sources.{name}: no file {split}_sent_emo.csv (a prefix is allowed) in or below "
                    f"{os.path.abspath(folder)}; set its path, or splits to those that are there"
                )
        parts: list[pd.DataFrame] = []
        defects: list[tuple[object, ...]] = []
        for split in wanted:
            cells = read_cells(_only(found.tables[split], root), root)
            parts.append(
                _read_split(name, split, cells, tasks["emotion"], self.release, found.media.get(split), defects)
            )
        clips = pd.concat(parts, ignore_index=True)
        require_unique(clips["clip_id"], clips["where"])
        asked: dict[Split, str] = {
            split: f"corpora.sources.{name}.splits" if self.splits else "its file" for split in wanted
        }
        require_splits(name, clips, defect_frame(defects), asked)
        return ClipTable(conform(clips.drop(columns="where")), defect_frame(defects))


def seconds(times: pd.Series) -> pd.Series:
    """Seconds of `h:mm:ss,ms`, NaN where a time is not written so.

    Example:
        >>> seconds(pd.Series(["0:01:02,5", "00:00:01,250", "later"])).tolist()
        [62.5, 1.25, nan]
    """
    parts = times.str.extract(_TIME + "$").astype("string")
    fraction = parts[3].str.ljust(3, "0")
    values = (
        pd.DataFrame([parts[0], parts[1], parts[2], fraction]).T.astype("Float64").to_numpy(np.float64, na_value=np.nan)
    )
    return pd.Series(values @ [3600.0, 60.0, 1.0, 0.001], index=times.index)


def _index(folder: Path) -> _Found:
    found = _Found()
    split_of = {media: split for split, media in FOLDERS.items()}
    seen: set[str] = set()
    for place, subfolders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(place) in seen:  # a link back to a folder above
            subfolders.clear()
            continue
        seen.add(os.path.realpath(place))
        subfolders[:] = sorted(name for name in subfolders if name != "__MACOSX")
        here = Path(place)
        for file in sorted(files):
            match = _FILE.fullmatch(file)
            if match and not file.startswith("._"):
                found.tables[match[1]].append(here / file)
        if here.name in split_of:
            clips = found.media.setdefault(split_of[here.name], {})
            for file in files:
                if match := _CLIP.fullmatch(file):
                    clips.setdefault(f"dia{int(match[1])}_utt{int(match[2])}", here / file)
    return found


def _only(files: list[Path], root: Path) -> Path:
    """The annotation file of a split; copies are fine, different files are not."""
    if len({file.read_bytes() for file in files}) > 1:
        names = " and ".join(shown_path(file, root) for file in files)
        raise CorpusError(f"{names} differ, and either could be the annotation; set the corpus' path to one of them")
    return files[0]


def _read_split(
    name: str,
    split: Split,
    cells: Cells,
    spec: TaskSpec,
    release: str | None,
    media: Mapping[str, Path] | None,
    defects: list[tuple[object, ...]],
) -> pd.DataFrame:
    dialogue, utterance = _numbers(cells, "Dialogue_ID"), _numbers(cells, "Utterance_ID")
    stem = "dia" + dialogue + "_utt" + utterance
    clips = pd.DataFrame({"clip_id": f"{split}_" + stem, "group": f"{split}_dia" + dialogue, "where": cells.places()})
    clips["corpus"], clips["release"], clips["split"] = name, release, split
    clips["group_kind"], clips["language"] = "dialogue", "en"
    clips["speaker"] = cells.select("Speaker").str.translate(_C1)
    clips["text"] = cells.select("Utterance").str.translate(_C1)
    clips["media"] = None if media is None else stem.map({clip: str(file) for clip, file in media.items()})
    place = f"corpora.sources.{name}"
    clips[label_columns("emotion", spec)] = one_hot(cells, place, "Emotion", spec, CLASSES, missing=())
    for column in ("Emotion", "Sentiment"):
        clips[f"raw.{column}"] = cells.column(column)

    times = {column: seconds(cells.column(column)) for column in ("StartTime", "EndTime")}
    length = times["EndTime"] - times["StartTime"]
    kept = "; the clip is kept, its file has its own length"
    notes = {
        f"StartTime or EndTime is not h:mm:ss,ms{kept}": length.isna(),
        f"EndTime is not after StartTime{kept}": length <= 0.0,
        f"StartTime to EndTime is longer than {LONGEST_SECONDS:g} s{kept}": length > LONGEST_SECONDS,
    }
    if media is not None:
        notes[f"no {FOLDERS[split]}/dia<D>_utt<U>.mp4 of this utterance"] = clips["media"].isna()
        for clip in sorted(set(media) - set(stem)):
            defects.append((name, None, str(media[clip]), f"a clip that no row of {cells.file} annotates; not used"))
    for reason, rows in notes.items():
        for clip, where in clips.loc[rows, ["clip_id", "where"]].itertuples(index=False):
            defects.append((name, clip, where, reason))
    return clips


def _numbers(cells: Cells, column: str) -> pd.Series:
    """Whole numbers of a column as text without leading zeros."""
    text = cells.column(column).str.strip()
    wrong = np.flatnonzero(~text.str.fullmatch(r"\d+").to_numpy(dtype=bool))
    if len(wrong):
        row = int(wrong[0])
        raise CorpusError(f"{cells.where(row)}, column {column!r}: {text[row]!r} is not a whole number")
    return text.map(lambda cell: str(int(cell))).astype("string")
