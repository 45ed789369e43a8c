"""CMU-MOSEI's media: segmented videos, full videos to cut from, and the sound of whole videos."""

from __future__ import annotations

import os
import re
from typing import Literal

import pandas as pd

from corpora.clips import Defects
from corpora.reading.paths import MEDIA_SUFFIXES, Tree

__all__ = ["MediaChoice", "attach_media"]

MediaChoice = Literal["auto", "segmented", "full"]

_SEGMENTED = re.compile(r"(?:.*/)?Videos/Segmented/Combined")
_FULL = re.compile(r"(?:.*/)?Videos/Full/Combined")
_SOUND = re.compile(r"(?:.*/)?Audio/(?:Full/)?WAV_16000")
_OF_VIDEO = re.compile(r"(?:.*/)?Raw/([^/]+)")  # MMSA: Raw/<vid>/<clip>.mp4


def attach_media(clips: pd.DataFrame, tree: Tree, choice: MediaChoice, defects: Defects) -> pd.DataFrame:
    """Give each clip its media.

    A segmented file is named `<vid>_<clip>` or like the clip's id and is used whole; an empty one counts as missing. A
    full video and a sound file are cut from `start` to `end`.

    Args:
        clips: with columns `clip_id`, `vid`, `clip`, `start`, `end` (seconds into the full video, NaN where unknown),
            `where`; index 0..n-1.
        tree: the corpus' files.
        choice: `segmented` or `full` files only; or segmented ones with the full video as fallback and in the place of
            missing ones.
        defects: notes what is missing, unless the tree has no files of that sort at all.

    Returns:
        The clips with the clip table's columns of media, sound and fallback.
    """
    segments, full_videos, sounds = _index(tree)
    timed = clips["start"].notna()
    named = clips["clip_id"].map(segments)
    segment = named.fillna((clips["vid"] + "_" + clips["clip"]).map(segments)).astype("string")
    full = clips["vid"].map(full_videos).where(timed).astype("string")
    sound = clips["vid"].map(sounds).where(timed).astype("string")
    videos, used = set(clips["vid"]), set(segment.dropna())
    _note_unused(tree, "segmented files", segments, {name for name in segments if segments[name] in used}, defects)
    _note_unused(tree, "full videos", full_videos, videos, defects)
    _note_unused(tree, "sound files", sounds, videos, defects)
    files = {*segment.dropna(), *full.dropna(), *sound.dropna()}
    empty = {file for file in files if not tree.path(file).stat().st_size}
    hollow = segment.isin(empty)
    segment, full, sound = (files.mask(files.isin(empty)) for files in (segment, full, sound))

    segment = segment.mask(pd.Series(choice == "full", index=clips.index))
    full = full.mask(pd.Series(choice == "segmented", index=clips.index))
    cut = segment.isna() & full.notna()
    clips = clips.assign(media=_paths(tree, segment.fillna(full)), fallback_media=_paths(tree, full.mask(cut)))
    clips["audio_media"] = _paths(tree, sound)
    times = clips[["start", "end"]]
    for prefix, rows in {"": cut, "fallback_": clips["fallback_media"].notna(), "audio_": sound.notna()}.items():
        clips[[f"{prefix}start", f"{prefix}end"]] = times.where(rows)

    if choice == "auto":
        defects.add_rows("mended", clips, cut & hollow, "its segmented file is empty; cut from the full video")
        if segment.notna().any():
            defects.add_rows("mended", clips, cut & ~hollow, "it has no segmented file; cut from the full video")
    if segments or full_videos:
        missing, hollow = clips["media"].isna(), hollow & (choice != "full")
        reason = "its segmented file is empty" + (", and no full video is there" if choice == "auto" else "")
        defects.add_rows("missing_media", clips, missing & hollow, reason)
        absent = {"segmented": "no segmented file", "full": "no full video", "auto": "no segmented file, no full video"}
        defects.add_rows("missing_media", clips, missing & ~hollow, absent[choice])
    if sounds:
        seen = clips.groupby("vid")["media"].transform("count")
        silent = clips.assign(seen=seen)[sound.isna() & timed].drop_duplicates("vid")
        for vid, where, files in silent[["vid", "where", "seen"]].itertuples(index=False):
            kind, instead = ("mended", "; the sound is that of the video") if files else ("missing_media", "")
            defects.add(kind, where, f"no WAV_16000/{vid}.wav, or one without content, for this video's clips{instead}")
    return clips


def _index(tree: Tree) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Find segmented files by `<vid>_<clip>` (or whatever else they are named), full videos and sound by video id."""
    official: dict[str, str] = {}
    others: dict[str, str] = {}
    full: dict[str, str] = {}
    sound: dict[str, str] = {}
    sort: dict[str, tuple[dict[str, str], str]] = {}  # of a folder: where its files go, what is put before their names
    for file in tree.files:
        folder, _, name = file.rpartition("/")
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in MEDIA_SUFFIXES:
            continue
        if folder not in sort:
            of_video = _OF_VIDEO.fullmatch(folder)
            sort[folder] = others, f"{of_video[1]}_" if of_video else ""
            for pattern, files in ((_SEGMENTED, official), (_FULL, full), (_SOUND, sound)):
                if pattern.fullmatch(folder):
                    sort[folder] = files, ""
        files, before = sort[folder]
        files.setdefault(before + stem, file)
    return others | official, full, sound


def _paths(tree: Tree, files: pd.Series) -> pd.Series:
    return (str(tree.folder) + "/" + files).astype("string")


def _note_unused(tree: Tree, what: str, files: dict[str, str], used: set[str], defects: Defects) -> None:
    unused = [name for name in files if name not in used]
    if unused:
        reason = f"{len(unused)} of {len(files)} {what} belong to no annotated clip, this is the first; not used"
        defects.add("missing_annotation", tree.shown(files[unused[0]]), reason)
