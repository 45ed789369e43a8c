"""Which recordings files, folders, globs and CSV files name, and where their transcripts come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.predict.inputs import InputError, find_inputs


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.MOV", "deep/er/c.wav", "deep/a.mp4", "notes.txt", "table.xlsx"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")
    return tmp_path


def ids(*names: str) -> list[str]:
    return [each.id for each in find_inputs(names).recordings]


def test_a_folder_gives_its_media_with_all_below(place: Path) -> None:
    Path("gone.mkv").symlink_to("nowhere.mkv")
    Path("folder.mp4").mkdir()
    assert ids(".") == ["a.mp4", "b.MOV", "deep/a.mp4", "deep/er/c.wav", "gone.mkv"]


def test_globs_and_files(place: Path) -> None:
    assert ids("**/*.mp4") == ["a.mp4", "deep/a.mp4"]  # of one name, so told apart by their paths
    assert ids("*.MOV", "missing.mp4", "table.xlsx") == ["b.MOV", "missing.mp4", "table.xlsx"]
    Path("[x].mp4").write_bytes(b"")
    assert ids("[x].mp4") == ["[x].mp4"]


def test_what_is_named_twice_is_said_and_taken_once(place: Path) -> None:
    found = find_inputs(["a.mp4", str(place / "a.mp4"), "."])
    assert [each.id for each in found.recordings].count("a.mp4") == 1
    assert len(found.recordings) == 4
    assert found.notes == [
        f"{place / 'a.mp4'} is named twice and is predicted once",
        "a.mp4 is named twice and is predicted once",
    ]


def test_nothing_to_predict(place: Path) -> None:
    Path("empty").mkdir()
    for names, message in (
        ([], "nothing to predict"),
        (["empty"], "empty holds no file that ends like a recording"),
        (["*.avi"], r"no file matches \*\.avi"),
    ):
        with pytest.raises(InputError, match=message):
            find_inputs(names)
    with pytest.raises(InputError, match=r"elsewhere is no folder; name one with transcripts \.srt, \.vtt, \.txt"):
        find_inputs(["a.mp4"], transcripts=Path("elsewhere"))


def test_a_csv_file(place: Path) -> None:
    Path("deep/list.csv").write_text(
        "\ufeffpath,text,start,end,id,description\n"
        'a.mp4,"Well, no.",1.5,3,first,nods\n'
        "a.mp4,,3,,,\n"
        f"{place / 'b.MOV'},,,,,\n",
        encoding="utf-8",
    )
    one, two, three = find_inputs(["deep/list.csv"]).recordings
    assert (one.id, one.path, one.start, one.end, one.description) == ("first", Path("deep/a.mp4"), 1.5, 3.0, "nods")
    assert one.transcript is not None
    assert one.transcript.text == "Well, no."
    assert (two.id, two.start, two.end, two.transcript) == ("a.mp4", 3.0, None, None)
    assert three.path == place / "b.MOV"


def test_rows_of_one_name_are_told_apart_by_their_spans(place: Path) -> None:
    Path("list.csv").write_text("path,start,end\na.mp4,0,2\na.mp4,2,\n", encoding="utf-8")
    assert ids("list.csv") == ["a.mp4 0-2 s", "a.mp4 2-end s"]


def test_rows_that_cannot_be_used_are_defects(place: Path) -> None:
    Path("list.csv").write_text(
        "path,start,end,id,mood\na.mp4,x,,one,\na.mp4,,-1,,\n,,,,\nb.MOV,5,5,,\nb.MOV,nan,,,\nb.MOV,,,,good\n",
        encoding="utf-8",
    )
    found = find_inputs(["list.csv"])
    assert [each.id for each in found.recordings] == ["b.MOV"]
    assert [(each.id, each.reason) for each in found.defects] == [
        ("one", "list.csv, row 2: start 'x' is not a number; correct the cell"),
        ("list.csv, row 3", "list.csv, row 3: end '-1' lies before the beginning"),
        ("list.csv, row 4", "list.csv, row 4: path is empty"),
        ("list.csv, row 5", "list.csv, row 5: runs from 5 s to 5 s; an end must come after the start"),
        ("list.csv, row 6", "list.csv, row 6: start 'nan' is not a number; correct the cell"),
    ]
    assert found.notes == ["list.csv: columns 'mood' are not read (path, text, start, end, id, description are)"]


def test_a_csv_file_that_cannot_be_read(place: Path) -> None:
    Path("list.csv").write_text("file,text\na.mp4,x\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"list\.csv: has no column 'path'"):
        find_inputs(["list.csv"])
    Path("list.csv").write_bytes(b"path\n\xff\xfe.mp4\n")
    with pytest.raises(InputError, match=r"list\.csv: cannot be read as a CSV file in UTF-8"):
        find_inputs(["list.csv"])


def said(*names: str, **options: object) -> list[str | None]:
    found = find_inputs(names, **options)  # type: ignore[arg-type]
    return [None if each.transcript is None else each.transcript.text for each in found.recordings]


def test_transcripts_beside_the_files(place: Path) -> None:
    assert said(".") == [None] * 4
    Path("a.txt").write_text("plain", encoding="utf-8")
    Path("deep/er/c.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\ntimed\n", encoding="utf-8")
    assert said(".") == ["plain", None, None, "timed"]
    Path("a.srt").write_text("00:00:00,000 --> 00:00:01,000\nsubtitles\n", encoding="utf-8")
    assert said("a.mp4") == ["subtitles"]


def test_what_is_given_comes_first_then_the_folder(place: Path) -> None:
    Path("a.txt").write_text("beside", encoding="utf-8")
    for name in ("a", "deep/a"):
        Path("said", name).parent.mkdir(parents=True, exist_ok=True)
        Path("said", f"{name}.txt").write_text(f"folder {name}", encoding="utf-8")
    assert said(".", transcripts=Path("said")) == ["folder a", None, "folder deep/a", None]
    assert said("a.mp4", transcripts=Path("said"), texts=["given"]) == ["given"]
    assert said("a.mp4", "b.MOV", texts=[None, "given"]) == ["beside", "given"]
    with pytest.raises(InputError, match=r"1 text\(s\) for 4 recordings; give one for each"):
        find_inputs(["."], texts=["given"])


def test_a_transcript_that_cannot_be_used_says_why(place: Path) -> None:
    Path("a.srt").write_text("no times", encoding="utf-8")
    Path("b.txt").write_text(" \n", encoding="utf-8")
    one, two = find_inputs(["a.mp4", "b.MOV"]).recordings
    assert one.transcript is None
    assert str(one.no_transcript).startswith("a.srt: has no line of times")
    assert two.transcript is None
    assert two.no_transcript == "b.txt: is empty"


def test_transcripts_of_a_language_or_of_the_whole_name(place: Path) -> None:
    Path("a.en.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\ntimed\n", encoding="utf-8")
    Path("b.MOV.srt").write_text("00:00:00,000 --> 00:00:01,000\nwhole\n", encoding="utf-8")
    Path("deep/er/c.wav.en-GB.SRT").write_text("00:00:00,000 --> 00:00:01,000\nboth\n", encoding="utf-8")
    Path("deep/a.notes.txt").write_text("no language", encoding="utf-8")
    assert said(".") == ["timed", "whole", None, "both"]
    Path("a.TXT").write_text("plain", encoding="utf-8")
    assert said("a.mp4") == ["plain"]  # without a language comes first


def test_transcripts_in_several_languages_have_to_be_chosen(place: Path) -> None:
    for language in ("de", "en"):
        Path(f"a.{language}.txt").write_text(language, encoding="utf-8")
    (only,) = find_inputs(["a.mp4"]).recordings
    assert only.transcript is None
    assert only.no_transcript == (
        ".: a.de.txt and a.en.txt are transcripts in several languages; name one of them as the recording is, without "
        "a language"
    )


def test_hidden_files_are_passed_over(place: Path) -> None:
    for name in ("._a.mp4", ".DS_Store", "Thumbs.db", "deep/._c.wav", "._a.srt"):
        Path(name).write_bytes(b"\0")
    found = find_inputs(["."])
    assert [each.id for each in found.recordings] == ["a.mp4", "b.MOV", "deep/a.mp4", "deep/er/c.wav"]
    assert found.notes == []
    Path(".old").mkdir()
    Path(".old/x.mp4").write_bytes(b"")
    assert find_inputs(["."]).notes == [".: 1 hidden files are passed over, such as .old/x.mp4"]
    assert ids(".old") == ["x.mp4"]


def test_a_text_with_commas_that_was_not_quoted_is_a_defect(place: Path) -> None:
    Path("list.csv").write_text("path,text\na.mp4,I am sure, or not, honestly\nb.MOV,yes\n", encoding="utf-8")
    found = find_inputs(["list.csv"])
    assert [each.id for each in found.recordings] == ["b.MOV"]
    (defect,) = found.defects
    assert (defect.id, defect.path) == ("list.csv, row 2", "list.csv")
    assert defect.reason == (
        "list.csv, row 2: has 4 cells, the head has 2; beyond it stands 'or not' ... (a cell that holds a comma is "
        'written in quotation marks: "yes, no")'
    )


def test_tables_of_any_separator_with_decimal_commas_and_times(place: Path) -> None:
    Path("list.csv").write_text("path;text;start;end\na.mp4;yes, no;0,5;0:05\nb.MOV;;1:02:03.5;\n", encoding="utf-8")
    found = find_inputs(["list.csv"])
    assert [(each.start, each.end) for each in found.recordings] == [(0.5, 5.0), (3723.5, None)]
    assert found.notes == ["list.csv: its cells are separated by semicolon, as its head says"]
    assert said("list.csv", separator="semicolon") == ["yes, no", None]
    with pytest.raises(InputError, match=r"no column 'path'.*to path; .* by comma, --separator says otherwise"):
        find_inputs(["list.csv"], separator=",")
    with pytest.raises(InputError, match=r"list\.csv: a separator is one character"):
        find_inputs(["list.csv"], separator="space")
    Path("list.csv").write_text("path;start\na.mp4;1,234\nb.MOV;0:00:01:12\n", encoding="utf-8")
    two, frames = find_inputs(["list.csv"]).defects
    assert two.reason == "list.csv, row 2: start '1,234' could be 1.234 or 1234; write it as one of these"
    assert "if its last part counts frames" in frames.reason


def test_a_table_without_quoting(place: Path) -> None:
    Path("list.tsv").write_text('path\ttext\na.mp4\t"I never\nb.MOV\tsaid that"\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"list\.tsv: row 2 \(lines 2 to 3\), column 'text'.*set --no-quoting if"):
        find_inputs(["list.tsv"])
    assert said("list.tsv", quoting=False) == ['"I never', 'said that"']
    assert said("list.tsv", quoting=True) == ["I never\nb.MOV\tsaid that"]
