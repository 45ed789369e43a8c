"""What a model is asked about: clips, or chunks of their frames, each with the labels that its answer stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import pandas as pd

from corpora.clips import ClipTable, CorpusError, label_columns
from encoders.errors import EncodingError, MissingModality
from encoders.media.clip import ClipMedia
from encoders.writers.ask import FrameGrid, chunk_clips, frame_grid
from mmpsr.metrics.definitions import labeled_rows
from mmpsr.tasks import TaskSpec

__all__ = ["FIRST_FRAME", "NO_FRAME", "REASON", "calls_of_chunks", "calls_of_clips"]

FIRST_FRAME, NO_FRAME = "first_frame", "end_frame"
"""Columns of the frames that a call is about: the first, and the one after the last; only of chunks."""
REASON = "reason"
"""Column that says why a clip cannot be asked about; blank where it can."""


def calls_of_clips(table: ClipTable, task: str, spec: TaskSpec) -> pd.DataFrame:
    """Make one call of each clip with a label of the task; its label columns count 1 for the class that it has.

    Raises:
        CorpusError: no clip has a label.
    """
    columns = label_columns(task, spec)
    labeled = labeled_rows(table.clips[columns].to_numpy(dtype=np.float64), spec)
    if not labeled.any():
        raise CorpusError(f"no clip of these splits has a label of {task!r}, so that no answer could be judged")
    return table.clips[labeled].reset_index(drop=True).assign(**{REASON: ""})


def calls_of_chunks(table: ClipTable, task: str, spec: TaskSpec, window: int) -> pd.DataFrame:
    """Make a call of each chunk of `window` frames; its label columns count the frames of each class.

    Clips are those with labels in time (`ClipTable.timelines`). Frames of unknown label count nowhere, and chunks of
    nothing else are not asked about. A clip whose frames cannot be counted is one call that cannot be asked.

    Args:
        table: clips.
        task: name of a single-label task.
        spec: the task.
        window: frames of a chunk; the last chunk of a clip is shorter.

    Raises:
        CorpusError: no clip has labels in time.
    """
    timelines = table.timelines
    rows: list[Mapping[str, Any]] = []
    for clip in cast(list[dict[str, Any]], table.clips.to_dict("records")):
        timeline = timelines.get((clip["corpus"], clip["clip_id"]), {}).get(task)
        if timeline is not None:
            rows += _chunks(clip, timeline, label_columns(task, spec), window)
    if not rows:
        raise CorpusError(
            f"no clip of these splits has labels of {task!r} in time, which answers by zero_shot.window are compared "
            "with; name them in the corpus' entry, or leave the window out to have one answer a clip"
        )
    frame = pd.DataFrame(rows)
    return frame.astype({name: table.clips[name].dtype for name in ("corpus", "split", "clip_id", "group", "text")})


def _chunks(clip: Mapping[str, Any], timeline: Any, columns: list[str], window: int) -> Iterator[Mapping[str, Any]]:
    try:
        grid: FrameGrid = frame_grid(ClipMedia.from_row(clip))
    except (EncodingError, MissingModality) as reason:
        yield {**clip, **dict.fromkeys(columns, 0), FIRST_FRAME: 0, NO_FRAME: 0, REASON: str(reason)}
        return
    labels = np.asarray(timeline.labels(grid.num_frames, grid.rate, grid.start))
    spans = grid.chunks(window)
    for (begin, end), chunk in zip(spans, chunk_clips(clip, grid, window), strict=True):
        known = labels[begin:end]
        counts = np.bincount(known[known >= 0], minlength=len(columns))
        if not counts.any():
            continue
        named = dict(zip(columns, counts.tolist(), strict=True))
        yield {**chunk, **named, FIRST_FRAME: begin, NO_FRAME: end, REASON: ""}
