"""Labels in time: values worked out by hand, on grids of several rates and beginnings."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from corpora.clips import ClipTable, CorpusError, concatenate
from corpora.timeline import UNKNOWN, Segment, Timeline
from mmpsr.tasks import AMBIVALENCE, BUILTIN_TASKS, EMOTION
from tests.support.clip_tables import table_of


def spans(*segments: tuple[float, float, int], outside: int = 0) -> Timeline:
    return Timeline(None, tuple(Segment(*segment) for segment in segments), outside)


def framed(*labels: int, outside: int = UNKNOWN) -> Timeline:
    return Timeline(np.array(labels, np.int8), outside=outside)


def test_a_segment_holds_its_start_and_not_its_end() -> None:
    # frames at 0, 1/4, 2/4 ...: [0.5, 1.25) holds those of 0.5, 0.75 and 1.0
    labels = spans((0.5, 1.25, 1)).labels(7, Fraction(4))
    assert labels.tolist() == [0, 0, 1, 1, 1, 0, 0]
    assert labels.dtype == np.int8


def test_times_between_frames_begin_with_the_next() -> None:
    # 0.3 s lies between the frames at 0.25 and 0.5; 0.8 between those at 0.75 and 1.0, which is outside
    assert spans((0.3, 0.8, 1)).labels(5, Fraction(4)).tolist() == [0, 0, 1, 1, 0]
    assert spans((0.3, 0.45, 1)).labels(5, Fraction(4)).tolist() == [0] * 5, "no frame stands in it"


def test_a_time_that_is_a_frame_is_that_frame_whatever_floating_point_makes_of_it() -> None:
    # 0.1 + 0.2 is 0.30000000000000004, more than frame 3 of 10 per second; 7/24 s is frame 7 of 24
    assert spans((0.1 + 0.2, 0.7, 1)).labels(9, Fraction(10)).tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0]
    for first in range(1, 200):
        labels = spans((first / 24, (first + 2) / 24, 1)).labels(210, Fraction(24))
        assert np.flatnonzero(labels).tolist() == [first, first + 1]
    for first in range(1, 200):  # NTSC: 30000/1001 frames per second
        labels = spans((first * 1001 / 30000, (first + 1) * 1001 / 30000, 1)).labels(210, Fraction(30000, 1001))
        assert np.flatnonzero(labels).tolist() == [first]


def test_a_grid_begins_anywhere_in_the_media() -> None:
    # from 10 s on, 2 per second: 10, 10.5, 11, 11.5, 12; [10.5, 11.6) holds three of them
    assert spans((10.5, 11.6, 1)).labels(5, Fraction(2), 10.0).tolist() == [0, 1, 1, 1, 0]
    assert spans((9.0, 10.4, 1)).labels(3, Fraction(2), 10.0).tolist() == [1, 0, 0]
    assert spans((20.0, 30.0, 1)).labels(3, Fraction(2), 10.0).tolist() == [0, 0, 0]
    assert framed(0, 1, 2, 3).labels(4, Fraction(2), 1.0).tolist() == [2, 3, -1, -1]


def test_overlapping_segments_of_one_label_are_one() -> None:
    assert spans((0.0, 0.6, 1), (0.4, 1.0, 1)).labels(6, Fraction(5)).tolist() == [1, 1, 1, 1, 1, 0]


def test_where_segments_contradict_each_other_the_label_is_unknown_in_any_order() -> None:
    # frames at 0, 0.2 ... 1.0: 1 until 0.6, 2 from 0.4, both at 0.4 alone
    one, two = (0.0, 0.6, 1), (0.4, 1.0, 2)
    for segments in ((one, two), (two, one), (one, two, (0.35, 0.5, 1))):
        assert spans(*segments).labels(6, Fraction(5)).tolist() == [1, 1, -1, 2, 2, 0]


def test_outside_can_be_any_class_or_unknown() -> None:
    assert spans((0.5, 1.0, 0), outside=UNKNOWN).labels(4, Fraction(2)).tolist() == [-1, 0, -1, -1]
    assert spans((0.5, 1.0, UNKNOWN), outside=2).labels(4, Fraction(2)).tolist() == [2, -1, 2, 2]
    assert spans(outside=1).labels(3, Fraction(2)).tolist() == [1, 1, 1]


def test_frames_of_the_media_are_counted_by_its_own_rate() -> None:
    frames = framed(0, 1, 1, 0, -1, 1)
    assert frames.labels(6, Fraction(24)).tolist() == [0, 1, 1, 0, -1, 1]
    assert frames.labels(8, Fraction(24)).tolist() == [0, 1, 1, 0, -1, 1, -1, -1], "after the last is outside"
    # 12 of 24 per second are frames 0, 2, 4; 48 show every frame twice; 10 of 24: 0, 2.4, 4.8, 7.2
    assert frames.labels(3, Fraction(12), media_rate=Fraction(24)).tolist() == [0, 1, -1]
    assert frames.labels(6, Fraction(48), media_rate=Fraction(24)).tolist() == [0, 0, 1, 1, 1, 1]
    assert frames.labels(4, Fraction(10), media_rate=Fraction(24)).tolist() == [0, 1, -1, -1]
    assert framed(0, 1, outside=0).labels(4, Fraction(24)).tolist() == [0, 1, 0, 0]
    assert framed(1, 1).labels(3, Fraction(24), -1 / 24).tolist() == [-1, 1, 1], "before the media is outside"


def test_an_empty_grid_and_empty_frames() -> None:
    assert spans((0.0, 1.0, 1)).labels(0, Fraction(24)).tolist() == []
    assert framed(outside=0).labels(2, Fraction(24)).tolist() == [0, 0]


def test_what_cannot_be_is_refused() -> None:
    for start, end in ((1.0, 1.0), (2.0, 1.0), (-0.5, 1.0), (0.0, float("inf")), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match=f"a segment runs from {start} s to {end} s"):
            Segment(start, end, 1)
    with pytest.raises(ValueError, match="-2 is no label"):
        Segment(0.0, 1.0, -2)
    with pytest.raises(ValueError, match="200 is no label"):
        spans(outside=200)
    with pytest.raises(ValueError, match=r"labels of frames are int8 \[N\], found int64 \[2\]"):
        Timeline(np.array([0, 1]))
    with pytest.raises(ValueError, match="frames or segments, not both"):
        Timeline(np.zeros(2, np.int8), (Segment(0.0, 1.0, 1),))
    with pytest.raises(ValueError, match="no grid has 3 frames at 0 per second"):
        spans().labels(3, Fraction(0))


def test_timelines_are_equal_by_content() -> None:
    assert framed(0, 1) == framed(0, 1)
    assert framed(0, 1) != framed(0, 1, outside=0)
    assert framed(0, 1) != framed(1, 1)
    assert framed() != spans()
    assert spans((0.0, 1.0, 1)) == spans((0.0, 1.0, 1))


# --- in the clip table


def two_clips(corpus: str) -> ClipTable:
    rows = [{"corpus": corpus, "split": "train", "clip_id": clip, "group": clip} for clip in "ab"]
    table = table_of(rows)
    return ClipTable(table.clips, table.defects, {(corpus, clip): {"ambivalence": framed(0, 1)} for clip in "ab"})


def test_the_clips_that_stay_keep_their_timelines() -> None:
    both = concatenate([two_clips("one"), two_clips("two")])
    assert set(both.timelines) == {("one", "a"), ("one", "b"), ("two", "a"), ("two", "b")}
    assert both.timelines[("two", "b")] == {"ambivalence": framed(0, 1)}
    valid = both.validate(BUILTIN_TASKS)
    assert valid.timelines == both.timelines
    left = valid.with_clips(valid.clips.iloc[[3, 0]])
    assert set(left.timelines) == {("two", "b"), ("one", "a")}
    assert left.clips["clip_id"].tolist() == ["b", "a"]
    assert left.defects is valid.defects
    assert table_of([{"corpus": "x", "split": "dev", "clip_id": "a", "group": "a"}]).timelines == {}


@pytest.mark.parametrize(
    ("task", "timeline", "message"),
    [
        ("personality", framed(0), "clip 'a' of corpus 'one': labels in time are of single-label tasks"),
        ("ambivalence", framed(0, 2), "a label in time is 2, but task 'ambivalence' has 2 classes, counted from 0"),
        ("ambivalence", spans((0.0, 1.0, 7)), "a label in time is 7"),
        ("ambivalence", spans(outside=3), "a label in time is 3"),
    ],
)
def test_a_timeline_that_does_not_fit_its_task_is_named(task: str, timeline: Timeline, message: str) -> None:
    table = two_clips("one")
    with pytest.raises(CorpusError, match=message):
        ClipTable(table.clips, table.defects, {("one", "a"): {task: timeline}}).validate(BUILTIN_TASKS)


def test_a_timeline_of_no_clip_is_named() -> None:
    table = two_clips("one")
    wrong = ClipTable(table.clips, table.defects, {("one", "z"): {"ambivalence": framed(0)}})
    with pytest.raises(CorpusError, match="clip 'z' of corpus 'one' has labels in time, but is no clip of the table"):
        wrong.validate({"ambivalence": AMBIVALENCE})


def test_labels_of_tasks_that_are_not_active_are_not_looked_at() -> None:
    table = two_clips("one")
    other = ClipTable(table.clips, table.defects, {("one", "a"): {"ambivalence": framed(0, 9)}})
    assert isinstance(other.validate({"emotion": EMOTION}).clips, pd.DataFrame)
