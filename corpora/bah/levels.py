"""Clips of BAH below its videos: annotated segments with the gaps between them, and single frames."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from corpora.bah.annotation import Facts, number, read_annotated_frames
from corpora.bah.files import BahFiles
from corpora.bah.frame_lists import read_frame_lists
from corpora.clips import Defects, Split
from corpora.reading.untrusted import as_text

__all__ = ["frame_clips", "segment_clips"]

LONG_COLUMNS = ("text", "faces", "raw.cues", "raw.segments", "raw.frame_segments", "raw.languages", "raw.chunks")
"""What describes a whole video and is not repeated for each of its frames."""

_TIME = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")


def segment_clips(videos: pd.DataFrame, annotations: Mapping[str, Facts], defects: Defects) -> pd.DataFrame:
    """Cut videos at their annotated segments.

    Args:
        videos: one row per video, with `key`, `label` (1 present, 0 absent, NaN unknown) and `where`.
        annotations: by key.
        defects: notes spans that cannot be, and videos whose label has no segment or contradicts it.

    Returns:
        Rows of the same columns and `raw.video`. A segment is `<video id>/present-<i>`, with its cues; a gap is
        `<video id>/absent-<i>`, the last one without an end. Videos that are absent or unlabeled stay whole.
    """
    columns = ["row", "clip_id", "start", "end", "label", "where", "raw.cues", "text"]
    rows: list[tuple[object, ...]] = []
    for row, video in enumerate(videos.to_dict("records")):
        clip, label = video["clip_id"], video["label"]
        facts = annotations.get(video["key"], Facts("", {}))
        said, place = facts.said, f"{facts.file}, {video['key']!r}"
        spans = {} if math.isnan(label) else _spans(said.get("time_detailed_ah"), place, clip, defects)
        if not spans:
            if label == 1.0:
                reason = "is labelled present, but no segment says when; it is not used at level 'segment'"
                defects.add("missing_annotation", video["where"], reason, clip)
            else:
                rows.append((row, clip, np.nan, np.nan, label, video["where"], pd.NA, video["text"]))
            continue
        if label == 0.0:
            reason = f"is labelled absent, but {place} has segments, which are used"
            defects.add("disagreement", video["where"], reason, clip)
        cues = said.get("all_cues")
        cues = cues if isinstance(cues, list) else []
        if cues and len(cues) != len(said["time_detailed_ah"]):
            reason = f"{len(said['time_detailed_ah'])} segments, but cues of {len(cues)}"
            defects.add("disagreement", place, reason, clip)
        chunks = json.loads(video["raw.chunks"]) if isinstance(video["raw.chunks"], str) else []
        for position, (start, end) in spans.items():
            cue = as_text(cues[position], place) if position < len(cues) else None
            said_then = _words(chunks, start, end)
            rows.append((row, f"{clip}/present-{position}", start, end, 1.0, place, cue, said_then))
        for position, (start, end) in enumerate(_gaps(spans.values())):
            said_then = _words(chunks, start, end)
            rows.append((row, f"{clip}/absent-{position}", start, end, 0.0, place, pd.NA, said_then))
    cut = pd.DataFrame(rows, columns=columns)
    clips = videos.take(cut["row"].to_numpy(np.int64)).reset_index(drop=True)
    clips["raw.video"] = clips["clip_id"]
    return clips.assign(**{name: cut[name] for name in columns[1:]})


def _spans(segments: object, place: str, clip: str, defects: Defects) -> dict[int, tuple[float, float]]:
    """Read start and end in seconds by position of the segment; note those that cannot be."""
    spans = {}
    for position, segment in enumerate(segments if isinstance(segments, list) else []):
        times = [_seconds(time) for time in segment] if isinstance(segment, (list, tuple)) else []
        if len(times) == 2 and times[0] is not None and times[1] is not None and 0.0 <= times[0] < times[1]:
            spans[position] = (times[0], times[1])
        else:
            reason = f"{str(segment)[:60]} is no [start, end] as HH:MM:SS.mmm with the start first; it is not used"
            defects.add("bad_span", f"{place}, segment {position}", reason, clip)
    return spans


def _seconds(time: object) -> float | None:
    """Parse seconds of `HH:MM:SS.mmm`, or of a number, as YAML reads such a time without quotes."""
    match = _TIME.fullmatch(time.strip()) if isinstance(time, str) else None
    if match is None:
        return number(time)
    return number(round(3600.0 * float(match[1]) + 60.0 * float(match[2]) + float(match[3]), 3))


def _gaps(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    gaps, reached = [], 0.0
    for start, end in sorted(spans):
        if start > reached:
            gaps.append((reached, start))
        reached = max(reached, end)
    return [*gaps, (reached, np.nan)]


def _words(chunks: list[dict[str, Any]], start: float, end: float) -> str | None:
    """Join what is said in a span: chunks of which, or of whose span, at least half is common to both."""
    end = math.inf if math.isnan(end) else end
    words = []
    for chunk in chunks:
        if chunk["start"] is None:
            continue
        chunk_end = math.inf if chunk["end"] is None else chunk["end"]
        common = min(end, chunk_end) - max(start, chunk["start"])
        if common >= 0.5 * min(end - start, chunk_end - chunk["start"]):
            words.append((chunk["text"] or "").strip())
    return " ".join(filter(None, words)) or None


def frame_clips(
    videos: pd.DataFrame,
    files: BahFiles,
    listed: Collection[str],
    splits: Collection[Split],
    step: int,
    defects: Defects,
) -> pd.DataFrame:
    """Make clips of single frames, from the lists of frames; where they name none of a video, from its annotation.

    Args:
        videos: one row per video, with `key`, `withheld` and `where`.
        files: where the lists and pictures lie.
        listed: keys of the videos of all splits.
        splits: splits whose lists are read.
        step: every how manieth frame of each video is taken, beginning with the first.
        defects: notes lines that name no frame, labels that are none, videos without frames or pictures.

    Returns:
        Rows of the same columns, but for what describes whole videos, and `raw.video`; ids are
        `<video id>/frame-<N>`, the media is the picture.
    """
    rows = {key: row for row, key in reversed(list(enumerate(videos["key"])))}
    parts = []
    for file, part in read_frame_lists(files, videos, listed, splits, defects):
        part["where"] = f"{file}, row " + part.pop("line").astype("string")
        parts.append(part)
    seen = {row for part in parts for row in part["row"].unique()}
    bare = {key: row for key, row in rows.items() if row not in seen}
    if bare:
        for place, key, pairs in read_annotated_frames(files, bare, defects):
            part = pd.DataFrame(pairs, columns=["number", "label"], dtype="string")
            parts.append(part.assign(row=bare[key], where=f"{place}, frame-" + part["number"]))
    frames = pd.concat([pd.DataFrame({"row": [], "number": [], "label": [], "where": []}), *parts])
    frames = frames.sort_values("row", kind="stable", ignore_index=True)
    frames = frames[frames.groupby("row").cumcount() % step == 0]
    used = videos.index.isin(frames["row"])
    reason = "none of its frames is annotated; it is not used at level 'frame'"
    defects.add_rows("missing_annotation", videos, pd.Series(~used, videos.index), reason)
    if files.faces:
        reason = "no folder of cropped and aligned faces; its frames have no picture"
        defects.add_rows("missing_media", videos, videos["faces"].isna() & used, reason)

    kept = [column for column in videos if column not in LONG_COLUMNS]
    row_of = frames["row"].to_numpy(np.int64)
    clips = videos[kept].take(row_of).reset_index(drop=True)
    numbers, label = (frames[name].astype("string").reset_index(drop=True) for name in ("number", "label"))
    clips["raw.video"] = clips["clip_id"]
    clips["clip_id"] = clips["clip_id"] + "/frame-" + numbers
    clips["media"] = videos["faces"].take(row_of).reset_index(drop=True) + "/frame-" + numbers + ".jpg"
    clips["where"] = frames["where"].astype("string").reset_index(drop=True)
    clips["raw.label"] = label
    present, absent = label.eq("1"), label.eq("0")
    wrong = ~(present | absent | clips["withheld"])
    defects.add_rows("bad_label", clips, wrong, "the label is neither 0 (absent) nor 1 (present)")
    clips["label"] = present.astype("float64").mask(~(present | absent) | clips["withheld"])
    return clips
