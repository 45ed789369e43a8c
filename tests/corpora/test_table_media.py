"""How a table's media are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corpora import table as table_media
from corpora.clips import ClipTable, CorpusError
from corpora.table import TableCorpus
from mmpsr.tasks import BUILTIN_TASKS


def read(root: Path, csv: str, **settings: Any) -> ClipTable:
    (root / "t.csv").write_text(csv, encoding="utf-8")
    values = {"adapter": "table", "files": {"train": "t.csv"}, "id": "name", **settings}
    return TableCorpus.model_validate(values).read("toy", root, BUILTIN_TASKS)


def touch(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def found(table: ClipTable, root: Path, column: str = "media") -> list[str | None]:
    return [None if path is None else Path(path).relative_to(root).as_posix() for path in
            table.clips[column].astype(object).where(table.clips[column].notna(), None)]  # fmt: skip


def test_a_file_is_found_by_its_stem(tmp_path: Path) -> None:
    touch(
        tmp_path, "v/a.wav", "v/a.mkv", "v/b_0.5_1.5.MOV", "v/c.avi", "v/d.txt", "v/e.mp4/x.jpg", "v/f.bin", "v/g.mp4"
    )
    csv = "name\na\nb_0.5_1.5\nc.mp4\nd\ne\nf.bin\ng.MP4\n"
    table = read(tmp_path, csv, media="{name}", media_root="v")
    assert found(table, tmp_path) == ["v/a.mkv", "v/b_0.5_1.5.MOV", "v/c.avi", None, None, "v/f.bin", "v/g.mp4"]
    assert table.defects[["clip_id", "kind", "where", "reason"]].to_numpy().tolist() == [
        ["d", "missing_media", "t.csv, row 5", f"there is no media file {tmp_path / 'v/d'}"],
        ["e", "missing_media", "t.csv, row 6", f"there is no media file {tmp_path / 'v/e'}"],
    ]


def test_each_column_prefers_its_own_kind(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a.wav", "a.ogg", "full/a.mp4", "full/a.wav", "faces/a/1.jpg")
    csv = "name,n,s\na,a,1\n"
    table = read(
        tmp_path, csv, media="n", audio_media="{n}", fallback_media="full/{n}", faces="faces/{n}", context="n",
        start="s", end="{s}.5", audio_start="s", audio_end="{s}.25", fallback_start="-{s}", fallback_end="3{s}",
    )  # fmt: skip
    places = [found(table, tmp_path, column)[0] for column in ("media", "audio_media", "fallback_media", "faces")]
    assert places == ["a.mp4", "a.wav", "full/a.mp4", "faces/a"]
    clip = table.validate(BUILTIN_TASKS).clips.iloc[0]
    assert clip["context"] == "a"
    assert [clip[f"{kind}{end}"] for kind in ("", "audio_", "fallback_") for end in ("start", "end")] == [
        1.0, 1.5, 1.0, 1.25, 0.0, 31.0
    ]  # fmt: skip
    assert table.defects["reason"].tolist() == ["fallback_start -1 s lies before the file's beginning; taken as 0"]


def test_what_one_column_misses_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", "b.wav")
    table = read(tmp_path, "name\na\nb\n", media="{name}", audio_media="{name}.wav", faces="faces/{name}")
    assert found(table, tmp_path, "audio_media") == ["a.mp4", "b.wav"]
    assert table.clips["faces"].isna().all()
    assert table.defects["reason"].tolist() == [
        f"there is no folder of faces {tmp_path / 'faces' / name}" for name in ("a", "b")
    ]


@pytest.mark.parametrize("start", ["audio_start", "fallback_start"])
def test_an_end_before_its_start_is_not_used(tmp_path: Path, start: str) -> None:
    end = start.replace("start", "end")
    table = read(tmp_path, "name,s,e\na,1,2\nb,3,2\n", **{start: "s", end: "e"})
    assert table.clips["clip_id"].tolist() == ["a"]
    assert table.defects["reason"].tolist() == [f"the {end} lies before the {start}; the row is not used"]


def test_a_corpus_without_any_media_gets_one_note(tmp_path: Path) -> None:
    table = read(tmp_path, "name\na\nb\nc\n", media="{name}.mp4", audio_media="{name}.wav")
    assert table.clips[["media", "audio_media"]].isna().all(axis=None)
    assert table.defects[["clip_id", "kind", "where", "reason"]].astype(object).fillna("").to_numpy().tolist() == [
        ["", "missing_media", "t.csv, row 2",
         f"none of 6 media files exists; there is no media file {tmp_path / 'a.mp4'}, and so on"],
    ]  # fmt: skip


def test_templates_may_name_the_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.mp4", "dev/b.mp4", "valid/b.mp4")
    csv = "name,fold\na,train\nb,valid\n"
    fold = {"column": "fold", "values": {"valid": "dev"}}
    table = read(tmp_path, csv, files="t.csv", split=fold, media="{split}/{name}", id="{split}-{name}")
    assert found(table, tmp_path) == ["train/a.mp4", "dev/b.mp4"]
    assert table.clips["clip_id"].tolist() == ["train-a", "dev-b"]
    table = read(tmp_path, csv, files={"dev": "t.csv"}, media="{split}/{name}")
    assert found(table, tmp_path) == [None, "dev/b.mp4"]
    # a column of that name goes first, and splits drawn anew have no folder
    csv = "name,split\na,train\nb,valid\n"
    table = read(tmp_path, csv, files="t.csv", split={"column": "split", "values": {"valid": "dev"}},
                 media="{split}/{name}")  # fmt: skip
    assert found(table, tmp_path) == ["train/a.mp4", "valid/b.mp4"]
    with pytest.raises(CorpusError, match="names 'split', which is no column of t"):
        read(tmp_path, "name\na\n", files="t.csv", fractions={"train": 1.0}, media="{split}/{name}")
    with pytest.raises(CorpusError, match=r"t\.csv has no column 'split'"):
        read(tmp_path, "name\na\n", media="split")


def test_names_that_no_system_allows_are_missing(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "t.jsonl").write_text('{"name": "a"}\n{"name": "b\\u0000/c"}\n{"name": "%s/d"}\n' % ("x" * 5000))
    table = read(tmp_path, "", files={"train": "t.jsonl"}, media="{name}", faces="{name}")
    assert found(table, tmp_path) == ["a.mp4", None, None]
    assert len(table.defects) == 5


def test_a_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"v/{number}.mp4" for number in range(50)))
    listed: list[Path] = []
    scan = table_media.os.scandir
    monkeypatch.setattr(table_media.os, "scandir", lambda folder: listed.append(folder) or scan(folder))
    table = read(tmp_path, "name\n" + "\n".join(map(str, range(50))), media="v/{name}", audio_media="v/{name}")
    assert table.clips["media"].notna().all()
    assert listed == [tmp_path / "v"]
