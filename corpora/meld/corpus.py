"""MELD in its official layout: `{train,dev,test}_sent_emo.csv` and one mp4 per utterance.

References:
    Poria et al., MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations, ACL 2019.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from corpora.clips import SPLITS, CorpusError, Defects, Split, label_columns
from corpora.labels import one_hot
from corpora.reading.cells import Cells, read_cells
from corpora.reading.paths import Tree, shown_path, walk
from corpora.source import OfficialCorpus
from mmpsr.tasks import TaskSpec

__all__ = ["CLASSES", "FOLDERS", "MeldCorpus", "seconds"]

FOLDERS: Mapping[Split, str] = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}
"""Folder of each split's clips as the archives unpack."""
CLASSES: Mapping[str, str] = {
    "neutral": "Neutral", "anger": "Anger", "disgust": "Disgust", "fear": "Fear", "joy": "Happiness",
    "sadness": "Sadness", "surprise": "Surprise",
}  # fmt: skip
"""Class by cell of the column `Emotion`."""
LONGEST_SECONDS = 40.0  # longer spans in the annotation are mistakes in its times

_UNREADABLE = ("train_dia125_utt3",)
_NEVER_PUBLISHED = ("dev_dia110_utt7",)
_FILE = re.compile(r"(?:.*_)?(train|dev|test)_sent_emo\.csv")
_CLIP = r"(?:^|/)(?P<final>final_videos_test)?dia0*(?P<dialogue>[0-9]+)_utt0*(?P<utterance>[0-9]+)\.mp4$"
_SPLIT_OF: Mapping[str, Split] = {name: split for split in SPLITS for name in (FOLDERS[split], split)}
_TIME = r"\s*([0-9]{1,3}):([0-9]{1,2}):([0-9]{1,2})[,.]([0-9]{1,3})\s*"
_OWN = ("Utterance", "Speaker", "Dialogue_ID", "Utterance_ID")  # columns that clip columns hold
_CP1252 = {code: bytes([code]).decode("cp1252", errors="ignore") for code in range(0x80, 0xA0)}
_C1 = {code: character for code, character in _CP1252.items() if character}
"""C1 code points -> the cp1252 characters that older copies of the files meant by them."""


class MeldCorpus(OfficialCorpus):
    """MELD; clips are labelled with one emotion, grouped by dialogue."""

    adapter: Literal["meld"]
    """Chooses this adapter."""
    metrics: dict[str, tuple[str, ...]] = Field(default={"emotion": ("macro_f1", "weighted_f1", "uar")})
    """Metrics by task, reported for this corpus instead of the task's own."""
    context_utterances: int = Field(default=8, ge=0)
    """How many utterances before a clip are its context, at most."""
    prefer_final_videos: bool = False
    """Take `final_videos_testdia<D>_utt<U>.mp4` instead of `dia<D>_utt<U>.mp4` where the test folder holds it."""
    tasks: ClassVar[tuple[str, ...]] = ("emotion",)

    def published_counts(self) -> Mapping[str, int]:
        """Report utterances by split."""
        return {"train": 9989, "dev": 1109, "test": 2610}

    def collect(self, name: str, root: Path, tasks: Mapping[str, TaskSpec], defects: Defects) -> pd.DataFrame:
        """Read the annotation files and find the media; see `CorpusSource.collect`."""
        tree = walk(root / self.path, root, defects)
        tables: dict[str, list[str]] = {split: [] for split in SPLITS}
        for file_name in sorted(tree.by_name):
            if match := _FILE.fullmatch(file_name):
                tables[match[1]].append(file_name)
        wanted = self.own_splits or tuple(split for split in SPLITS if tables[split])
        for split in wanted or ("{train,dev,test}",):
            if not tables.get(split):
                raise CorpusError(
                    f"corpora.sources.{name}: no file {split}_sent_emo.csv (a prefix is allowed) in or below "
                    f"{os.path.abspath(tree.folder)}; set its path, or splits to those that are there"
                )
        media = _find_media(tree, wanted, self.prefer_final_videos, defects)
        parts = []
        for split in wanted:
            cells = _read_annotation(tree.path(tree.one(tables[split], "annotation")), root, defects)
            clips = _read_split(name, split, cells, tasks["emotion"], self.context_utterances, defects)
            clips["release"] = self.release
            if media is not None:
                of_split = media[media["split"].eq(split)].set_index("clip")["file"]
                _add_media(clips, split, cells.file, of_split, tree, defects)
            parts.append(clips)
        return pd.concat(parts, ignore_index=True)


def seconds(times: pd.Series) -> pd.Series:
    """Parse seconds of `h:mm:ss,ms`, NaN where a time is not written so.

    Example:
        >>> seconds(pd.Series(["0:01:02,5", "00:00:01,250", "later"])).tolist()
        [62.5, 1.25, nan]
    """
    parts = times.str.extract(f"^{_TIME}$").astype("string")
    parts[3] = parts[3].str.ljust(3, "0")
    values = parts.astype("Float64").to_numpy(np.float64, na_value=np.nan)
    return pd.Series(values @ [3600.0, 60.0, 1.0, 0.001], index=times.index)


def _find_media(tree: Tree, wanted: tuple[Split, ...], prefer_final: bool, defects: Defects) -> pd.DataFrame | None:
    """Find `split`, `clip` (`dia<D>_utt<U>`) and `file`, one row per clip; nothing where the tree has no clips."""
    files = pd.Series(tree.files, dtype="string")
    parts = files.str.extract(_CLIP)
    is_clip = parts["dialogue"].notna()
    if not is_clip.any():
        return None
    media = pd.DataFrame({"file": files, "clip": "dia" + parts["dialogue"] + "_utt" + parts["utterance"]})[is_clip]
    media["final"] = parts["final"].notna()
    folders = media["file"].str.rpartition("/")[0]
    naming = folders.map({folder: _naming_folder(folder) for folder in folders.unique()}).astype("string")
    media["split"], media["renamed"] = naming.map(_SPLIT_OF).astype("string"), ~naming.isin(list(FOLDERS.values()))
    media.loc[media["final"], "split"] = "test"  # the name says so, wherever the file lies

    media = media[media["split"].isna() | media["split"].isin(list(wanted))]
    final = media[media["final"]]
    if len(final) and not prefer_final:
        reason = "final_videos_test files are left out; set prefer_final_videos = true to use them"
        defects.add("ignored", tree.shown(final["file"].iloc[0]), f"{len(final)} {reason}")
        media = media[~media["final"]]
    media = media.assign(plain=~media["final"]).sort_values(["plain", "renamed", "file"])
    homeless = media["split"].isna()
    for folder, clips in media[homeless].groupby(folders):
        used = set(wanted) <= set(media["split"])
        reason = f"{len(clips)} clips in a folder that tells no split, and dialogues are numbered anew in each"
        advice = "move them below a folder named " + " or ".join(FOLDERS[split] for split in wanted)
        defects.add("ignored" if used else "unknown_split", tree.shown(str(folder)), f"{reason}; {advice}")
    further = media.duplicated(["split", "clip"]) & ~homeless
    if further.any():
        reason = "further files of clips that have one already; not used"
        defects.add("ignored", tree.shown(media.loc[further, "file"].iloc[0]), f"{further.sum()} {reason}")
    return media[~homeless & ~further]


def _naming_folder(path: str) -> str | None:
    """Find the nearest folder of a path that is named after a split."""
    return next((folder for folder in reversed(path.split("/")) if folder in _SPLIT_OF), None)


def _read_annotation(path: Path, root: Path, defects: Defects) -> Cells:
    """Read an annotation file, with utterances and speakers mended that older copies have as cp1252."""
    data = path.read_bytes() if path.is_file() else b""
    encoding = "utf-8-sig"
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if re.search(rb"[\xc2-\xf4][\x80-\xbf]", data):  # UTF-8 otherwise
            raise CorpusError(
                f"{shown_path(path, root)} is neither UTF-8 nor cp1252 at byte {error.start}; get the file anew"
            ) from None
        encoding = "latin-1"  # cp1252, once C1 code points are mended
    cells = read_cells(path, root, encoding=encoding, defects=defects)
    num_mended = 0
    for column in ("Utterance", "Speaker"):
        texts = cells.column(column)
        cells.frame[column] = texts.str.translate(_C1)
        num_mended += int(texts.ne(cells.frame[column]).sum())
    if num_mended:
        reason = "cells hold C1 control characters, read as the cp1252 characters that were meant"
        defects.add("mended", cells.file, f"{num_mended} {reason}")
    return cells


def _read_split(
    name: str, split: Split, cells: Cells, spec: TaskSpec, context_utterances: int, defects: Defects
) -> pd.DataFrame:
    """Read the clips of one annotation file, without their media."""
    dialogue, utterance = (_numbers(cells, column, defects) for column in ("Dialogue_ID", "Utterance_ID"))
    clip = "dia" + dialogue + "_utt" + utterance
    clips = pd.DataFrame({"clip_id": f"{split}_" + clip, "group": f"{split}_dia" + dialogue, "where": cells.places()})
    clips["corpus"], clips["split"] = name, split
    clips["group_kind"], clips["language"] = "dialogue", "en"
    clips["speaker"] = cells.select("Speaker")
    clips["text"] = cells.select("Utterance")
    clips["context"] = _context(clips, utterance, context_utterances)
    labels = one_hot(cells, f"corpora.sources.{name}", "Emotion", spec, CLASSES, (), defects)
    clips[label_columns("emotion", spec)] = labels
    times = {column: seconds(cells.column(column)) for column in ("StartTime", "EndTime")}
    for column in cells.frame:
        if column not in _OWN:
            clips[f"raw.{column}"] = cells.frame[column]

    length = times["EndTime"] - times["StartTime"]
    sound = length.gt(0.0) & length.le(LONGEST_SECONDS)
    clips["raw.annotated_seconds"] = length.map("{:.3f}".format).astype("string").where(sound)
    kept = "; the clip is kept, its file has its own length"
    notes = {
        f"StartTime or EndTime is not h:mm:ss,ms{kept}": length.isna(),
        f"EndTime is not after StartTime{kept}": length <= 0.0,
        f"StartTime to EndTime is longer than {LONGEST_SECONDS:g} s{kept}": length > LONGEST_SECONDS,
    }
    usable = clip.notna()
    for reason, rows in notes.items():
        defects.add_rows("bad_span", clips, rows & usable, reason)
    defects.add_rows("missing_label", clips, cells.column("Emotion").str.strip().eq("") & usable, "no Emotion")
    defects.add_rows("missing_text", clips, clips["text"].isna() & usable, "no Utterance")
    return clips[usable].reset_index(drop=True)


def _numbers(cells: Cells, column: str, defects: Defects) -> pd.Series:
    """Read whole numbers of a column as text without leading zeros, missing (and noted) where there is none."""
    text = cells.column(column).str.strip()
    wrong = ~text.str.fullmatch("[0-9]+").fillna(False).astype(bool)
    for row in np.flatnonzero(wrong):
        reason = f"{text[row]!r} is not a whole number; the row is not used"
        defects.add("bad_number", f"{cells.where(int(row))}, column {column!r}", reason)
    return text.str.replace("^0+(?=[0-9])", "", regex=True).mask(wrong)


def _context(clips: pd.DataFrame, utterance: pd.Series, most: int) -> pd.Series:
    """Join the up to `most` utterances before each one in its dialogue, a line for each: `Speaker: utterance`."""
    spoken = clips[["group", "speaker", "text"]].assign(digits=utterance.str.len(), number=utterance)
    said: dict[str, list[str]] = {}
    earlier = {}
    spoken = spoken.dropna(subset="group").sort_values(["digits", "number"], kind="stable")
    for row, group, speaker, text in spoken[["group", "speaker", "text"]].itertuples(name=None):
        before = said.setdefault(group, [])
        if before and most:
            earlier[row] = "\n".join(before[-most:])
        if not pd.isna(text):
            line = " ".join(text.split())
            before.append(line if pd.isna(speaker) else f"{speaker}: {line}")
    return pd.Series(earlier, dtype="string").reindex(clips.index)


def _add_media(clips: pd.DataFrame, split: Split, file: str, media: pd.Series, tree: Tree, defects: Defects) -> None:
    """Set the column `media` from the split's files by clip, and note what has none, or is none."""
    if media.empty:
        reason = f"no clip of split {split!r} (below a folder {FOLDERS[split]} or {split}), though there are others"
        defects.add("missing_media", file, reason)
        return
    stems = clips["clip_id"].str.removeprefix(f"{split}_")
    clips["media"] = stems.map(media.map(lambda name: str(tree.path(name))))
    missing, never = clips["media"].isna(), clips["clip_id"].isin(_NEVER_PUBLISHED)
    reason = f"no {FOLDERS[split]}/dia<D>_utt<U>.mp4 of this utterance"
    defects.add_rows("missing_media", clips, missing & ~never, reason)
    defects.add_rows("known_bad", clips, missing & never, "its file was never published; the clip stays without it")
    unreadable = ~missing & clips["clip_id"].isin(_UNREADABLE)
    defects.add_rows("known_bad", clips, unreadable, "its file is known to be unreadable as published")
    for name in media[~media.index.isin(stems)].sort_index():
        defects.add("missing_annotation", tree.shown(name), f"a clip that no row of {file} annotates; not used")
