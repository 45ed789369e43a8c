"""Lists of frames of BAH: one line for each picture of each video, nearly a million in all."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd

from corpora.bah.files import LISTS, BahFiles, read_text, video_key
from corpora.clips import Defects, Split

__all__ = ["read_frame_lists"]


def read_frame_lists(
    files: BahFiles, videos: pd.DataFrame, listed: Collection[str], splits: Collection[Split], defects: Defects
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Read the lines `.../<video>.mp4/frame-N.jpg,label` of the lists of some splits.

    Args:
        files: where the lists lie.
        videos: one row per video, with `key`, `split` and `clip_id`.
        listed: keys of the videos of all splits.
        splits: splits whose lists are read.
        defects: notes lines that name no frame, and videos that are in no list of videos, or in that of another split.

    Yields:
        File of each list, for messages, and columns `row` (of `videos`), `number`, `label` (both as they are written)
        and `line` of those of its lines that are of these videos.
    """
    rows = {key: row for row, key in reversed(list(enumerate(videos["key"])))}
    for stem, file in files.frame_lists.items():
        if LISTS.get(stem, "test") in splits:
            yield files.tree.shown(file), _read_frame_list(files, stem, file, rows, listed, videos, defects)


def _read_frame_list(
    files: BahFiles,
    stem: str,
    file: str,
    rows: dict[str, int],
    listed: Collection[str],
    videos: pd.DataFrame,
    defects: Defects,
) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.compute as pc

    shown = files.tree.shown(file)
    lines = pc.split_pattern(pa.array([read_text(files.tree, file)], pa.large_string()), "\n").values
    parts = pc.extract_regex(lines, r"^(?P<path>.*)/frame-(?P<number>[0-9]+)\.jpg,\s*(?P<label>[^,]*?)\s*$")
    unread = np.flatnonzero(pc.and_not(parts.is_null(), pc.match_substring_regex(lines, r"^\s*$")))
    if len(unread):
        first = f"{len(unread)} lines are no .../frame-N.jpg,label, the first: {lines[unread[0]].as_py()[:80]!r}"
        defects.add("unusable_row", f"{shown}, row {unread[0] + 1}", f"{first}; they are not used")
    path_of, numbers, labels = (pd.array(part, dtype="string") for part in parts.flatten())
    codes, paths = pd.factorize(path_of)
    keys = [video_key(path) for path in paths]
    for key, path in zip(keys, paths, strict=True):
        if key not in listed:
            reason = f"{path!r} is in no list of videos; its frames are not used"
            defects.add("unusable_row", shown, reason)
        elif key in rows and stem in LISTS and videos["split"].iloc[rows[key]] != LISTS[stem]:
            reason = (
                f"{path!r} is in the list of split {videos['split'].iloc[rows[key]]!r}, where its frames are counted"
            )
            defects.add("disagreement", shown, reason, videos["clip_id"].iloc[rows[key]])
    row = np.array([*(rows.get(key, -1) for key in keys), -1])[codes]
    frames = pd.DataFrame({"row": row, "number": numbers, "label": labels, "line": np.arange(1, len(lines) + 1)})
    return frames[row >= 0]
