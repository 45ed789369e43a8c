"""Labels in the shapes that tables have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from corpora.clips import CorpusError, Defects
from corpora.labels import LabelColumns, read_labels
from corpora.reading.cells import Cells
from mmpsr.tasks import AMBIVALENCE, EMOTION, TaskSpec

NAN = float("nan")
AFFECT = TaskSpec(kind="single_label", classes=("low", "mid", "high"), loss="cross_entropy", metrics=("uar",))


def read(
    spec: TaskSpec, source: Any, missing: tuple[str, ...] = (), /, **columns: list[str]
) -> tuple[np.ndarray, list[list[str]]]:
    """Values, and place and reason of each defect; rows count from 2 as in a file with a header."""
    frame = pd.DataFrame(columns, dtype="string")
    cells = Cells("t.csv", frame, list(range(2, len(frame) + 2)))
    defects = Defects("toy")
    found = read_labels(cells, "labels", "task", spec, LabelColumns.model_validate(source), missing, defects)
    assert defects.frame()["kind"].eq("bad_label").all()
    names = [f"task.{name}" for name in spec.classes]
    assert found.columns.tolist() == [*names, *(f"raw.{column}" for column in columns)]
    return found[names].to_numpy(), defects.frame()[["where", "reason"]].to_numpy().tolist()


def test_several_classes_in_a_cell() -> None:
    source = {"column": "s", "separator": "|", "values": {"joy": "Happiness", "sad": "Sadness", "calm": "Neutral"}}
    values, defects = read(EMOTION, source, ("none",), s=["joy|sad", " sad ", "calm|", "", "none", "joy|jo", "|"])
    np.testing.assert_array_equal(values[0], [0, 0, 0, 0, 1, 1, 0])
    np.testing.assert_array_equal(values[1], [0, 0, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(values[2], [1, 0, 0, 0, 0, 0, 0])
    assert np.isnan(values[3:]).all()
    assert defects == [
        ["t.csv, row 7, column 's'", "unknown label 'jo'; did you mean 'joy'?"],
        ["t.csv, row 8, column 's'", "unknown label '|'; known names are calm, joy, sad"],
    ]


def test_class_names_themselves_between_separators() -> None:
    values, defects = read(EMOTION, {"column": "s", "separator": ", "}, s=["Fear, Anger", "Fear, Angr"])
    np.testing.assert_array_equal(values[0], [0, 1, 0, 1, 0, 0, 0])
    assert defects == [
        [
            "t.csv, row 3, column 's'",
            "unknown label 'Angr'; did you mean 'Anger'?; set `values` to translate cells to classes",
        ]
    ]


@pytest.mark.parametrize("spec", [AMBIVALENCE, AFFECT])
def test_a_task_of_one_class_takes_no_separator(spec: TaskSpec) -> None:
    with pytest.raises(CorpusError, match="labels: `separator` is for several classes in a cell"):
        read(spec, {"column": "s", "separator": "|"}, s=["a"])


def test_numbers_that_gaps_turned_into_decimals_are_the_same_labels() -> None:
    source = {"column": "y", "values": {"0": "absent", "1": "present"}}
    values, defects = read(AMBIVALENCE, source, ("-1", "-5.0"), y=["1.0", "0", "-1.0", "-5", "1.00", "0.5"])
    np.testing.assert_array_equal(values, [[0, 1], [1, 0], [NAN, NAN], [NAN, NAN], [0, 1], [NAN, NAN]])
    assert defects == [["t.csv, row 7, column 'y'", "unknown label '0.5'; known names are 0, 1"]]
    # a cell that is named goes first, whatever it would become
    values, _ = read(AMBIVALENCE, {"column": "y", "values": {"1.0": "absent", "1": "present"}}, y=["1.0", "1"])
    np.testing.assert_array_equal(values, [[1, 0], [0, 1]])


def test_numbers_that_mean_unknown_are_unknown() -> None:
    values, defects = read(EMOTION, {"columns": {"Fear": "f"}}, ("-1", "-5"), f=["-1", "-5.0", "0.5", "-2", "nan"])
    np.testing.assert_array_equal(values[:, 3], [NAN, NAN, 0.5, NAN, NAN])
    assert defects == [
        ["t.csv, row 6, column 'f'", "'nan' is not a number; list cells that mean 'unknown' under `missing`"],
        ["t.csv, row 5, column 'f'", "label -2 lies outside [0, 1]; set `scale = [lowest, highest]`"],
    ]


def test_one_hot_columns_of_a_task_of_one_class() -> None:
    values, defects = read(
        AFFECT, ["a", "b", "c"],
        a=["1", "0.0", "1", "0", "", "", "0.5", "1"], b=["0", "1.0", "1", "0", "", "1", "0.5", "0.5"],
        c=["0", "0", "0", "0", "", "", "0", "0"],
    )  # fmt: skip
    np.testing.assert_array_equal(values[:2], [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(values[5], [0, 1, 0])  # one is 1, so the unknown ones are 0
    assert np.isnan(values[[2, 3, 4, 6, 7]]).all()
    assert defects == [
        ["t.csv, row 4", "the task takes one class, found low = 1, mid = 1, high = 0"],
        ["t.csv, row 5", "the task takes one class, found low = 0, mid = 0, high = 0"],
        ["t.csv, row 8", "the task takes one class, found low = 0.5, mid = 0.5, high = 0"],
        ["t.csv, row 9", "the task takes one class, found low = 1, mid = 0.5, high = 0"],
    ]
