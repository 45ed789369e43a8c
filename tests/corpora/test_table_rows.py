"""No row of a table is lost in silence, whatever separates and quotes it, however splits and labels are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from corpora.clips import ClipTable, CorpusError
from corpora.table import TableCorpus
from mmpsr.tasks import BUILTIN_TASKS

SOURCE: dict[str, Any] = {"adapter": "table", "id": "id", "text": "text", "files": "t.tsv"}
FEAR = {"emotion": {"columns": {"Fear": "score"}}}


def scan(root: Path, text: str, /, file: str = "t.csv", **settings: Any) -> ClipTable:
    (root / file).write_text(text, encoding="utf-8", newline="")
    source = TableCorpus.model_validate({**SOURCE, "files": file, **settings})
    return source.scan("toy", root, BUILTIN_TASKS)


def noted(table: ClipTable) -> list[list[str]]:
    return table.defects[["kind", "where", "reason"]].to_numpy().tolist()


def test_a_file_without_quoting_is_read_whole_or_names_the_row(tmp_path: Path) -> None:
    marks = {11: '"I am sure of', 41: '"and so is she'}
    text = "\n".join(["id\ttext", *(f"c{row}\t{marks.get(row, 'words')}" for row in range(2, 62))])
    with pytest.raises(CorpusError) as error:
        scan(tmp_path, text, "t.tsv")
    assert str(error.value).startswith("t.tsv: row 11 (lines 11 to 41), column 'text': the quotation mark that begins")
    assert str(error.value).endswith("written without quoting, set corpora.sources.toy.quoting = false")
    table = scan(tmp_path, text, "t.tsv", quoting=False)
    assert len(table.clips) == 60
    assert table.clips["text"].iloc[9] == '"I am sure of'
    assert noted(table) == []


def test_rows_that_do_not_fit_the_head_are_errors_of_their_row(tmp_path: Path) -> None:
    table = scan(tmp_path, "id,text\na,I am sure, or not\nb,x\nc\n")
    assert table.clips["clip_id"].tolist() == ["b"]
    assert [(kind, where) for kind, where, _ in noted(table)] == [
        ("bad_row", "t.csv, row 2"),
        ("bad_row", "t.csv, row 4"),
    ]
    with pytest.raises(CorpusError, match=r"t\.csv, row 2: has 3 cells, the head has 2; .*1 more such error"):
        table.require_sound()


def test_separators_are_told_from_the_head_or_said(tmp_path: Path) -> None:
    text = "id;text;score;from\na;Well, yes;0,5;0:05\nb;x;0,25;1:02:03.5\n"
    table = scan(tmp_path, text, start="from", labels=FEAR, fractions={"train": 1.0})
    assert table.clips["text"].tolist() == ["Well, yes", "x"]
    assert table.clips["start"].tolist() == [5.0, 3723.5]
    assert table.clips["emotion.Fear"].tolist() == [0.5, 0.25]
    assert noted(table) == [
        ["mended", "t.csv", "its cells are separated by semicolon, as its head says"],
        ["mended", "t.csv, row 2, column 'from'", "2 times are read as seconds ('0:05' as 5)"],
        ["mended", "t.csv, row 2, column 'score'", "2 decimal commas are read as decimal points ('0,5' as 0.5)"],
    ]
    said = scan(tmp_path, text, separator="semicolon", start="from", labels=FEAR, fractions={"train": 1.0})
    assert said.clips.equals(table.clips)
    with pytest.raises(CorpusError, match=r"no column 'id'.*columns are|no column 'id'"):
        scan(tmp_path, text, separator=",")
    with pytest.raises(ValidationError, match="a separator is one character, comma, semicolon"):
        TableCorpus.model_validate({**SOURCE, "separator": ", "})


def test_a_score_that_could_be_two_numbers_is_an_error(tmp_path: Path) -> None:
    labels = {"emotion": {"columns": {"Fear": "score"}, "scale": [0, 2000]}}
    table = scan(tmp_path, "id;text;score\na;x;1,234\n", labels=labels, fractions={"train": 1.0})
    assert ["bad_label", "t.csv, row 2, column 'score'"] in [row[:2] for row in noted(table)]
    assert "'1,234' could be 1.234 or 1234; write it as one of these, or set `decimal`" in noted(table)[-1][2]
    for decimal, value in ((",", 1.234 / 2000), (".", 1234 / 2000)):
        table = scan(tmp_path, "id;text;score\na;x;1,234\n", decimal=decimal, labels=labels, fractions={"train": 1.0})
        np.testing.assert_allclose(table.clips["emotion.Fear"], [value])


def test_a_column_that_occurs_twice_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"t\.csv has several columns 'text'; rename all but the one that is meant"):
        scan(tmp_path, "id,text,text\na,x,y\n")
    assert scan(tmp_path, "id,text,x,x\na,x,1,2\n").clips["clip_id"].tolist() == ["a"]


def test_splits_are_read_in_any_case_and_by_their_usual_names(tmp_path: Path) -> None:
    words = ["Train", "training", "DEV", "Development", "TEST", "Testing", "train"]
    text = "id,text,fold\n" + "\n".join(f"c{row},x,{word}" for row, word in enumerate(words))
    table = scan(
        tmp_path,
        text.replace("DEV", "Development").replace("Testing", "TEST").replace("training", "TRAIN"),
        split="fold",
    )
    assert table.clips["split"].tolist() == ["train", "train", "dev", "dev", "test", "test", "train"]
    assert noted(table) == [[
        "mended", "t.csv, column 'fold'",
        "splits are read: 'Train' as train, 'TRAIN' as train, 'Development' as dev, 'TEST' as test",
    ]]  # fmt: skip
    for word in ("Val", "valid", "Validation", "development", "Dev"):
        assert scan(tmp_path, f"id,text,fold\na,x,{word}\n", split="fold").clips["split"].tolist() == ["dev"]


def test_two_words_for_one_split_have_to_be_told_apart(tmp_path: Path) -> None:
    table = scan(tmp_path, "id,text,fold\na,x,val\nb,y,dev\nc,z,train\n", split="fold")
    assert table.clips["clip_id"].tolist() == ["c"]
    assert noted(table)[0] == [
        "unknown_split", "t.csv, row 2, column 'fold'",
        "'val' and 'dev' both usually mean dev, and may be two splits here; set "
        "corpora.sources.toy.split.values to translate it",
    ]  # fmt: skip
    values = {"column": "fold", "values": {"val": "dev", "dev": "test"}}
    table = scan(tmp_path, "id,text,fold\na,x,val\nb,y,Dev\nc,z,train\n", split=values)
    assert table.clips["split"].tolist() == ["dev", "test", "train"]


def test_class_names_are_read_in_any_case_where_that_is_clear(tmp_path: Path) -> None:
    text = "id,text,state,split\na,x,anger,train\nb,y,FEAR,train\nc,z,Anger,train\n"
    table = scan(tmp_path, text, split="split", labels={"emotion": {"column": "state"}})
    assert table.clips["emotion.Anger"].tolist() == [1.0, 0.0, 1.0]
    assert table.clips["emotion.Fear"].tolist() == [0.0, 1.0, 0.0]
    assert noted(table)[0] == [
        "mended", "t.csv, column 'state'",
        "labels are read in any case of letters: 'anger' as 'Anger', 'FEAR' as 'Fear'",
    ]  # fmt: skip
    codes = {"a": "absent", "A": "present"}
    text = "id,text,state,split\na,x,A,train\nb,y,a,train\n"
    table = scan(tmp_path, text, split="split", labels={"ambivalence": {"column": "state", "values": codes}})
    assert table.clips["ambivalence.present"].tolist() == [1.0, 0.0]
