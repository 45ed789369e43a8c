"""Labels in time of a table corpus: a table of segments, or a folder of annotation files named as the clips.

    clip, start, end, label     one row a segment; or     <clip>.eaf, <clip>.TextGrid     one interval a segment

Times are seconds of the clip's media. What no segment covers has the label `outside`; it is unknown in a clip with a
segment that cannot be used, since nobody knows where that one lies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.clips import CorpusError, Defects, label_column
from corpora.labels import one_hot
from corpora.reading.cells import Cells, RawCells
from corpora.reading.paths import MEDIA_SUFFIXES, shown_path, walk
from corpora.reading.tiers import TIER_SUFFIXES, Tier, read_tiers
from corpora.timeline import UNKNOWN, Segment, Timeline
from mmpsr.config import nearest
from mmpsr.tasks import TaskSpec

__all__ = ["TimelineLabels", "add_timelines"]

_BLANK = -2
"""Label of a segment that has none: it is as if it were not there."""


@dataclass(frozen=True)
class TimelineLabels:
    """How the words of segments become labels of one task.

    Attributes:
        setting: the corpus' place in the configuration, for messages.
        task: name of the task.
        spec: its specification.
        values: class by label, besides the names of the classes.
        outside: class of what no segment covers, counted from 0; -1 unknown.
        missing: labels and times that mean 'unknown'.
    """

    setting: str
    task: str
    spec: TaskSpec
    values: Mapping[str, str]
    outside: int
    missing: Collection[str]

    def read(self, cells: Cells, defects: Defects) -> NDArray[np.int64]:
        """Read the labels of segments: a class, -1 for unknown ones, -2 for blank ones."""
        spec = self.spec
        numbers = dict(zip("01", spec.classes, strict=True)) if len(spec.classes) == 2 else {}
        values = {**numbers, **{name: name for name in spec.classes}, **self.values}
        targets = one_hot(cells, f"{self.setting}.timeline", "label", spec, values, self.missing, defects)
        labels = np.where(np.isnan(targets).any(axis=1), UNKNOWN, np.nan_to_num(targets).argmax(axis=1))
        return np.where(cells.column("label").str.strip().eq(""), _BLANK, labels)


def add_timelines(
    clips: pd.DataFrame,
    path: Path,
    root: Path,
    labels: TimelineLabels,
    tier: str | None,
    read_table: Callable[[], Cells],
    all_read: bool,
    defects: Defects,
) -> pd.DataFrame:
    """Give clips their labels in time, column `timelines`.

    Args:
        clips: with `clip_id`, `where` and the labels of the task, where the corpus has them.
        path: the table of segments, or the folder of annotation files.
        root: `corpora.root`, for messages.
        labels: the task, and how words become its classes.
        tier: name of the tier that holds the labels; None for a table.
        read_table: reads `path` where it is a table.
        all_read: whether `clips` are all clips of the corpus, so that a segment of another is a mistake.
        defects: notes segments that cannot be used, contradictions, and clips without labels in time.

    Raises:
        CorpusError: table, folder or tier is not as declared, or nothing in it is of any clip.
    """
    shown = shown_path(path, root)
    known = clips["clip_id"].dropna().astype(str).unique().tolist()
    cells: Cells
    damaged: set[str] = set()
    if path.is_dir():
        cells, annotated, damaged = _tier_cells(path, root, labels, tier, known, all_read, defects)
    elif tier is not None:
        raise CorpusError(
            f"{labels.setting}.tier is for a folder of {' or '.join(TIER_SUFFIXES)} files, but {shown} is none; leave "
            "out `tier`, or set `timeline` to the folder"
        )
    else:
        cells = read_table()
        annotated = set(cells.column("clip").str.strip()) & set(known)
    if known and not annotated:
        raise CorpusError(
            f"{shown}: nothing in it is of a clip of corpus {defects.corpus!r}, whose clips are named like "
            f"{known[0]!r}; see {labels.setting}.timeline"
        )
    segments, unused = _segments(cells, labels, known, all_read, defects)
    timelines = []
    for clip in clips.to_dict("records"):
        name = clip["clip_id"]
        outside = UNKNOWN if name in damaged or name in unused else labels.outside
        own, is_annotated = segments.get(name, []), name in annotated
        timelines.append(_timeline(clip, own, is_annotated, outside, shown, labels, defects))
    return clips.assign(timelines=pd.Series(timelines, index=clips.index, dtype=object))


def _segments(
    cells: Cells, labels: TimelineLabels, known: Collection[str], all_read: bool, defects: Defects
) -> tuple[dict[str, list[tuple[Segment, str]]], set[str]]:
    """Read segments and their places by clip, and clips with segments that cannot be used, which are noted."""
    clips = cells.column("clip").str.strip()
    start, end = (
        cells.numbers(cells.column(name), f"column {name!r}", labels.missing, defects, clock=True)
        for name in ("start", "end")
    )
    unknown = {name: cells.missing(cells.column(name), labels.missing).tolist() for name in ("start", "end")}
    classes = labels.read(cells, defects)
    unknown_clips = clips.ne("") & ~clips.isin(list(known))
    for clip in clips[unknown_clips].unique() if all_read else ():
        rows = np.flatnonzero(clips.eq(clip))
        others = f" ({len(rows)} segments)" if len(rows) > 1 else ""
        reason = f"no clip is named {clip!r}{others}; {nearest(clip, known)}"
        defects.add("unusable_row", f"{cells.where(int(rows[0]))}, column 'clip'", reason)
    segments: dict[str, list[tuple[Segment, str]]] = {}
    unused: set[str] = set()
    names = clips.tolist()
    for row in np.flatnonzero(~unknown_clips).tolist():
        where, clip, first, last = cells.where(row), names[row], start[row], end[row]
        blank = [name for name in ("start", "end") if unknown[name][row]]
        if clip == "":
            defects.add("unusable_row", f"{where}, column 'clip'", "a segment of no clip; the row is not used")
        elif classes[row] == _BLANK and len(blank) == 2:
            continue  # says that the clip is annotated, and has no segment
        elif blank:
            unused.add(clip)
            reason = f"the segment has no known {' and '.join(blank)}; it is not used"
            defects.add("bad_span", where, reason, clip)
        elif np.isnan(first) or np.isnan(last):
            unused.add(clip)  # noted where they were read
        elif last <= max(first, 0.0):
            unused.add(clip)
            reason = f"the segment runs from {first:g} s to {last:g} s; it is not used, as it must end after it begins"
            defects.add("bad_span", where, reason, clip)
        elif classes[row] != _BLANK:
            if first < 0.0:
                defects.add("mended", where, f"start {first:g} s lies before the file's beginning; taken as 0", clip)
            segment = Segment(max(float(first), 0.0), float(last), int(classes[row]))
            segments.setdefault(clip, []).append((segment, where))
    return segments, unused


def _timeline(
    clip: Mapping[Hashable, Any],
    segments: list[tuple[Segment, str]],
    is_annotated: bool,
    outside: int,
    shown: str,
    labels: TimelineLabels,
    defects: Defects,
) -> dict[str, Timeline] | None:
    """Make the labels in time of one clip; what contradicts is noted."""
    name, where = str(clip["clip_id"]), str(clip["where"])
    classes = labels.spec.classes
    own = [clip.get(label_column(labels.task, class_name), np.nan) for class_name in classes]
    label = own.index(1.0) if 1.0 in own else UNKNOWN
    if not is_annotated and (label == UNKNOWN or label != labels.outside):
        defects.add("missing_annotation", where, f"{shown} has nothing of this clip; it has no labels in time", name)
        return None
    ordered = sorted(segments, key=lambda pair: (pair[0].start, pair[0].end))
    for position, (segment, place) in enumerate(ordered):
        for other, other_place in ordered[position + 1 :]:
            if other.start >= segment.end:
                break
            if other.label != segment.label:
                span = f"{other.start:g} to {min(segment.end, other.end):g} s"
                reason = f"is labelled otherwise than {place} from {span}; the label there is unknown"
                defects.add("disagreement", other_place, reason, name)
    inside = {segment.label for segment, _ in segments}
    if label not in (UNKNOWN, labels.outside) and label not in inside:
        reason = f"is labelled {classes[label]!r}, but no segment is; the clip's label stays"
        defects.add("disagreement", where, reason, name)
    elif label == labels.outside and len(classes) == 2 and inside - {label, UNKNOWN}:
        opposite = classes[1 - label]
        reason = f"is labelled {classes[label]!r}, but has segments labelled {opposite!r}; the clip's label stays"
        defects.add("disagreement", where, reason, name)
    return {labels.task: Timeline(None, tuple(segment for segment, _ in ordered), outside)}


def _tier_cells(
    folder: Path,
    root: Path,
    labels: TimelineLabels,
    tier: str | None,
    known: Collection[str],
    all_read: bool,
    defects: Defects,
) -> tuple[RawCells, set[str], set[str]]:
    """Read the intervals of one tier as cells of a table; tell which clips have it, and in which some have no time."""
    tree = walk(folder, root, defects)
    files = [file for file in tree.files if file.lower().endswith(TIER_SUFFIXES)]
    stems = {file: file[: file.rindex(".")] for file in files}
    by_name: dict[str, list[str]] = {}  # also by the name without folders
    for file, stem in stems.items():
        by_name.setdefault(stem, []).append(file)
        if "/" in stem:
            by_name.setdefault(stem.rpartition("/")[2], []).append(file)
    used: dict[str, str] = {}
    named: set[str] = set()
    for clip in known:
        names = dict.fromkeys(part for name in (clip, _without_suffix(clip)) for part in (name, Path(name).name))
        matches = next((by_name[name] for name in names if name in by_name), [])
        if matches:
            used[clip] = matches[0]
            named.update(matches)
        for other in matches[1:]:
            reason = f"could be of clip {clip!r} as well as {tree.shown(matches[0])}, which is used"
            defects.add("ignored", tree.shown(other), reason, clip)
    for file in files if all_read else ():
        if file not in named:
            reason = f"no clip is named {stems[file]!r}; {nearest(stems[file], known)}"
            defects.add("unusable_row", tree.shown(file), reason)
    rows: list[tuple[str, str, str, str]] = []
    places: list[str] = []
    annotated: set[str] = set()
    damaged: set[str] = set()
    names_of_tiers: dict[str, None] = {}
    for clip, file in used.items():
        place = tree.shown(file)
        try:
            tiers = read_tiers(tree.path(file), place)
        except CorpusError as error:
            reason = str(error).removeprefix(place).lstrip(":, ")
            defects.add("unusable_row", place, f"{reason}; this annotation is not used", clip)
            continue
        names_of_tiers |= dict.fromkeys(tiers)
        chosen = _tier(tiers, tier)
        if chosen is None or chosen.is_points:
            what = f"tier {tier!r} has points in time, not intervals" if chosen else f"has no tier {tier!r}"
            reason = f"{what}; tiers are {', '.join(tiers) or 'none'}; the clip has no labels in time"
            defects.add("missing_annotation", place, reason, clip)
            continue
        annotated.add(clip)
        for name, fault in chosen.faults.items():
            damaged.add(clip)
            defects.add("bad_span", f"{place}, tier {tier!r}, annotation {name}", f"{fault}; it is not used", clip)
        for number, (start, end, text) in enumerate(chosen.intervals, start=1):
            if text:  # without a text it is as if it were not there
                rows.append((clip, repr(start), repr(end), text))
                places.append(f"{place}, tier {tier!r}, interval {number}")
    if used and not annotated and names_of_tiers:
        place, shown = f"{labels.setting}.tier", shown_path(folder, root)
        if tier is None:
            raise CorpusError(f"{place}: {shown} has several tiers; set it to one of {', '.join(names_of_tiers)}")
        raise CorpusError(
            f"{place}: no file of {shown} has intervals in a tier {tier!r}; {nearest(tier, names_of_tiers)}"
        )
    frame = pd.DataFrame(rows, columns=["clip", "start", "end", "label"], dtype="string")
    return RawCells(shown_path(folder, root), frame, places), annotated, damaged


def _tier(tiers: Mapping[str, Tier], name: str | None) -> Tier | None:
    """Choose a tier by its name; the only one where no name is given."""
    if name is None:
        return next(iter(tiers.values())) if len(tiers) == 1 else None
    return tiers.get(name)


def _without_suffix(clip: str) -> str:
    """Leave out the suffix of a clip that is named as its media file."""
    stem, dot, suffix = clip.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in MEDIA_SUFFIXES else clip
