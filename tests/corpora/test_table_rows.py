"""No row of a table is lost in silence, whatever separates and quotes it, however splits and labels are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from corpora.bah.files import read_labels_table, read_list
from corpora.clips import ClipTable, CorpusError, Defects
from corpora.fiv2.corpus import FIRST_COLUMNS, _from_table
from corpora.meld import MeldCorpus
from corpora.mosei.tables import read_tables
from corpora.reading.paths import walk
from corpora.table import TableCorpus
from mmpsr.tasks import BUILTIN_TASKS
from tests.support import meld_tree

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


def test_lines_that_are_no_json_name_their_row(tmp_path: Path) -> None:
    for line, message in (
        ('{"id": "b", "te', "row 2 is not JSON"),
        ('{"id": "b", "text": "x", "text": "y"}', "row 2 is not JSON ('text' occurs twice)"),
    ):
        with pytest.raises(CorpusError) as error:
            scan(tmp_path, '{"id": "a", "text": "x"}\n' + line, "t.jsonl")
        assert str(error.value).startswith("t.jsonl cannot be read as a table: ")
        assert message in str(error.value)


def test_quotation_marks_behind_a_blank_quote_nothing(tmp_path: Path) -> None:
    assert scan(tmp_path, 'id,text\na, "yes"\n').clips["text"].tolist() == [' "yes"']
    (row,) = [reason for kind, _, reason in noted(scan(tmp_path, 'id,text\na, "yes, no"\nb,x\n')) if kind == "bad_row"]
    assert "is written in quotation marks without a blank before them" in row


UNCLOSED = '"I never said'


def test_marks_that_quote_nothing_swallow_no_row_of_meld(tmp_path: Path) -> None:
    meld_tree.build(tmp_path)
    (file,) = tmp_path.rglob("train_sent_emo.csv")
    text = file.read_text(encoding="utf-8").replace('"I could go on all day, and I will."', UNCLOSED)
    file.write_text(text, encoding="utf-8", newline="")
    source = MeldCorpus.model_validate({"adapter": "meld"})
    with pytest.raises(CorpusError, match=r"train_sent_emo\.csv: row 5 \(line .*'Utterance'") as error:
        source.scan("meld", tmp_path, BUILTIN_TASKS)
    assert "quoting =" not in str(error.value)  # there is no such setting


def test_marks_that_quote_nothing_swallow_no_row_of_first_impressions(tmp_path: Path) -> None:
    columns = ["VideoName", *FIRST_COLUMNS.values()]
    rows = [
        "a.mp4,0.1,0.2,0.3,0.4,0.5",
        '"b.mp4,0.1,0.2,0.3,0.4,0.5',
        'c.mp4,0.1,0.2,0.3,0.4,"0.5',
        "d.mp4,0.1,0.2,0.3,0.4,0.5",
    ]
    (tmp_path / "training_gt.csv").write_text("\n".join([",".join(columns), *rows]), encoding="utf-8")
    tree = walk(tmp_path, tmp_path)
    with pytest.raises(CorpusError, match=r"training_gt\.csv: row 3 \(lines 3 to 4\), column 'VideoName'"):
        _from_table(tree, "training_gt.csv", Defects("fiv2"))
    comma = "\n".join([";".join(columns), "a.mp4;0,1;0,2;0,3;0,4;0,5"])
    (tmp_path / "training_gt.csv").write_text(comma, encoding="utf-8")
    assert _from_table(walk(tmp_path, tmp_path), "training_gt.csv", Defects("fiv2"))["raw.openness"].tolist() == ["0,5"]


def test_marks_that_quote_nothing_swallow_no_row_of_mosei(tmp_path: Path) -> None:
    head = "video_name,text,Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise"
    lines = [head, f"v_0_1,{UNCLOSED},1,0,0,0,0,0,0", 'v_1_2,that.",1,0,0,0,0,0,0', "v_2_3,x,1,0,0,0,0,0,0"]
    (tmp_path / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(
        CorpusError, match=r"train\.csv: row 2 \(lines 2 to 3\), column 'text': .* 2 rows written without"
    ):
        read_tables(walk(tmp_path, tmp_path), "mosei", BUILTIN_TASKS["emotion"], Defects("mosei"))
    (tmp_path / "train.csv").write_text(
        "\n".join(line.replace(",", ";").replace('"', "") for line in lines), encoding="utf-8"
    )
    found = read_tables(walk(tmp_path, tmp_path), "mosei", BUILTIN_TASKS["emotion"], Defects("mosei"))
    assert found["clip_id"].tolist() == ["v_0_1", "v_1_2", "v_2_3"]


def test_lists_of_bah_keep_their_lines_whatever_ends_them(tmp_path: Path) -> None:
    name = "Videos/9/Visite_1/9_Question_{}_2024-01-31 10-00-00_Video.mp4"
    lines = [f'{name.format(number)},0,"I never, said' for number in (1, 2, 3)]
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "train.txt").write_text(end.join(lines), encoding="utf-8", newline="")
        found = read_list(walk(tmp_path, tmp_path), "train.txt", Defects("bah"))
        assert found["question"].tolist() == ["1", "2", "3"]
        assert found["text"].tolist() == ['"I never, said'] * 3
    (tmp_path / "bah-video.csv").write_text(
        f'video-path,label\n"{name.format(1)},0\n{name.format(2)},1\n', encoding="utf-8"
    )
    with pytest.raises(CorpusError, match=r"bah-video\.csv: row 2 \(lines 2 to 3\), column 'video-path'"):
        read_labels_table(walk(tmp_path, tmp_path), "bah-video.csv")
