"""Labels in time of BAH's videos: a label for each frame, from the first source that has the video.

    list of frames, else `frame_annotation`, else `fr_detailed_ah`: frame f is present iff start <= f <= end

F frames of all videos, N of one. Frames are told by their number: pictures sorted by name are in another order.

References:
    González-González et al., BAH Dataset for Ambivalence/Hesitancy Recognition in Videos for Digital Behavioural
    Change, ICLR 2026.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.bah.annotation import Facts, number, read_annotated_frames
from corpora.bah.files import BahFiles
from corpora.bah.frame_lists import read_frame_lists
from corpora.clips import Defects, Split
from corpora.timeline import UNKNOWN, Timeline

__all__ = ["FRAME_RATE", "video_timelines"]

FRAME_RATE = 24
"""Frames per second that are documented for the corpus; a file may have others."""
LONGEST = 10_000_000
"""Frames above which a number is taken for a mistake: 115 hours."""

_VALUES = {"0": 0, "1": 1}
_Frames = dict[int, NDArray[np.int8]]
"""Labels of frames `[N]` by row of the video, -1 unknown."""


def video_timelines(
    videos: pd.DataFrame,
    files: BahFiles,
    annotations: Mapping[str, Facts],
    listed: Collection[str],
    splits: Collection[Split],
    defects: Defects,
) -> pd.Series:
    """Read the labels in time of whole videos; the video's own label stays as it is.

    Args:
        videos: one row per video, with `key`, `split`, `clip_id`, `label` (1 present, 0 absent, NaN unknown),
            `withheld` and `where`.
        files: where lists and annotation lie.
        annotations: by key.
        listed: keys of the videos of all splits.
        splits: splits whose lists are read.
        defects: notes sources that differ, frames without a label or with two, spans that cannot be, and videos whose
            label says other than their frames.

    Returns:
        `{"ambivalence": Timeline}` by row; missing where the label is withheld, or nothing labels the frames.
    """
    used = videos[~videos["withheld"]]
    from_lists = _listed_frames(files, videos, listed, splits, defects)
    from_annotation = _annotated_frames(files, used, defects)
    timelines: list[dict[str, Timeline] | None] = [None] * len(videos)
    for row, video in zip(used.index, used.to_dict("records"), strict=True):
        facts = annotations.get(video["key"])
        spans, all_read = (None, True) if facts is None else _frame_spans(facts, video, defects)
        sources = {
            name: by_row[row]
            for name, by_row in {"the list of frames": from_lists, "frame_annotation": from_annotation}.items()
            if row in by_row
        }
        _compare(sources, spans, video, defects)
        if from_lists and row not in from_lists:
            reason = "the lists of frames do not have it; its labels in time are those of its annotation"
            defects.add("missing_annotation", video["where"], reason, video["clip_id"])
        if sources:
            frames, outside = next(iter(sources.values())), UNKNOWN
        elif spans or (facts is not None and video["label"] == 0.0):
            outside = 0 if all_read else UNKNOWN  # nobody knows where a span lies that cannot be
            frames = _inside(spans or [], outside=outside)
        else:
            reason = "no list of frames, frame_annotation or fr_detailed_ah says when; it has no labels in time"
            defects.add("missing_annotation", video["where"], reason, video["clip_id"])
            continue
        _check_label(frames, video, defects)
        timelines[row] = {"ambivalence": Timeline(frames, outside=outside)}
    return pd.Series(timelines, index=videos.index, dtype=object)


def _listed_frames(
    files: BahFiles, videos: pd.DataFrame, listed: Collection[str], splits: Collection[Split], defects: Defects
) -> _Frames:
    labels: _Frames = {}
    withheld = videos["withheld"].to_numpy(bool)
    for file, lines in read_frame_lists(files, videos, listed, splits, defects):
        numbers, said = lines["number"].tolist(), lines["label"].tolist()
        for row, part in _by_row(lines["row"].to_numpy(np.int64)):
            if row not in labels and not withheld[row]:
                place = f"{file}, row {lines['line'].iloc[part[0]]}"
                frames = [numbers[line] for line in part], [said[line] for line in part]
                labels[row] = _in_order(*frames, place, videos["clip_id"].iloc[row], defects)
    return labels


def _by_row(rows: NDArray[np.int64]) -> Iterator[tuple[int, list[int]]]:
    """Group the lines of each video, in their order."""
    order = np.argsort(rows, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(rows[order])) + 1):
        if len(part):
            yield int(rows[part[0]]), part.tolist()


def _annotated_frames(files: BahFiles, used: pd.DataFrame, defects: Defects) -> _Frames:
    rows = {key: row for row, key in reversed(list(zip(used.index, used["key"], strict=True)))}
    labels: _Frames = {}
    for place, key, pairs in read_annotated_frames(files, rows, defects):
        if pairs:
            numbers, said = zip(*pairs, strict=True)
            labels[rows[key]] = _in_order(numbers, said, place, used["clip_id"][rows[key]], defects)
    return labels


def _in_order(numbers: Sequence[str], said: Sequence[str], place: str, clip: str, defects: Defects) -> NDArray[np.int8]:
    """Put the labels of one video in the order of its frames, `[N]`; what is no number or label is noted."""
    number_of = np.array([int(text) if len(text) <= len(str(LONGEST)) else LONGEST for text in numbers], np.int64)
    values = np.array([_VALUES.get(text, UNKNOWN) for text in said], np.int8)
    is_far = number_of >= LONGEST
    if is_far.any():
        far = numbers[int(np.argmax(is_far))]
        defects.add("unusable_row", place, f"no video has a frame {far[:40]}; it is not used", clip)
        said = [text for text, far_off in zip(said, is_far, strict=True) if not far_off]
        number_of, values = number_of[~is_far], values[~is_far]
    if (values == UNKNOWN).any():
        first = int(np.argmax(values == UNKNOWN))
        reason = (
            f"the labels of {int((values == UNKNOWN).sum())} frames are neither 0 (absent) nor 1 (present), the first: "
            f"{said[first]!r} of frame-{number_of[first]}"
        )
        defects.add("bad_label", place, reason, clip)
    labels = np.full(int(number_of.max(initial=-1)) + 1, UNKNOWN, dtype=np.int8)
    labels[number_of[::-1]] = values[::-1]  # of two lines for a frame the first counts
    contradicted = values != labels[number_of]
    if contradicted.any():
        first = int(number_of[np.argmax(contradicted)])
        reason = f"{int(contradicted.sum())} frames are labelled twice and otherwise, the first is frame-{first}"
        defects.add("disagreement", place, f"{reason}; what stands first is used", clip)
    missing = len(labels) - len(np.unique(number_of))
    if missing:
        there = np.zeros(len(labels), dtype=bool)
        there[number_of] = True
        reason = f"{missing} of frames 0 to {len(labels) - 1} are missing, the first is frame-{int(np.argmin(there))}"
        defects.add("missing_label", place, f"{reason}; their labels are unknown", clip)
    return labels


def _frame_spans(
    facts: Facts, video: Mapping[Hashable, Any], defects: Defects
) -> tuple[list[tuple[int, int]] | None, bool]:
    """Read first and last frame of each segment (None where the annotation names none), and whether all can be read."""
    if "fr_detailed_ah" not in facts.said:
        return None, True
    said, spans = facts.said["fr_detailed_ah"], []
    if said is not None and not isinstance(said, list):
        place = f"{facts.file}, {video['key']!r}, fr_detailed_ah"
        defects.add("bad_span", place, f"expected a list of segments, found {str(said)[:60]!r}", video["clip_id"])
        return [], False
    for position, span in enumerate(said or []):
        ends = [number(frame) for frame in span] if isinstance(span, (list, tuple)) else []
        if len(ends) == 2 and ends[0] is not None and ends[1] is not None and _are_frames(ends[0], ends[1]):
            spans.append((int(ends[0]), int(ends[1])))
        else:
            place = f"{facts.file}, {video['key']!r}, fr_detailed_ah {position}"
            reason = f"{str(span)[:60]} is no [first frame, last frame] with the first one first; it is not used"
            defects.add("bad_span", place, reason, video["clip_id"])
    return spans, len(spans) == len(said or [])


def _are_frames(first: float, last: float) -> bool:
    return first.is_integer() and last.is_integer() and 0 <= first <= last < LONGEST


def _inside(spans: Sequence[tuple[int, int]], length: int | None = None, outside: int = 0) -> NDArray[np.int8]:
    """Mark the frames of spans, the last one of each included, `[N]`."""
    length = max((last + 1 for _, last in spans), default=0) if length is None else length
    labels = np.full(length, outside, dtype=np.int8)
    for first, last in spans:
        labels[first : last + 1] = 1
    return labels


def _compare(
    sources: Mapping[str, NDArray[np.int8]],
    spans: Sequence[tuple[int, int]] | None,
    video: Mapping[Hashable, Any],
    defects: Defects,
) -> None:
    """Note where sources differ from the one that is used, the first."""
    if not sources:
        return
    (name, used), *others = sources.items()
    if spans is not None:
        others.append(("fr_detailed_ah", _inside(spans, len(used))))
        beyond = [span for span in spans if span[1] >= len(used)]
        if beyond:
            reason = f"fr_detailed_ah ends with frame {beyond[0][1]}, but {name} with frame {len(used) - 1}"
            defects.add("disagreement", str(video["where"]), reason, video["clip_id"])
    for other, labels in others:
        if len(labels) != len(used):
            reason = f"{other} has {len(labels)} frames, {name} {len(used)}, which is used"
            defects.add("disagreement", str(video["where"]), reason, video["clip_id"])
        shared = min(len(labels), len(used))
        differs = (labels[:shared] != used[:shared]) & (labels[:shared] >= 0) & (used[:shared] >= 0)
        if differs.any():
            reason = (
                f"{other} labels {int(differs.sum())} of {shared} frames otherwise than {name}, which is used; the "
                f"first is frame-{int(np.argmax(differs))}"
            )
            defects.add("disagreement", str(video["where"]), reason, video["clip_id"])


def _check_label(frames: NDArray[np.int8], video: Mapping[Hashable, Any], defects: Defects) -> None:
    present = int((frames == 1).sum())
    if video["label"] == 1.0 and not present:
        reason = "is labelled present, but none of its frames is; the video's label stays"
    elif video["label"] == 0.0 and present:
        reason = f"is labelled absent, but {present} of its frames are present; the video's label stays"
    else:
        return
    defects.add("disagreement", str(video["where"]), reason, video["clip_id"])
