"""Tables and vectors of a program as clips: splits, labels, presence, and what does not fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from corpora.clips import CorpusError
from corpora.splitting import split_by_group
from mmpsr.tasks import BUILTIN_TASKS
from training.estimator.inputs import clip_table, index_of, join_clips, modalities_of, vectors_of

NAN = float("nan")
HALVES = {"train": 0.5, "dev": 0.5}
AMBIVALENCE = {"ambivalence": BUILTIN_TASKS["ambivalence"]}


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"clip_id": ["a", "b", "c"], **columns})


def rows(found: pd.DataFrame, **labels: Any) -> pd.DataFrame:
    return clip_table("mine", found, AMBIVALENCE, labels, HALVES)  # type: ignore[arg-type]


def test_labels_in_one_column_by_class_and_as_in_the_clip_table() -> None:
    expected = [[0.0, 1.0], [NAN, NAN], [1.0, 0.0]]
    columns = ["ambivalence.absent", "ambivalence.present"]
    one = rows(table(said=["present", None, "absent"]), ambivalence="said")
    np.testing.assert_array_equal(one[columns], expected)
    two = rows(table(no=[0, NAN, 1], yes=[1, NAN, 0]), ambivalence={"absent": "no", "present": "yes"})
    np.testing.assert_array_equal(two[columns], expected)
    own = rows(table(**{"ambivalence.absent": [0, None, 1], "ambivalence.present": [1, None, 0]}))
    np.testing.assert_array_equal(own[columns], expected)
    assert rows(table())[columns].isna().all(axis=None)


def test_groups_share_a_split() -> None:
    found = rows(pd.DataFrame({"clip_id": [f"c{i}" for i in range(40)], "group": [f"g{i // 4}" for i in range(40)]}))
    assert found.groupby("group")["split"].nunique().eq(1).all()
    assert set(found["split"]) == {"train", "dev"}
    np.testing.assert_array_equal(found["split"], split_by_group("mine", found["group"], HALVES))  # type: ignore[arg-type]
    alone = rows(table(group=["x", None, "x"]))
    assert alone["group"].tolist() == ["x", "b", "x"]
    assert rows(table(split=["test", "dev", "train"]))["split"].tolist() == ["test", "dev", "train"]


@pytest.mark.parametrize(
    ("given", "labels", "message"),
    [
        (pd.DataFrame({"id": ["a"]}), {}, r"tables\['mine'\] has no column 'clip_id'"),
        (table(said=["present", "maybe", None]), {"ambivalence": "said"}, r"row 1, column 'said': 'maybe' is no"),
        (table(yes=[1, 2, "x"]), {"ambivalence": {"present": "yes"}}, "column 'yes': expected numbers"),
        (table(yes=[1, 0, 0]), {"ambivalence": {"presence": "yes"}}, "no class is named 'presence'; did you mean"),
        (table(**{"ambivalence.presnt": [1, 0, 0]}), {}, r"'ambivalence\.presnt' is no label of ambivalence; did you"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_used(given: pd.DataFrame, labels: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        rows(given, **labels)
    traits = {"personality": BUILTIN_TASKS["personality"]}
    with pytest.raises(CorpusError, match="is one column, 'x'; a regression takes a column by trait"):
        clip_table("mine", table(x=[1, 2, 3]), traits, {"personality": "x"}, HALVES)  # type: ignore[arg-type]


def test_corpora_are_joined_and_what_one_lacks_is_absent() -> None:
    first, second = rows(table(split="train")), rows(table(split="dev")).assign(corpus="other")
    words = np.array([[1.0, 2.0], [NAN, NAN], [3.0, 4.0]])
    features = {"mine": {"text": words}, "other": {"audio": np.array([[5.0], [6.0], [7.0]])}}
    joined = join_clips({"mine": first, "other": second}, features, AMBIVALENCE, ["audio", "text"])
    assert joined.widths == {"audio": 1, "text": 2}
    assert joined.presence.tolist() == [[False, True], [False, False], [False, True]] + [[True, False]] * 3
    assert joined.features["text"].tolist() == [[1, 2], [0, 0], [3, 4], [0, 0], [0, 0], [0, 0]]
    assert joined.features["audio"].flatten().tolist() == [0, 0, 0, 5, 6, 7]
    assert joined.clips["corpus"].tolist() == ["mine"] * 3 + ["other"] * 3
    assert joined.labels["ambivalence"].isnan().all()
    features["other"]["text"] = np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"features\['other'\]\['text'\]: shape \[3, 3\], expected \[3, 2\], a row"):
        join_clips({"mine": first, "other": second}, features, AMBIVALENCE, ["audio", "text"])
    with pytest.raises(ValueError, match="features have a corpus 'other', tables do not; known names are mine"):
        join_clips({"mine": first}, features, AMBIVALENCE, ["audio", "text"])
    twice = pd.concat([first, first], ignore_index=True)
    with pytest.raises(CorpusError, match="clip 'a' of corpus 'mine' occurs twice"):
        join_clips({"mine": twice}, {"mine": {"text": np.zeros((6, 2))}}, AMBIVALENCE, ["text"])


def test_frames_are_aligned_by_clip_ids() -> None:
    frame = pd.DataFrame([[3.0, 4.0], [1.0, 2.0]], index=["c", "a"])
    present, values = vectors_of(frame, "here", ["a", "b", "c"], None)
    assert present.tolist() == [True, False, True]
    assert values.tolist() == [[1, 2], [0, 0], [3, 4]]
    in_order = vectors_of(frame.reset_index(drop=True), "here", ["a", "b"], 2)[1]
    assert in_order.tolist() == [[3, 4], [1, 2]]
    with pytest.raises(ValueError, match="its index must hold ids of the table's clips, each once; found 'c'"):
        vectors_of(frame, "here", ["a", "b"], None)
    with pytest.raises(ValueError, match="each once; found 'a'"):
        vectors_of(frame.set_axis(["a", "a"]), "here", ["a", "b"], None)


def test_half_missing_rows_are_no_vectors() -> None:
    for bad in (NAN, float("inf")):
        with pytest.raises(
            ValueError, match=r"here: row 1 \(clip 'b'\) holds 1 numbers that are not finite; fill them"
        ):
            vectors_of(np.array([[1.0, 2.0], [1.0, bad]]), "here", ["a", "b"], None)
    with pytest.raises(ValueError, match=r"here: row 0 .* holds 2 numbers"):
        vectors_of(np.full((1, 2), float("inf")), "here", ["a"], None)


def test_modalities_come_in_their_order() -> None:
    assert modalities_of({"a": {"text": 0}, "b": {"video": 0, "audio": 0}}) == ("video", "audio", "text")
    views = {"a": {"text.two": 0, "audio": 0, "text.lexica": 0}, "b": {"text": 0}}
    assert modalities_of(views) == ("audio", "text", "text.two", "text.lexica")
    with pytest.raises(ValueError, match="no modality is named 'vido'; did you mean 'video'"):
        modalities_of({"a": {"vido": 0}})
    with pytest.raises(ValueError, match=r"'text\.' is no name of a view of text"):
        modalities_of({"a": {"text.": 0}})
    with pytest.raises(ValueError, match="features are empty"):
        modalities_of({"a": {}})


def test_the_index_is_that_of_the_frames() -> None:
    frame = pd.DataFrame(np.zeros((2, 1)), index=["x", "y"])
    assert index_of({"audio": np.zeros((2, 3)), "text": frame}).tolist() == ["x", "y"]
    assert index_of({"audio": np.zeros((2, 3))}).tolist() == [0, 1]
