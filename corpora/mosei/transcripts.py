"""CMU-MOSEI's segmented transcripts, and how their lines are found for annotated intervals.

An interval and a line are numbered independently, so they are joined by video and time: first where both ends agree
within `SAME_SECONDS`, nearest first, then, among what is left, where they share at least `LEAST_OVERLAP` of the time
that they cover together, most first. Each is used once.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from corpora.clips import Defects
from corpora.reading.paths import Tree
from mmpsr.delimited import text_lines

__all__ = ["join_lines", "match_spans", "read_transcripts"]

SAME_SECONDS = 0.05
LEAST_OVERLAP = 0.5

_SEPARATOR = "___"
_COLUMNS = ["vid", "clip", "start", "end", "text", "file", "line"]


def read_transcripts(tree: Tree, defects: Defects) -> pd.DataFrame:
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
    lines = pd.DataFrame([row for row in rows if row], columns=_COLUMNS)
    lines = lines.astype({"vid": "string", "clip": "string", "text": "string", "start": "float64", "end": "float64"})
    return _once(lines, defects)


def _read_line(vid: str, shown: str, number: int, line: str, defects: Defects) -> tuple[object, ...]:
    """One row of `_COLUMNS`; empty where the line cannot be used."""
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
    """The lines with each clip of a video once."""
    repeated = lines.duplicated(["vid", "clip"])
    same = lines.duplicated(["vid", "clip", "start", "end", "text"])
    for row in np.flatnonzero(repeated):
        line, (kind, what) = lines.iloc[row], ("ignored", "the same") if same.iloc[row] else ("disagreement", "another")
        reason = f"{what} line of clip {line['clip']} stands above; the first is used"
        defects.add(kind, f"{line['file']}, row {line['line']}", reason)
    return lines[~repeated].reset_index(drop=True)


def match_spans(these: pd.DataFrame, those: pd.DataFrame) -> pd.DataFrame:
    """Pair two tables of spans one to one, see the module's description.

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
    chosen = []
    for this, that in near[["this", "that"]].itertuples(index=False):
        chosen.append(this not in used_this and that not in used_that)
        if chosen[-1]:
            used_this.add(this)
            used_that.add(that)
    return near.loc[chosen, ["this", "that", "same"]].sort_values("this").reset_index(drop=True)


def join_lines(segments: pd.DataFrame, lines: pd.DataFrame, defects: Defects | None = None) -> pd.DataFrame:
    """The segments with `clip` and `text` of their transcript lines, missing where there is none.

    Args:
        segments: with columns `vid`, `start`, `end`, `where`.
        lines: of `read_transcripts`.
        defects: notes lines of no segment (by file), and pairs whose times differ; None where the segments are only
            a selection of the corpus, with times of their own.
    """
    pairs = match_spans(segments, lines)
    found = lines.loc[pairs["that"]].set_index(segments.index[pairs["this"]])
    segments = segments.assign(clip=found["clip"].reindex(segments.index), text=found["text"].reindex(segments.index))
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
