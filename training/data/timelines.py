"""What labels in time must hold for a model in time to learn of them, told before anything is extracted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from corpora.clips import ClipTable
from corpora.timeline import Timeline

__all__ = ["timeline_errors", "without_frames"]


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
