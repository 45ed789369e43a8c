"""Which classes no frame can have, told from labels in time before there are frames."""

from __future__ import annotations

import numpy as np
import pandas as pd

from corpora.clips import ClipTable, conform
from corpora.timeline import UNKNOWN, Segment, Timeline
from training.data.timelines import timeline_errors

CLASSES = ("absent", "present")


def table(**timelines: Timeline) -> ClipTable:
    """A clip for each, whose split its name begins with."""
    rows = [{"corpus": "own", "clip_id": name, "split": name.split("_")[0]} for name in timelines]
    return ClipTable(
        conform(pd.DataFrame(rows)), timelines={("own", name): {"task": each} for name, each in timelines.items()}
    )


def missing(clips: ClipTable) -> list[str]:
    """First words of what is said."""
    return [reason.partition(" for task")[0] for reason in timeline_errors(clips, ["own"], "task", CLASSES)]


def test_frames_segments_and_what_lies_outside_count() -> None:
    frames = Timeline(np.array([0, 1], np.int8), outside=UNKNOWN)
    assert missing(table(train_a=frames, dev_a=Timeline(None, (Segment(0.0, 1.0, 1),), outside=0))) == []
    annotated = Timeline(None, (Segment(0.0, 1.0, 1),), outside=UNKNOWN)
    assert missing(table(train_a=frames, dev_a=annotated, test_a=frames)) == [
        "no dev clip of own has a frame that is labelled 'absent'"
    ]
    assert missing(table(train_a=Timeline(None), dev_a=frames, dev_b=annotated)) == [
        "no train clip of own has a frame that is labelled 'present'"
    ]


def test_other_tasks_and_corpora_do_not_count() -> None:
    frames = Timeline(np.array([0, 1], np.int8))
    clips = table(train_a=frames, dev_a=frames)
    assert len(list(timeline_errors(clips, ["own"], "other", CLASSES))) == 4
    assert len(list(timeline_errors(clips, ["else"], "task", CLASSES))) == 4
