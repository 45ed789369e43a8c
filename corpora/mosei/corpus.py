"""CMU-MOSEI from its official files, from the raw AMT answers, or from what others published of it.

References:
    Bagher Zadeh et al., Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable Dynamic Fusion
    Graph, ACL 2018.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from corpora.clips import CorpusError, Defects
from corpora.mosei.folds import Folds, read_folds
from corpora.mosei.labels import CSD, NAMES, answer_files, as_text, label_frame, read_answers, read_csd
from corpora.mosei.media import MediaChoice, attach_media
from corpora.mosei.tables import MMSA_LABELS, mmsa_folds, pickle_files, read_mmsa, read_tables, table_files, table_folds
from corpora.mosei.transcripts import join_lines, match_spans, read_transcripts
from corpora.reading.paths import Tree, shown_path, walk
from corpora.source import OfficialCorpus
from mmpsr.tasks import TaskSpec

__all__ = ["Labels", "MoseiCorpus"]

Labels = Literal["csd", "amt", "table", "mmsa"]
"""What labels are read from."""


class MoseiCorpus(OfficialCorpus):
    """CMU-MOSEI; clips are labelled with intensities of six emotions and of sentiment, grouped by video.

    A clip's id is `<video>_<clip>` with the clip id of the transcripts, `<video>_<start>_<end>` (annotated seconds,
    four decimals) where no transcript line belongs to it, and the table's own `video_name` for a flat table.
    """

    adapter: Literal["mosei"]
    """Chooses this adapter."""
    labels_from: Labels | None = None
    """The CSD, the AMT answers, a flat table, or MMSA's files; left out, the first there of table, csd, amt, mmsa."""
    media: MediaChoice = "auto"
    """Only segmented or only full videos; or segmented ones with the full video where that is missing or unusable."""
    tasks: ClassVar[tuple[str, ...]] = ("emotion",)

    def published_counts(self) -> Mapping[str, int]:
        """Segments by standard fold; see `CorpusSource.published_counts`."""
        return {"train": 16327, "dev": 1871, "test": 4662}

    def collect(self, name: str, root: Path, tasks: Mapping[str, TaskSpec], defects: Defects) -> pd.DataFrame:
        """Read labels, transcripts and folds, and index the media; see `CorpusSource.collect`."""
        tree = walk(root / self.path, root, defects)
        place = f"corpora.sources.{name}"
        clips = _read(tree, self.labels_from or _labels_there(place, tree), place, tasks["emotion"], defects)
        clips["where"] = clips["where"].astype("string")
        if not self.splits_anew:
            clips = _in_folds(place, tree, clips, defects)
        _note_texts(tree, clips, defects)
        clips = attach_media(_with_times(clips, defects), tree, self.media, defects)
        clips["corpus"], clips["release"] = name, self.release
        clips["group"], clips["group_kind"], clips["language"] = clips["vid"], "video", "en"
        return clips.drop(columns=["vid", "clip"])


def _labels_there(place: str, tree: Tree) -> Labels:
    """What the tree has; no download has a flat table, so who puts one there means it."""
    if table_files(tree):
        return "table"
    if CSD in tree.by_name:
        return "csd"
    if answer_files(tree):
        return "amt"
    if MMSA_LABELS in tree.by_name or pickle_files(tree):
        return "mmsa"
    raise CorpusError(
        f"{place}: no {CSD}, no AMT answers (Labels/*.csv), no flat table (train*.csv, dev*.csv, test*.csv with a "
        f"column video_name), no {MMSA_LABELS} and no pickle in or below "
        f"{os.path.abspath(tree.folder)}; set the corpus' path"
    )


def _read(tree: Tree, shape: Labels, place: str, spec: TaskSpec, defects: Defects) -> pd.DataFrame:
    """Columns `clip_id`, `vid`, `clip`, `start`, `end`, `text`, `where`, labels, `raw.`, and `split` where known."""
    if shape == "mmsa":
        clips = read_mmsa(tree, defects)
        return clips.assign(clip_id=clips["vid"] + "_" + clips["clip"], start=np.nan, end=np.nan)
    if shape == "table":
        clips = read_tables(tree, place, spec, defects)
        lines = join_lines(clips, read_transcripts(tree, defects))
        clips = clips.assign(clip=lines["clip"], text=clips["text"].fillna(lines["text"]))
        return _with_sentiment(clips, tree, defects) if CSD in tree.by_name else clips
    lines = read_transcripts(tree, defects)
    if shape == "csd":
        clips = join_lines(read_csd(tree, defects), lines, defects)
    else:
        clips = read_answers(tree, defects).merge(
            lines[["vid", "clip", "start", "end", "text"]].astype({"clip": "string"}), on=["vid", "clip"], how="left"
        )
    times = [f"{start:.4f}_{end:.4f}" for start, end in zip(clips["start"], clips["end"], strict=True)]
    clips["clip_id"] = clips["vid"] + "_" + clips["clip"].fillna(pd.Series(times, clips.index, dtype="string"))
    numbers = clips.columns.intersection(list(NAMES))
    return clips.drop(columns=numbers).join(label_frame(clips[numbers], clips["where"], defects))


def _with_sentiment(clips: pd.DataFrame, tree: Tree, defects: Defects) -> pd.DataFrame:
    """The clips of a table with the sentiment of the CSD's nearest interval, see `match_spans`."""
    csd = read_csd(tree, defects)
    pairs = match_spans(clips, csd)
    found = csd.loc[pairs["that"], "sentiment"].set_axis(clips.index[pairs["this"]]).reindex(clips.index)
    far = ~clips.index.isin(pairs["this"])
    reason = f"no interval of {tree.shown(tree.one([CSD], 'file of the labels'))} is near; its sentiment is unknown"
    defects.add_rows("disagreement", clips, pd.Series(far, index=clips.index), reason)
    return clips.join(label_frame(found.to_frame(), clips["where"], defects)[["raw.sentiment"]])


def _in_folds(place: str, tree: Tree, clips: pd.DataFrame, defects: Defects) -> pd.DataFrame:
    """The clips with their splits: by the folds in the tree, else their own; those without one are set aside."""
    own = "split" in clips
    folds = read_folds(tree) or (None if own else mmsa_folds(tree) or table_folds(tree))
    if folds is None and not own:
        raise CorpusError(
            f"{place}: the standard folds are missing; put the SDK's cmu_mosei_std_folds.py, a file *fold*.json, .txt "
            "or .csv, or three lists train*.txt, valid*.txt and test*.txt of video ids into "
            f"{os.path.abspath(tree.folder)}, or set fractions, hold_out or fold to split anew"
        )
    if folds is not None:
        clips = _apply(folds, clips, own, defects)
    return clips[clips["split"].notna()].reset_index(drop=True)


def _apply(folds: Folds, clips: pd.DataFrame, own: bool, defects: Defects) -> pd.DataFrame:
    splits = clips["vid"].map(folds.splits).astype("string")
    if own:
        moved = clips[(splits != clips["split"]).fillna(False).astype(bool)]
        if len(moved):
            reason = f"{len(moved)} clips, this first, are in another split by {folds.file}, which is used"
            defects.add("disagreement", moved["where"].iloc[0], reason, moved["clip_id"].iloc[0])
        return clips.assign(split=splits.fillna(clips["split"]))
    for vid, rows in clips[splits.isna()].groupby("vid", sort=False):
        reason = f"video {vid!r} is in no fold of {folds.file}; its clips ({len(rows)}) are not used"
        defects.add("unusable_row", rows["where"].iloc[0], reason)
    bare = sorted(set(folds.splits) - set(clips["vid"]))
    if bare:
        reason = f"{len(bare)} of {len(folds.splits)} videos have no labels, for example {bare[0]!r}"
        defects.add("disagreement", folds.file, reason)
    return clips.assign(split=splits)


def _note_texts(tree: Tree, clips: pd.DataFrame, defects: Defects) -> None:
    missing = clips["text"].isna()
    if len(clips) and missing.all():
        reason = "no clip has a transcript (Transcript/Segmented/Combined/<video>.txt); the text modality is absent"
        defects.add("missing_text", shown_path(tree.folder, tree.root), reason)
    else:
        defects.add_rows("missing_text", clips, missing, "no transcript; the text modality is absent")


def _with_times(clips: pd.DataFrame, defects: Defects) -> pd.DataFrame:
    """The clips with times that can be cut: no negative start, and an end after the start, else unknown."""
    start, end = clips["start"], clips["end"]
    clips = clips.assign(**{"raw.start": as_text(start), "raw.end": as_text(end)})
    wrong = ~(end > start.clip(lower=0.0)) & (start.notna() | end.notna()) | np.isinf(end - start)
    reason = "its end is not after its start; nothing can be cut for it, a segmented file keeps its own length"
    defects.add_rows("bad_span", clips, wrong, reason)
    defects.add_rows("mended", clips, (start < 0.0) & ~wrong, "it starts before its video; it is cut from 0 s")
    clips["start"], clips["end"] = start.clip(lower=0.0).mask(wrong), end.mask(wrong)
    clips["raw.annotated_seconds"] = as_text(clips["end"] - clips["start"])
    return clips
