"""Labels in time: on the frames of features, and what they must hold, told before anything is extracted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.clips import ClipTable
from corpora.timeline import Timeline
from encoders.media.decoding import opened, stream_of
from encoders.timed import TimedSequences

__all__ = ["grid_labels", "media_rate_of", "timeline_errors", "without_frames"]


def timeline_errors(table: ClipTable, trained: Collection[str], task: str, classes: Sequence[str]) -> Iterator[str]:
    """Say which classes no frame of train or dev can have: a sentence for each, none where all can be there.

    Args:
        table: clips and their labels in time.
        trained: corpora that are trained on.
        task: whose labels.
        classes: of the task.
    """
    clips = table.clips[table.clips["corpus"].isin(trained)]
    for split in ("train", "dev"):
        own = clips[clips["split"].eq(split)]
        timelines = (
            table.timelines.get(clip, {}).get(task) for clip in zip(own["corpus"], own["clip_id"], strict=True)
        )
        found = {label for timeline in timelines if timeline is not None for label in _labels(timeline)}
        for label, name in enumerate(classes):
            if label not in found:
                yield without_frames(split, trained, name, task)


def without_frames(split: str, trained: Collection[str], name: str, task: str) -> str:
    """Say that no frame of a split is labelled with a class, and what gives frames their labels."""
    return (
        f"no {split} clip of {', '.join(trained)} has a frame that is labelled {name!r} for task {task!r}; a model in "
        "time needs labels of frames or segments (of BAH with `timelines = true` at level 'video', of a table corpus "
        "with `timeline`) of both classes in train and dev"
    )


def _labels(timeline: Timeline) -> set[int]:
    """Collect the labels that some frame may have."""
    frames = [] if timeline.frames is None else timeline.frames.tolist()
    return {timeline.outside, *frames, *(segment.label for segment in timeline.segments)}


def grid_labels(
    timeline: Timeline, sequences: TimedSequences, row: int, clip: pd.Series, is_resampled: bool
) -> NDArray[np.int8]:
    """Read the label of each frame of a clip's features, `[T]`, -1 where unknown.

    Args:
        timeline: of the clip.
        sequences: features of a modality that the clip has.
        row: position of the clip among them.
        clip: its row of the clip table.
        is_resampled: whether the features have another rate than their files, whose frames labels of frames count.

    Raises:
        EncodingError: a resampled file with labels of frames cannot be opened.
    """
    rate = sequences.rates[row]
    assert rate is not None  # of a modality that is there
    counts_frames = is_resampled and timeline.frames is not None
    media_rate = media_rate_of(Path(clip["media"])) if counts_frames else None
    return timeline.labels(int(sequences.lengths[row]), rate, float(sequences.starts[row]), media_rate=media_rate)


def media_rate_of(path: Path) -> Fraction | None:
    """Read how many frames per second a video has; None where it does not say."""
    with opened(path) as container:
        rate = stream_of(container, path, "video").average_rate
    return Fraction(rate) if rate else None
