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
        ("one", "list.csv, row 2: start 'x' is no number of seconds"),
        ("list.csv, row 3", "list.csv, row 3: end '-1' is no number of seconds"),
        ("list.csv, row 4", "list.csv, row 4: path is empty"),
        ("list.csv, row 5", "list.csv, row 5: runs from 5 s to 5 s; an end must come after the start"),
        ("list.csv, row 6", "list.csv, row 6: start 'nan' is no number of seconds"),
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
