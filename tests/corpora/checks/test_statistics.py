"""Figures of labels in time, counted by hand, and how the doctor says them."""

from __future__ import annotations

import numpy as np
import pytest

from corpora.bah.corpus import BahCorpus
from corpora.checks.statistics import CorpusFigures, TimeFigures, corpus_figures
from corpora.timeline import Segment, Timeline
from mmpsr.tasks import AMBIVALENCE
from tests.support.clip_tables import table_of
from training.doctor.report import _in_time


@pytest.fixture
def figures() -> CorpusFigures:
    rows = [("train", "a"), ("train", "b"), ("train", "c"), ("dev", "d"), ("dev", "e")]
    clips = table_of([
        {"corpus": "one", "split": split, "clip_id": clip, "group": clip, "ambivalence.absent": 1.0,
         "ambivalence.present": 0.0} for split, clip in rows
    ]).clips  # fmt: skip
    spans = Timeline(None, (Segment(0.0, 1.5, 1), Segment(2.0, 2.25, 1), Segment(3.0, 4.0, 0), Segment(5.0, 6.0, -1)))
    timelines = {
        ("one", "a"): {"ambivalence": Timeline(np.array([0, 1, 1, -1], np.int8))},
        ("one", "b"): {"ambivalence": Timeline(np.array([0, 0], np.int8))},
        ("one", "d"): {"ambivalence": spans},
        ("two", "c"): {"ambivalence": spans},
    }
    tasks = {"ambivalence": AMBIVALENCE}
    return corpus_figures(BahCorpus(adapter="bah"), clips, tasks, tasks, {}, timelines)


def test_frames_and_segments_are_counted_by_class_and_split(figures: CorpusFigures) -> None:
    assert figures.in_time == {
        "ambivalence": {
            "train": TimeFigures(2, {"absent": 3, "present": 2}, {}, {}),
            "dev": TimeFigures(1, {}, {"absent": 1, "present": 2}, {"absent": 1.0, "present": 1.75}),
        }
    }


def test_what_the_doctor_says_of_them(figures: CorpusFigures) -> None:
    said = {split: _in_time(row) for split, row in figures.in_time["ambivalence"].items()}
    assert said == {
        "train": "2 clips, 5 frames (absent 60.00 %, present 40.00 %)",
        "dev": "1 clips, segments: absent 1 of 1 s, present 2 of 1.75 s",
    }


def test_there_are_none_where_there_are_none() -> None:
    clips = table_of([{"corpus": "one", "split": "train", "clip_id": "a", "group": "a"}]).clips
    assert corpus_figures(BahCorpus(adapter="bah"), clips, {}, {}, {}).in_time == {}
