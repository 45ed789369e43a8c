"""Counts of clips and labels."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from mmpsr.tasks import BUILTIN_TASKS, TaskSpec
from tests.support import joined as small
from training.scoring.counts import NUM_BINS, summarize
from training.scoring.scores import prediction_table

NAN = math.nan
TRAIT = TaskSpec(kind="regression", classes=("calm",), loss="mae", metrics=())
MOOD = TaskSpec(kind="multi_label", classes=("good", "bad"), loss="binary_cross_entropy", metrics=())


def table() -> pd.DataFrame:
    rows = [
        ("one", "train", "a", "g1", True, 0.0, 1.0, 0.5),
        ("one", "train", "b", "g1", False, 0.5, 0.2, 1.0),
        ("one", "train", "c", None, True, NAN, NAN, NAN),
        ("one", "dev", "d", None, True, 1.0, 0.0, NAN),
        ("two", "test", "e", "g1", True, NAN, NAN, 0.04),
    ]
    columns = ["corpus", "split", "clip_id", "group", "present.text", "mood.good", "mood.bad", "trait.calm"]
    return pd.DataFrame(rows, columns=columns)


def test_by_hand() -> None:
    found = summarize(table(), {"mood": MOOD, "trait": TRAIT})
    assert found["clips"] == [
        # the clip without a group is one of its own
        {"corpus": "one", "split": "train", "num_clips": 3, "num_groups": 2, "present": {"text": 2}},
        {"corpus": "one", "split": "dev", "num_clips": 1, "num_groups": 1, "present": {"text": 1}},
        {"corpus": "two", "split": "test", "num_clips": 1, "num_groups": 1, "present": {"text": 1}},
    ]
    moods = [row for row in found["labels"] if row["task"] == "mood"]
    assert moods == [
        {"corpus": "one", "split": "train", "task": "mood", "num_clips": 2, "classes": {"good": 1, "bad": 2}},
        {"corpus": "one", "split": "dev", "task": "mood", "num_clips": 1, "classes": {"good": 1, "bad": 0}},
    ]
    one, two = (row["histograms"]["calm"] for row in found["labels"] if row["task"] == "trait")
    # 0.5 is in the eleventh of 20 bins, [0.5, 0.55); 1.0 in the last, which is closed
    assert {place: n for place, n in enumerate(one) if n} == {10: 1, NUM_BINS - 1: 1}
    assert {place: n for place, n in enumerate(two) if n} == {0: 1}


def test_of_joined_corpora_every_clip_is_counted() -> None:
    clips = small.joined()
    found = summarize(prediction_table(clips, BUILTIN_TASKS), BUILTIN_TASKS)
    sizes = {name: sum(row["num_clips"] for row in found["clips"] if row["corpus"] == name) for name in small.SIZES}
    assert sizes == small.SIZES
    present = sum(row["present"]["audio"] for row in found["clips"])
    assert present == int(clips.presence[:, 1].sum())
    for row in found["labels"]:
        assert small.TASK_OF[row["corpus"]] == row["task"]
        for counts in row.get("histograms", {}).values():
            assert sum(counts) == row["num_clips"]
    assert sum(row["classes"]["present"] for row in found["labels"] if row["task"] == "ambivalence") == pytest.approx(
        float((clips.labels["ambivalence"][:, 1] > 0).sum())
    )
    json.dumps(found, allow_nan=False)
