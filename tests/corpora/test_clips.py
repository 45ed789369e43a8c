from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from corpora.clips import (
    CLIP_COLUMNS,
    DEFECT_COLUMNS,
    CorpusError,
    concatenate,
    label_column,
    label_columns,
)
from mmpsr.tasks import AMBIVALENCE, BUILTIN_TASKS, PERSONALITY
from tests.support.clip_tables import table_of


def row(**changes: Any) -> dict[str, Any]:
    return {"corpus": "toy", "split": "train", "clip_id": "a", "group": "g", **changes}


def test_label_columns() -> None:
    assert label_column("emotion", "Anger") == "emotion.Anger"
    assert label_columns("ambivalence", AMBIVALENCE) == ["ambivalence.absent", "ambivalence.present"]


def test_absent_columns_become_missing_in_canonical_order_and_dtype() -> None:
    clips = table_of([row(text="hi", **{"raw.x": "1"})]).clips
    assert list(clips.columns) == [*CLIP_COLUMNS, "raw.x"]
    assert clips["text"].dtype == "string"
    assert clips["consent_challenges"].dtype == "boolean"
    assert clips["start"].dtype == clips["end"].dtype == np.float64
    assert clips[["media", "start", "consent_publications"]].isna().all(axis=None)


def test_defects_have_their_columns_also_when_there_are_none() -> None:
    assert list(table_of([row()]).defects.columns) == list(DEFECT_COLUMNS)
    table = table_of([row()], [("toy", None, "unusable_row", "x.csv, row 2", "no id")])
    assert table.defects["reason"].tolist() == ["no id"]
    assert table.defects["clip_id"].isna().all()


def test_validate_adds_unknown_labels_and_changes_nothing_else() -> None:
    table = table_of([row(**{"ambivalence.absent": 0, "ambivalence.present": 1}), row(clip_id="b")])
    clips = table.validate(BUILTIN_TASKS).clips
    assert clips["ambivalence.present"].tolist()[0] == 1.0
    assert clips.loc[1, label_columns("ambivalence", AMBIVALENCE)].isna().all()
    assert clips[label_columns("personality", PERSONALITY)].isna().all(axis=None)
    assert "personality.openness" not in table.clips
    # valid extremes
    table_of([row(start=0.0, end=0.0, group_kind="dialogue")]).validate({})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(clip_id=None)], "has no clip_id"),
        ([row(group=None)], "clip 'a' of corpus 'toy' has no group"),
        ([row(), row()], "clip 'a' of corpus 'toy' occurs twice"),
        ([row(split="valid")], "split 'valid'; splits are train, dev, test"),
        ([row(group_kind="family")], "group kind 'family'; kinds are participant"),
        ([row(start=2.0, end=1.0)], "runs from 2.0 s to 1.0 s"),
        ([row(start=-1.0)], "runs from -1.0 s"),
        ([row(end=-1.0)], "to -1.0 s"),
        ([row(**{"personality.openness": 1.5})], r"personality.openness is 1.5, outside \[0, 1\]"),
        ([row(**{"personality.openness": -0.1})], "personality.openness is -0.1"),
        ([row(**{"ambivalence.absent": 1, "ambivalence.present": 1})], "'ambivalence' takes one class, found"),
        ([row(**{"ambivalence.absent": 0, "ambivalence.present": 0})], "'ambivalence' takes one class, found"),
    ],
)
def test_validate_names_the_clip(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        table_of(rows).validate(BUILTIN_TASKS)


def test_the_same_id_may_occur_in_two_corpora() -> None:
    table_of([row(), row(corpus="other")]).validate({})


def test_concatenate_keeps_order_labels_and_defects() -> None:
    one = table_of([row(**{"emotion.Anger": 1.0})], [("toy", "x", "bad_span", "f", "r")])
    two = table_of([row(corpus="other", **{"raw.y": "7"})], [("other", "z", "bad_span", "f", "r")])
    both = concatenate([one, two])
    assert both.clips["corpus"].tolist() == ["toy", "other"]
    assert both.clips["emotion.Anger"].iloc[0] == 1.0
    assert np.isnan(both.clips["emotion.Anger"].iloc[1])
    assert pd.isna(both.clips["raw.y"].iloc[0])
    assert both.defects["corpus"].tolist() == ["toy", "other"]
    assert both.clips.index.tolist() == [0, 1]


def test_concatenate_nothing_says_what_to_declare() -> None:
    with pytest.raises(CorpusError, match=r"\[corpora\.sources\]"):
        concatenate([])
