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
from corpora.reading.paths import Tree, shown_path, walk
from corpora.source import OfficialCorpus
from mmpsr.delimited import text_lines
from mmpsr.tasks import TaskSpec

__all__ = ["Labels", "MoseiCorpus", "match_spans"]

Labels = Literal["csd", "amt", "table", "mmsa"]
"""What labels are read from."""
SAME_SECONDS = 0.05
LEAST_OVERLAP = 0.5

_SEPARATOR = "___"
_LINE_COLUMNS = ["vid", "clip", "start", "end", "text", "file", "line"]


class MoseiCorpus(OfficialCorpus):
    """CMU-MOSEI; clips are labelled with intensities of six emotions and of sentiment, grouped by video.

    A clip's id is `<video>_<clip>` with the clip id of the transcripts, `<video>_<start>_<end>` (annotated seconds,
    four decimals) where no transcript line belongs to it, and the table's own `video_name` for a flat table.
    """

    adapter: Literal["mosei"]
    """Chooses this adapter."""
    labels_from: Labels | None = None
    """The CSD, the AMT answers, a flat table, or MMSA's files; left out, the first there of table, csd, amt, mmsa."""
    intensities: Literal["mean", "votes"] = "mean"
    """What the labels of emotions say, each present above 0: the mean intensity over workers, or, of AMT answers, the
    share of workers who saw the emotion at all, for targets that are as soft as the workers were unsure."""
    media: MediaChoice = "auto"
    """Only segmented or only full videos; or segmented ones with the full video where that is missing or unusable."""
    tasks: ClassVar[tuple[str, ...]] = ("emotion",)

    def published_counts(self) -> Mapping[str, int]:
        """Report segments by standard fold; see `CorpusSource.published_counts`."""
        return {"train": 16327, "dev": 1871, "test": 4662}

    def collect(self, name: str, root: Path, tasks: Mapping[str, TaskSpec], defects: Defects) -> pd.DataFrame:
        """Read labels, transcripts and folds, and index the media; see `CorpusSource.collect`."""
        tree = walk(root / self.path, root, defects)
        place = f"corpora.sources.{name}"
        shape = self.labels_from or _labels_there(place, tree)
        if self.intensities == "votes" and shape != "amt":
            raise CorpusError(
                f'{place}.intensities = "votes" counts workers, which only AMT answers (Labels/*.csv) tell apart, and '
                f'labels are read from {shape!r}; set labels_from = "amt", or intensities to "mean"'
            )
        clips = _read(tree, shape, place, tasks["emotion"], defects, self.intensities == "votes")
        clips["where"] = clips["where"].astype("string")
        if not self.splits_anew:
            clips = _in_folds(place, tree, clips, defects)
        _note_texts(tree, clips, defects)
        clips = attach_media(_with_times(clips, defects), tree, self.media, defects)
        clips["corpus"], clips["release"] = name, self.release
        clips["group"], clips["group_kind"], clips["language"] = clips["vid"], "video", "en"
        return clips.drop(columns=["vid", "clip"])


def _labels_there(place: str, tree: Tree) -> Labels:
    """Tell what the tree has; no download has a flat table, so who puts one there means it."""
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


def _read(
    tree: Tree, shape: Labels, place: str, spec: TaskSpec, defects: Defects, with_votes: bool = False
) -> pd.DataFrame:
    """Read `clip_id`, `vid`, `clip`, `start`, `end`, `text`, `where`, labels, `raw.`, and `split` where known."""
    if shape == "mmsa":
        clips = read_mmsa(tree, defects)
        return clips.assign(clip_id=clips["vid"] + "_" + clips["clip"], start=np.nan, end=np.nan)
    if shape == "table":
        clips = read_tables(tree, place, spec, defects)
        lines = _join_lines(clips, _read_transcripts(tree, defects))
        clips = clips.assign(clip=lines["clip"], text=clips["text"].fillna(lines["text"]))
        return _with_sentiment(clips, tree, defects) if CSD in tree.by_name else clips
    lines = _read_transcripts(tree, defects)
    if shape == "csd":
        clips = _join_lines(read_csd(tree, defects), lines, defects)
    else:
        clips = read_answers(tree, defects).merge(
            lines[["vid", "clip", "start", "end", "text"]].astype({"clip": "string"}), on=["vid", "clip"], how="left"
        )
    times = [f"{start:.4f}_{end:.4f}" for start, end in zip(clips["start"], clips["end"], strict=True)]
    clips["clip_id"] = clips["vid"] + "_" + clips["clip"].fillna(pd.Series(times, clips.index, dtype="string"))
    numbers = clips.columns.intersection(list(NAMES))
    votes = clips.filter(regex=r"^votes\.")
    shares = votes.rename(columns=lambda name: name.removeprefix("votes.")) if with_votes else None
    clips = clips.drop(columns=list(votes))
    return clips.drop(columns=numbers).join(label_frame(clips[numbers], clips["where"], defects, shares))


def _with_sentiment(clips: pd.DataFrame, tree: Tree, defects: Defects) -> pd.DataFrame:
    """Give clips of a table the sentiment of the CSD's nearest interval, see `match_spans`."""
    csd = read_csd(tree, defects)
    pairs = match_spans(clips, csd)
    sentiment = csd.loc[pairs["that"], "sentiment"].set_axis(clips.index[pairs["this"]]).reindex(clips.index)
    far = ~clips.index.isin(pairs["this"])
    reason = f"no interval of {tree.shown(tree.one([CSD], 'file of the labels'))} is near; its sentiment is unknown"
    defects.add_rows("disagreement", clips, pd.Series(far, index=clips.index), reason)
    return clips.join(label_frame(sentiment.to_frame(), clips["where"], defects)[["raw.sentiment"]])


def _in_folds(place: str, tree: Tree, clips: pd.DataFrame, defects: Defects) -> pd.DataFrame:
    """Give clips their splits: by the folds in the tree, else their own; set aside those without one."""
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
    """Give clips times that can be cut: no negative start, and an end after the start, else unknown."""
    start, end = clips["start"], clips["end"]
    clips = clips.assign(**{"raw.start": as_text(start), "raw.end": as_text(end)})
    wrong = ~(end > start.clip(lower=0.0)) & (start.notna() | end.notna()) | np.isinf(end - start)
    reason = "its end is not after its start; nothing can be cut for it, a segmented file keeps its own length"
    defects.add_rows("bad_span", clips, wrong, reason)
    defects.add_rows("mended", clips, (start < 0.0) & ~wrong, "it starts before its video; it is cut from 0 s")
    clips["start"], clips["end"] = start.clip(lower=0.0).mask(wrong), end.mask(wrong)
    clips["raw.annotated_seconds"] = as_text(clips["end"] - clips["start"])
    return clips


def _read_transcripts(tree: Tree, defects: Defects) -> pd.DataFrame:
    """Read all `Transcript/Segmented/Combined/<vid>.txt` (or `Transcript/Combined`), a row per line.

    Args:
        tree: the corpus' files.
        defects: notes lines that cannot be used, and those that stand twice.

    Returns:
        Columns `vid`, `clip` (text), `start`, `end`, `text`, `file` (as messages show it), `line`.
    """
    files: dict[str, str] = {}
    for file in (*tree.below("Transcript", "Segmented", "Combined"), *tree.below("Transcript", "Combined")):
        if file.endswith(".txt"):
            files.setdefault(file.rpartition("/")[2].removesuffix(".txt"), file)
    rows: list[tuple[object, ...]] = []
    for vid, file in files.items():
        shown, content = tree.shown(file), tree.path(file).read_bytes()
        text = content.decode("utf-8-sig", errors="replace")
        if "\ufffd" in text and "\ufffd".encode() not in content:
            defects.add("mended", shown, "bytes that are not UTF-8 were replaced")
        for number, line in enumerate(text_lines(text), start=1):
            if line.strip():
                rows.append(_read_line(vid, shown, number, line, defects))
    lines = pd.DataFrame([row for row in rows if row], columns=_LINE_COLUMNS)
    lines = lines.astype({"vid": "string", "clip": "string", "text": "string", "start": "float64", "end": "float64"})
    return _once(lines, defects)


def _read_line(vid: str, shown: str, number: int, line: str, defects: Defects) -> tuple[object, ...]:
    """Read one row of `_LINE_COLUMNS`; empty where the line cannot be used."""
    begin = vid + _SEPARATOR  # the id itself may hold or touch the separator
    parts = line.removeprefix(begin).split(_SEPARATOR, 3) if line.startswith(begin) else []
    try:
        clip, start, end, text = parts[0].strip(), float(parts[1]), float(parts[2]), parts[3].strip()
        if clip.isdecimal() and np.isfinite([start, end]).all():
            return vid, clip, start, end, text or None, shown, number
    except (IndexError, ValueError):
        pass
    reason = f"not a line {begin}<clip>{_SEPARATOR}<start>{_SEPARATOR}<end>{_SEPARATOR}<text>; not used"
    defects.add("unusable_row", f"{shown}, row {number}", reason)
    return ()


def _once(lines: pd.DataFrame, defects: Defects) -> pd.DataFrame:
    """Keep each clip of a video once."""
    repeated = lines.duplicated(["vid", "clip"])
    same = lines.duplicated(["vid", "clip", "start", "end", "text"])
    for row in np.flatnonzero(repeated):
        line, (kind, what) = lines.iloc[row], ("ignored", "the same") if same.iloc[row] else ("disagreement", "another")
        reason = f"{what} line of clip {line['clip']} stands above; the first is used"
        defects.add(kind, f"{line['file']}, row {line['line']}", reason)
    return lines[~repeated].reset_index(drop=True)


def match_spans(these: pd.DataFrame, those: pd.DataFrame) -> pd.DataFrame:
    """Pair two tables of spans one to one, since intervals and lines are numbered independently.

    They are joined by video and time: first where both ends agree within `SAME_SECONDS`, nearest first, then, among
    what is left, where they share at least `LEAST_OVERLAP` of the time that they cover together, most first.

    Args:
        these: with columns `vid`, `start`, `end`; negative starts count as 0.
        those: likewise.

    Returns:
        Positions `this` and `that` of each pair, and whether both ends agree (`same`); in the order of `this`.
    """
    pairs = _spans(these, "this").merge(_spans(those, "that"), on="vid", suffixes=("", "_that"))
    starts, ends = pairs[["start", "start_that"]].to_numpy(), pairs[["end", "end_that"]].to_numpy()
    gap = np.maximum(np.abs(starts[:, 0] - starts[:, 1]), np.abs(ends[:, 0] - ends[:, 1]))
    covered = ends.max(axis=1) - starts.min(axis=1)
    shared = np.clip(ends.min(axis=1) - starts.max(axis=1), 0.0, None)
    overlap = np.divide(shared, covered, out=np.zeros_like(covered), where=covered > 0.0)
    pairs["same"] = gap <= SAME_SECONDS
    pairs["cost"] = np.where(pairs["same"], gap, 1.0 - overlap)
    near = pairs[pairs["same"] | (overlap >= LEAST_OVERLAP)]
    near = near.sort_values(["same", "cost", "this", "that"], ascending=[False, True, True, True])
    used_this: set[int] = set()
    used_that: set[int] = set()
    is_pair = []
    for this, that in near[["this", "that"]].itertuples(index=False):
        is_pair.append(this not in used_this and that not in used_that)
        if is_pair[-1]:
            used_this.add(this)
            used_that.add(that)
    return near.loc[is_pair, ["this", "that", "same"]].sort_values("this").reset_index(drop=True)


def _join_lines(segments: pd.DataFrame, lines: pd.DataFrame, defects: Defects | None = None) -> pd.DataFrame:
    """Give segments `clip` and `text` of their transcript lines, missing where there is none.

    Args:
        segments: with columns `vid`, `start`, `end`, `where`.
        lines: of `_read_transcripts`.
        defects: notes lines of no segment (by file), and pairs whose times differ; None where the segments are only
            a selection of the corpus, with times of their own.
    """
    pairs = match_spans(segments, lines)
    matched = lines.loc[pairs["that"]].set_index(segments.index[pairs["this"]])
    segments = segments.assign(
        clip=matched["clip"].reindex(segments.index), text=matched["text"].reindex(segments.index)
    )
    if defects is None:
        return segments
    for this, that in pairs.loc[~pairs["same"], ["this", "that"]].itertuples(index=False):
        segment, line = segments.loc[this], lines.loc[that]
        reason = (
            f"annotated from {segment['start']:g} to {segment['end']:g} s, but {line['file']}, row {line['line']} runs "
            f"from {line['start']:g} to {line['end']:g} s; the annotated times are used"
        )
        defects.add("disagreement", segment["where"], reason)
    left = lines[~lines.index.isin(pairs["that"])]
    for file, rows in left.groupby("file")["line"]:
        numbers = ", ".join(map(str, rows))
        defects.add("missing_annotation", f"{file}, row {numbers}", "no interval has labels for this; not used")
    return segments


def _spans(frame: pd.DataFrame, position: str) -> pd.DataFrame:
    spans = pd.DataFrame({"vid": frame["vid"], "start": frame["start"].clip(lower=0.0), "end": frame["end"]})
    spans[position] = np.arange(len(frame))
    return spans.dropna()
