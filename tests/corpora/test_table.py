from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from corpora.clips import ClipTable, CorpusError, label_columns
from corpora.splitting import split_by_group
from corpora.table import TableCorpus
from mmpsr.tasks import BUILTIN_TASKS, EMOTION, PERSONALITY

EMOTIONS = label_columns("emotion", EMOTION)
TRAITS = label_columns("personality", PERSONALITY)
AMBIVALENCE = {"ambivalence": {"column": "label", "values": {"0": "absent", "1": "present"}}}
SIX = {name: name.lower() for name in EMOTION.classes[1:]}
CSV = "name,text,label,fold\na,hello,0,train\nb,,1,valid\nc,NA,,test\n"


def read(root: Path, csv: str | None = None, /, **settings: Any) -> ClipTable:
    if csv is not None:
        (root / "t.csv").write_text(csv, encoding="utf-8")
    values = {"adapter": "table", "files": {"train": "t.csv"}, "id": "name", **settings}
    return TableCorpus.model_validate(values).read("toy", root, BUILTIN_TASKS)


def labels(table: ClipTable, columns: list[str] = EMOTIONS) -> np.ndarray:
    return table.clips[columns].to_numpy(dtype=float)


def test_columns_become_clips(tmp_path: Path) -> None:
    fold = {"column": "fold", "values": {"valid": "dev"}}
    table = read(tmp_path, CSV, files="t.csv", text="text", split=fold, labels=AMBIVALENCE, release="v1", language="fr")
    clips = table.validate(BUILTIN_TASKS).clips
    assert clips["corpus"].tolist() == ["toy"] * 3
    assert clips["release"].tolist() == ["v1"] * 3
    assert clips["clip_id"].tolist() == clips["group"].tolist() == ["a", "b", "c"]
    assert clips["group_kind"].tolist() == ["clip"] * 3
    assert clips["split"].tolist() == ["train", "dev", "test"]
    assert clips["language"].tolist() == ["fr"] * 3
    assert clips["text"].isna().tolist() == [False, True, False]  # "NA" is something one can say
    assert clips["text"].iloc[2] == "NA"
    np.testing.assert_array_equal(
        labels(table, ["ambivalence.absent", "ambivalence.present"]), [[1, 0], [0, 1], [np.nan, np.nan]]
    )
    assert clips["raw.label"].tolist() == ["0", "1", ""]
    assert len(table.defects) == 0
    assert "where" not in clips


@pytest.mark.parametrize("kind", ["tsv", "parquet", "jsonl", "semicolon", "latin"])
def test_every_file_kind_gives_the_same_clips(tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame({"name": ["é1", "b"], "text": ["x\ty", None], "label": [1, None]})
    frame["label"] = frame["label"].astype("Int64")
    settings: dict[str, Any] = {"semicolon": {"separator": ";"}, "latin": {"encoding": "latin-1"}}.get(kind, {})
    path = tmp_path / f"t.{kind if kind in ('tsv', 'parquet', 'jsonl') else 'csv'}"
    if kind == "parquet":
        pq.write_table(pa.table({"name": ["é1", "b"], "text": ["x\ty", None], "label": [1, None]}), path)
    elif kind == "jsonl":
        rows = [{"name": "é1", "text": "x\ty", "label": 1}, {"name": "b", "text": None}]
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    elif kind == "latin":
        frame.to_csv(path, index=False, encoding="latin-1")
    else:
        frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ";")
    clips = read(tmp_path, files={"dev": path.name}, text="text", labels=AMBIVALENCE, **settings).clips
    assert clips["clip_id"].tolist() == ["é1", "b"]
    assert clips["text"].iloc[0] == "x\ty"
    assert clips["text"].isna().tolist() == [False, True]
    assert clips["ambivalence.present"].iloc[0] == 1.0
    assert np.isnan(clips["ambivalence.present"].iloc[1])


def test_emotion_columns_in_class_order_by_name_and_scaled(tmp_path: Path) -> None:
    header = "name,neutral,anger,disgust,fear,happiness,sadness,surprise\n"
    text = header + "a,0.25,0.75,0,0,0,0,0\nb,0,1,0,0,0,0,0\n"
    in_order = ["neutral", *SIX.values()]
    expected = [[0.25, 0.75, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(labels(read(tmp_path, text, labels={"emotion": in_order})), expected)
    np.testing.assert_array_equal(labels(read(tmp_path, text, labels={"emotion": {"columns": in_order}})), expected)
    table = read(tmp_path, text, labels={"emotion": {"Anger": "anger"}})
    assert labels(table)[:, 1].tolist() == [0.75, 1.0]
    assert np.isnan(labels(table)[:, 2:]).all()
    # intensities 0..3 -> 0..1: 0.75 / 3 = 0.25
    table = read(tmp_path, text, labels={"emotion": {"columns": SIX, "scale": [0, 3]}})
    assert labels(table)[0, 1] == 0.25
    assert table.clips["raw.anger"].tolist() == ["0.75", "1"]


def test_neutral_is_what_is_left_when_nothing_else_is_present(tmp_path: Path) -> None:
    rows = ["a,0,0,0,0,0,0", "b,1,0,0,0,0,0", "c,,,,,,", "d,,0,0,0,0,0", "e,,0,0,0,0,1"]
    text = f"name,{','.join(SIX.values())}\n" + "\n".join(rows)
    found = labels(read(tmp_path, text, labels={"emotion": SIX}))
    np.testing.assert_array_equal(found[:, 0], [1.0, 0.0, np.nan, np.nan, 0.0])
    np.testing.assert_array_equal(found[3, 1:], [np.nan, 0, 0, 0, 0, 0])
    assert np.isnan(found[2]).all()
    # a neutral column counts where it says something
    text = f"name,neutral,{','.join(SIX.values())}\na,0.5,0,0,0,0,0,0\nb,,0,0,0,0,0,0\n"
    assert labels(read(tmp_path, text, labels={"emotion": ["neutral", *SIX.values()]}))[:, 0].tolist() == [0.5, 1.0]


def test_a_column_may_name_the_class_of_a_multi_label_task(tmp_path: Path) -> None:
    table = read(tmp_path, "name,e\na,Fear\nb,\nc,?\n", labels={"emotion": {"column": "e"}}, missing=["?"])
    np.testing.assert_array_equal(labels(table), [[0, 0, 0, 1, 0, 0, 0], [np.nan] * 7, [np.nan] * 7])


def test_two_tasks_may_read_one_column(tmp_path: Path) -> None:
    table = read(tmp_path, CSV, labels={**AMBIVALENCE, "personality": {"openness": "label"}})
    assert table.clips["raw.label"].tolist() == ["0", "1", ""]
    assert table.clips["personality.openness"].tolist()[:2] == [0.0, 1.0]


def test_regression_is_mapped_linearly_and_missing_cells_stay_missing(tmp_path: Path) -> None:
    text = "name,o,c,e,a,n\nx,1,4,7,nan,\ny,-1,2.5,1,1,1\n"
    table = read(
        tmp_path, text, missing=("nan", "-1"), labels={"personality": {"columns": list("ocean"), "scale": [1, 7]}}
    )
    # (4 - 1) / 6 = 0.5, (2.5 - 1) / 6 = 0.25
    np.testing.assert_allclose(
        labels(table, TRAITS), [[0, 0.5, 1, np.nan, np.nan], [np.nan, 0.25, 0, 0, 0]]
    )  # fmt: skip


def test_groups_media_and_times_come_from_columns_patterns_and_templates(tmp_path: Path) -> None:
    (tmp_path / "c/videos").mkdir(parents=True)
    (tmp_path / "c/videos/v_1_-0.5_2.mp4").touch()
    (tmp_path / "c/t.csv").write_text("name,clip\nv_1_-0.5_2,1\nw_3.0_4.5,2\n", encoding="utf-8")
    table = read(
        tmp_path, path="c", id="{name}/{clip}", media="{name}.mp4", media_root="videos",
        group={"column": "name", "pattern": "^(.+)_[-0-9.]+_[0-9.]+$"}, speaker="clip",
        start={"column": "name", "pattern": "_([-0-9.]+)_[0-9.]+$"}, end={"column": "name", "pattern": "_([0-9.]+)$"},
    )  # fmt: skip
    clips = table.validate({}).clips
    assert clips["clip_id"].tolist() == ["v_1_-0.5_2/1", "w_3.0_4.5/2"]
    assert clips["group"].tolist() == ["v_1", "w"]
    assert clips["group_kind"].tolist() == ["video", "video"]
    assert clips["speaker"].tolist() == ["1", "2"]
    assert clips["start"].tolist() == [0.0, 3.0]
    assert clips["end"].tolist() == [2.0, 4.5]
    assert clips["media"].tolist()[0] == str(tmp_path / "c/videos/v_1_-0.5_2.mp4")
    assert clips["media"].isna().tolist() == [False, True]
    assert table.defects[["clip_id", "where"]].to_numpy().tolist() == [
        ["v_1_-0.5_2/1", "c/t.csv, row 2"],
        ["w_3.0_4.5/2", "c/t.csv, row 3"],
    ]
    early, absent = table.defects["reason"]
    assert early == "start -0.5 s lies before the file's beginning; taken as 0"
    assert absent == f"there is no media file {tmp_path / 'c/videos/w_3.0_4.5.mp4'}"


def test_rows_that_cannot_be_used_are_defects_with_their_row(tmp_path: Path) -> None:
    text = 'name,from,to,fold,text\na,0,1,train,"two\nlines"\n,0,1,train,x\n\nb,3,2,train,x\nc,0,1,,x\nd-,0,1,train,x\n'
    table = read(
        tmp_path,
        text,
        files="t.csv",
        split="fold",
        start="from",
        end="to",
        group={"column": "name", "pattern": r"^(\w)$"},
    )
    assert table.clips["clip_id"].tolist() == ["a"]
    assert dict(zip(table.defects["where"], table.defects["reason"], strict=True)) == {
        "t.csv, row 3": "no id in column 'name'; the row is not used",
        "t.csv, row 5": "the end lies before the start; the row is not used",
        "t.csv, row 6": "no split in column 'fold'; the row is not used",
        "t.csv, row 7": r"no group in column 'name' by pattern '^(\\w)$'; the row is not used",
    }


def test_media_cells_may_be_blank(tmp_path: Path) -> None:
    assert read(tmp_path, "name,media\na,\n", media="v/{media}.mp4").clips["media"].isna().all()
    table = read(tmp_path, "name,media\na,\n", media="media")
    assert table.clips["media"].isna().all()
    assert len(table.defects) == 0


def test_splits_select_files_and_rows(tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("name\nz\n", encoding="utf-8")
    files = {"train": "t.csv", "dev": "u.csv", "test": "absent.csv"}
    table = read(tmp_path, CSV, files=files, splits=["train", "dev"])
    assert table.clips["split"].tolist() == ["train"] * 3 + ["dev"]
    fold = {"column": "fold", "values": {"valid": "dev"}}
    assert read(tmp_path, CSV, files="t.csv", split=fold, splits=["dev"]).clips["clip_id"].tolist() == ["b"]


def test_fractions_are_decided_by_group_alone() -> None:
    groups = pd.Series([f"g{number % 3000}" for number in range(4000)])
    found = split_by_group("toy", groups, {"train": 0.6, "dev": 0.3, "test": 0.1})
    share = found[:3000].value_counts(normalize=True)
    assert share.to_dict() == pytest.approx({"train": 0.6, "dev": 0.3, "test": 0.1}, abs=0.03)
    assert found[3000:].tolist() == found[:1000].tolist()
    backwards = split_by_group("toy", groups[::-1], {"test": 0.1, "dev": 0.3, "train": 0.6})
    assert backwards.sort_index().tolist() == found.tolist()
    fewer = split_by_group("toy", groups[7:90], {"train": 0.6, "dev": 0.3, "test": 0.1})
    assert fewer.tolist() == found[7:90].tolist()
    assert split_by_group("other", groups, {"train": 0.6, "dev": 0.3, "test": 0.1}).tolist() != found.tolist()


def test_fractions_never_separate_a_group(tmp_path: Path) -> None:
    text = "name,video\n" + "\n".join(f"c{number},v{number % 40}" for number in range(200))
    table = read(tmp_path, text, files="t.csv", group="video", fractions={"train": 0.5, "dev": 0.5})
    assert table.clips["split"].value_counts().index.size == 2
    assert (table.clips.groupby("group")["split"].nunique() == 1).all()


BAD = {
    "column": (
        CSV,
        {"id": "nam"},
        "t.csv has no column 'nam'; did you mean 'name'?; columns are name, text, label, fold",
    ),
    "column, none near": (CSV, {"id": "xyz"}, "t.csv has no column 'xyz'; known names are fold, label, name, text"),
    "not a number": (
        "name,e\na,0\nb,0.x\n",
        {"labels": {"emotion": {"Fear": "e"}}},
        "t.csv, row 3, column 'e': '0.x' is",
    ),
    "range": (
        "name,e\na,0\nb,1.5\n",
        {"labels": {"emotion": {"Fear": "e"}}},
        "row 3, column 'e': label 1.5 lies outside",
    ),
    "below": (
        "name,e\na,-1\n",
        {"labels": {"emotion": {"Fear": "e"}}},
        "row 2, column 'e': label -1 lies outside [0, 1]",
    ),
    "scaled range": (
        "name,e\na,8\n",
        {"labels": {"emotion": {"columns": {"Fear": "e"}, "scale": [1, 7]}}},
        "label 8 lies outside [1, 7]",
    ),
    "class": (
        CSV,
        {"labels": {"emotion": {"Angr": "text"}}},
        "toy.labels.emotion: unknown class 'Angr'; did you mean 'Ange",
    ),
    "class in values": (
        CSV,
        {"labels": {"ambivalence": {"column": "label", "values": {"0": "absnt"}}}},
        "toy.labels.ambivalence: unknown class 'absnt'; did you mean 'absent'",
    ),
    "label value": (
        CSV,
        {"labels": {"ambivalence": {"column": "label", "values": {"0": "absent"}}}},
        "t.csv, row 3, column 'label': unknown label '1'; known names are 0",
    ),
    "number of columns": (
        CSV,
        {"labels": {"ambivalence": ["label"]}},
        "has 2 classes (absent, present), found 1 columns",
    ),
    "class column of numbers": (CSV, {"labels": {"personality": {"column": "label"}}}, "this is a regression task"),
    "repeated id": ("name\na\nb\na\n", {}, "t.csv, row 4: id 'a' occurs already in t.csv, row 2"),
    "template": (
        CSV,
        {"media": "v/{nam}.mp4"},
        "template 'v/{nam}.mp4' names 'nam', which is no column of t.csv; did you",
    ),
    "template format": (CSV, {"media": "{name:04d}"}, "formats are not supported"),
    "template brace": (CSV, {"media": "{name"}, "template '{name': "),
    "split value": (
        CSV.replace("valid", "held"),
        {"files": "t.csv", "split": "fold"},
        "t.csv, row 3, column 'fold': unknown split 'held'",
    ),
    "empty split": (
        "name,fold\na,train\n",
        {"files": "t.csv", "split": "fold", "splits": ["dev"]},
        "corpus 'toy' has no clip in split 'dev', which corpora.sources.toy.splits asks for",
    ),
    "empty file": ("name\n", {}, "no clip in split 'train', which corpora.sources.toy.files.train (t.csv) asks for"),
    "no usable row": (
        "name\na\n",
        {"group": {"column": "name", "pattern": "(x)"}},
        "1 rows have defects, the first: t.csv, row 2: no group in column 'name' by pattern '(x)'",
    ),
    "fractions": (
        "name\na\n",
        {"files": "t.csv", "fractions": {"train": 0.5, "test": 0.5}},
        "which corpora.sources.toy.fractions asks for; dealt 1 group: train",
    ),
    "split without file": (CSV, {"splits": ["dev"]}, "toy.splits asks for 'dev', but files has only train"),
    "no bytes": ("", {}, "t.csv cannot be read as a table"),
    "long row": ("name,x\na,1,2\nb,1,2\n", {}, "t.csv, row 2: has 3 cells, the head has 2; beyond it stands '2' ..."),
    "longer row": ("name,x\na,1\nb,1,2\n", {}, "t.csv, row 3: has 3 cells"),
    "start": ("name,s\na,soon\n", {"start": "s"}, "t.csv, row 2, column 's': 'soon' is not a number"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_name_file_row_column_and_value(tmp_path: Path, case: str) -> None:
    text, settings, message = BAD[case]
    with pytest.raises(CorpusError) as error:
        read(tmp_path, text, **settings)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_files_of_splits_can_be_split_anew(tmp_path: Path) -> None:
    rows = [f"c{number},g{number // 2}" for number in range(40)]
    for name, some in (("a.csv", rows[:30]), ("b.csv", rows[30:])):
        (tmp_path / name).write_text("\n".join(["name,group", *some]) + "\n", encoding="utf-8")
    files = {"train": "a.csv", "dev": "b.csv"}
    found = read(tmp_path, files=files, group="group", fold={"of": 4, "number": 1, "dev": 0.3}).clips
    assert found["clip_id"].tolist() == [f"c{number}" for number in range(40)]
    assert set(found["split"]) == {"train", "dev", "test"}
    assert (found.groupby("group")["split"].nunique() == 1).all()
    tested = read(tmp_path, files=files, group="group", fold={"of": 4, "number": 1}, splits=["test"]).clips
    assert tested["clip_id"].tolist() == found.loc[found["split"].eq("test"), "clip_id"].tolist()


def test_a_missing_file_is_named_in_full_with_the_root(tmp_path: Path) -> None:
    with pytest.raises(CorpusError) as error:
        read(tmp_path, path="folder")
    assert str(tmp_path / "folder/t.csv") in str(error.value)
    assert f"corpora.root is {str(tmp_path)!r}" in str(error.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"name\n\xe9\n")
    with pytest.raises(CorpusError, match=r"t\.csv is not utf-8-sig at byte 5; set the corpus' `encoding`"):
        read(tmp_path)
    (tmp_path / "t.jsonl").write_text('{"name": "a"}\n[1]\n', encoding="utf-8")
    with pytest.raises(CorpusError, match=r"t\.jsonl cannot be read as a table: row 2 is not a JSON object"):
        read(tmp_path, files={"train": "t.jsonl"})
    (tmp_path / "t.parquet").write_bytes(b"no")
    with pytest.raises(CorpusError, match=r"t\.parquet cannot be read"):
        read(tmp_path, files={"train": "t.parquet"})
    (tmp_path / "t.xlsx").touch()
    with pytest.raises(CorpusError, match=r"t\.xlsx is not a table file; kinds are \.csv"):
        read(tmp_path, files={"train": "t.xlsx"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"files": "t.csv", "labels": {"emotion": ["e"]}}, "say once what the splits are"),
        ({"files": "t.csv", "fractions": {"train": 1.0}, "shares": {"train": 0.5}}, "`shares` are of the corpus' own"),
        ({"shares": {"train": 0.0}}, "greater than 0"),
        ({"labels": {"emotion": {"columns": ["a"], "separator": ","}}}, "it has no use with `columns`"),
        ({"labels": {"emotion": {"column": "a", "separator": ""}}}, "at least 1 character"),
        ({"split": "fold"}, "say once what the splits are"),
        ({"files": "t.csv", "fractions": {"train": 0.5, "dev": 0.4}}, "they sum to 0.9"),
        ({"files": "t.csv", "fractions": {"train": 1.0, "dev": 0.0}}, "greater than 0"),
        ({"files": {"valid": "t.csv"}}, "'train', 'dev' or 'test'"),
        ({"group": {"column": "a", "pattern": "a"}}, "exactly one capture group"),
        ({"group": {"column": "a", "pattern": "("}}, "not a regular expression"),
        ({"splits": []}, "at least 1 item"),
        ({"labels": {"emotion": {"columns": ["a"], "column": "b"}}}, "give either `columns`"),
        ({"labels": {"emotion": {}}}, "give either `columns`"),
        ({"labels": {"emotion": {"columns": ["a"], "values": {}}}}, "it has no use with `columns`"),
        ({"labels": {"emotion": {"column": "a", "scale": [0, 1]}}}, "it has no use with `column`"),
        ({"labels": {"emotion": {"columns": ["a"], "scale": [1, 1]}}}, "lowest value must be below"),
    ],
)
def test_inconsistent_settings_are_errors(settings: dict[str, Any], message: str) -> None:
    values = {"adapter": "table", "files": {"train": "t.csv"}, "id": "name"}
    TableCorpus.model_validate(values)
    with pytest.raises(ValidationError, match=message):
        TableCorpus.model_validate({**values, **settings})


def test_any_clip_of_an_unlabelled_corpus_is_train(tmp_path: Path) -> None:
    table = read(tmp_path, CSV, files="t.csv", text="text")
    assert table.clips["split"].tolist() == ["train"] * 3
    assert read(tmp_path, files="t.csv", split={"column": "fold", "values": {"valid": "dev"}}).clips[
        "split"
    ].tolist() == ["train", "dev", "test"]
    with pytest.raises(CorpusError, match=r"no clip in split 'train', which corpora\.sources\.toy\.files \(t\.csv\)"):
        read(tmp_path, "name\n", files="t.csv")


def test_ids_stay_text_and_clips_are_found_by_template(tmp_path: Path) -> None:
    (tmp_path / "Raw/video_0001").mkdir(parents=True)
    (tmp_path / "Raw/video_0001/0001.mp4").touch()
    text = "video_id,clip_id,text,label,mode\nvideo_0001,0001,hm,-0.5,train\nvideo_0001,0002,ja,1.0,train\n"
    table = read(
        tmp_path, text, files="t.csv", id="{video_id}/{clip_id}", media="{video_id}/{clip_id}", media_root="Raw",
        group="video_id", split="mode", labels={"personality": {"columns": {"openness": "label"}, "scale": [-1, 1]}},
    )  # fmt: skip
    assert table.clips["clip_id"].tolist() == ["video_0001/0001", "video_0001/0002"]
    assert table.clips["media"].tolist()[0] == str(tmp_path / "Raw/video_0001/0001.mp4")
    assert table.clips["personality.openness"].tolist() == [0.25, 1.0]
    assert table.defects["reason"].tolist() == [f"there is no media file {tmp_path / 'Raw/video_0001/0002'}"]


def test_a_column_can_be_kept_to_hold_out_by(tmp_path: Path) -> None:
    rows = [f"c{number},Session{number % 5 + 1},d{number % 10}" for number in range(60)]
    table = read(
        tmp_path, "name,session,dialogue\n" + "\n".join(rows), files="t.csv", group="dialogue", keep=["session"],
        hold_out={"column": "raw.session", "test": ["Session5"], "dev": ["Session4"]},
    )  # fmt: skip
    splits = table.clips.groupby("raw.session")["split"].unique().map(list).to_dict()
    train = ["train"]
    assert splits == dict.fromkeys(("Session1", "Session2", "Session3"), train) | {
        "Session4": ["dev"], "Session5": ["test"]
    }  # fmt: skip
    with pytest.raises(CorpusError, match="has no column 'sesion'; did you mean 'session'"):
        read(tmp_path, files="t.csv", keep=["sesion"], fractions={"train": 1.0})
    table = read(tmp_path, CSV, keep=["label"], labels=AMBIVALENCE)
    assert table.clips["raw.label"].tolist() == ["0", "1", ""]


def test_consent_is_yes_or_no_or_unknown(tmp_path: Path) -> None:
    text = "name,c,p\n" + "\n".join(["a,yes,1.0", "b,No,0", "c,TRUE,false", "d,,NA", "e,maybe,1"])
    table = read(tmp_path, text, consent_challenges="c", consent_publications="p")
    assert table.clips["consent_challenges"].tolist() == [True, False, True, pd.NA, pd.NA]
    assert table.clips["consent_publications"].tolist() == [True, False, False, pd.NA, True]
    assert table.defects[["kind", "where", "reason"]].to_numpy().tolist() == [
        [
            "missing_metadata",
            "t.csv, row 6, column 'c'",
            "'maybe' is not yes, true, 1, no, false or 0; the consent stays unknown",
        ]
    ]


def test_every_wrong_cell_is_found_and_reading_tells_the_first(tmp_path: Path) -> None:
    text = "name,e,fold,s\na,x,train,0\nb,7,train,soon\nc,1,tran,0\nc,1,train,0\na,1,train,0\n"
    settings: dict[str, Any] = {"files": "t.csv", "split": "fold", "start": "s", "labels": {"emotion": {"Fear": "e"}}}
    with pytest.raises(CorpusError) as error:
        read(tmp_path, text, **settings)
    assert str(error.value).startswith("t.csv, row 4, column 'fold': unknown split 'tran'; did you mean 'train'?")
    assert str(error.value).endswith(" (4 more such errors; `mmpsr doctor` lists all)")
    source = TableCorpus.model_validate({"adapter": "table", "id": "name", **settings})
    table = source.scan("toy", tmp_path, BUILTIN_TASKS)
    assert table.defects[["kind", "where"]].to_numpy().tolist() == [
        ["unknown_split", "t.csv, row 4, column 'fold'"],
        ["bad_number", "t.csv, row 3, column 's'"],
        ["bad_label", "t.csv, row 2, column 'e'"],
        ["bad_label", "t.csv, row 3, column 'e'"],
        ["duplicate_id", "t.csv, row 6"],
    ]
    assert table.clips["clip_id"].tolist() == ["a", "b", "c"]
    assert table.clips["emotion.Fear"].isna().tolist() == [True, True, False]
    assert table.validate(BUILTIN_TASKS).clips["start"].isna().tolist() == [False, True, False]


def test_a_share_of_a_split_is_the_same_clips_whatever_else_there_is(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(400)]
    rows = "\n".join(f"{name},{'dev' if name.endswith('0') else 'train'}" for name in names)
    table = read(tmp_path, "name,fold\n" + rows, files="t.csv", split="fold", shares={"train": 0.25})
    kept = table.clips.loc[table.clips["split"].eq("train"), "clip_id"].tolist()
    assert 60 < len(kept) < 120  # a quarter of 360 is 90
    assert table.clips["split"].eq("dev").sum() == 40
    assert table.defects[["kind", "where", "reason"]].to_numpy().tolist() == [
        ["ignored", "corpora.sources.toy.shares.train", f"{360 - len(kept)} of 360 clips are not used"]
    ]
    half = "\n".join(reversed(rows.split("\n")[:200]))
    fewer = read(tmp_path, "name,fold\n" + half, files="t.csv", split="fold", shares={"train": 0.25}).clips
    assert set(fewer.loc[fewer["split"].eq("train"), "clip_id"]) == set(kept) & set(names[:200])


def test_repeated_columns_and_ids_in_the_index_of_parquet(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1]}, index=pd.Index(["a"], name="name")).to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path, files={"train": "t.parquet"}).clips["clip_id"].tolist() == ["a"]
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, names=["name", "name"]), tmp_path / "t.parquet")
    with pytest.raises(CorpusError, match=r"t\.parquet cannot be read as a table: .*name"):
        read(tmp_path, files={"train": "t.parquet"})
