from __future__ import annotations

import os
from pathlib import Path

import pytest

from corpora.clips import CorpusError, Defects
from corpora.reading.paths import Tree, missing_path, shown_path, walk


def fill(folder: Path, *files: str) -> Path:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file, encoding="utf-8")
    return folder


def test_files_are_found_in_order_however_deep(tmp_path: Path) -> None:
    fill(tmp_path / "corpus", "b.mp4", "a/z.txt", "a/-y/x.mp4", "é ü/w x.mp4")
    tree = walk(tmp_path / "corpus", tmp_path)
    assert tree.files == ("a/-y/x.mp4", "a/z.txt", "b.mp4", "é ü/w x.mp4")
    assert tree.closed == ()
    assert tree.path("a/z.txt") == tmp_path / "corpus/a/z.txt"
    assert tree.shown("a/z.txt") == "corpus/a/z.txt"


def test_what_archives_and_desktops_leave_behind_is_left_out(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "a.mp4",
        "._a.mp4",
        ".DS_Store",
        "Thumbs.db",
        "__MACOSX/a.mp4",
        "in/__MACOSX/deep/b.mp4",
        "in/._folder/c.mp4",
    )
    fill(tmp_path, "in/.hidden.mp4", "in/_d.mp4", "MACOSX/e.mp4")
    assert walk(tmp_path, tmp_path).files == ("MACOSX/e.mp4", "a.mp4", "in/.hidden.mp4", "in/_d.mp4")


def test_links_are_followed_but_not_back(tmp_path: Path) -> None:
    fill(tmp_path, "elsewhere/videos/a.mp4", "corpus/b.mp4")
    corpus = tmp_path / "corpus"
    (corpus / "linked").symlink_to(tmp_path / "elsewhere")
    (corpus / "c.mp4").symlink_to(tmp_path / "elsewhere/videos/a.mp4")
    (corpus / "nothing.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "elsewhere/videos/back").symlink_to(corpus)
    (tmp_path / "elsewhere/itself").symlink_to(tmp_path / "elsewhere")
    assert walk(corpus, tmp_path).files == ("b.mp4", "c.mp4", "linked/videos/a.mp4")
    (tmp_path / "link").symlink_to(corpus)
    assert len(walk(tmp_path / "link", tmp_path).files) == 3


def test_folders_named_as_files(tmp_path: Path) -> None:
    fill(tmp_path, "faces/a.mp4/frame-1.jpg", "faces/b.mp4/frame-1.jpg", "videos/a.mp4")
    assert walk(tmp_path, tmp_path).files == ("faces/a.mp4/frame-1.jpg", "faces/b.mp4/frame-1.jpg", "videos/a.mp4")
    asked = []

    def closed(path: os.PathLike[str]) -> bool:
        asked.append(os.fspath(path))
        return os.fspath(path).endswith(".mp4")

    tree = walk(tmp_path, tmp_path, closed=closed)
    assert tree.files == ("videos/a.mp4",)
    assert tree.closed == ("faces/a.mp4", "faces/b.mp4")
    assert tree.path(tree.closed[0]).is_dir()
    assert sorted(asked) == ["faces", "faces/a.mp4", "faces/b.mp4", "videos"]


def test_no_folder(tmp_path: Path) -> None:
    fill(tmp_path, "file")
    for name in ("none", "file"):
        with pytest.raises(CorpusError) as error:
            walk(tmp_path / name, tmp_path)
        assert str(error.value) == (
            f"there is no folder {tmp_path / name} (corpora.root is {str(tmp_path)!r}); set corpora.root or the "
            "corpus' path"
        )


def test_a_folder_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "corpus/shut/a.mp4")
    scandir = os.scandir

    def guarded(place: str) -> object:
        if place.endswith("shut"):
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(CorpusError, match=r"^corpus/shut cannot be opened: Permission denied$"):
        walk(tmp_path / "corpus", tmp_path)


def test_missing_paths_are_told_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = missing_path("file", Path("data/t.csv"), Path("data"))
    assert isinstance(error, CorpusError)
    assert str(error).startswith(
        f"there is no file {tmp_path / 'data/t.csv'} (corpora.root is 'data'); set corpora.root"
    )


def test_paths_are_shown_relative_to_the_root() -> None:
    assert shown_path(Path("/data/meld/a.csv"), Path("/data")) == "meld/a.csv"
    assert shown_path(Path("/other/a.csv"), Path("/data")) == "/other/a.csv"


def test_files_by_name_and_below_folders(tmp_path: Path) -> None:
    files = ("Raw/Videos/a.mp4", "Raw/a.mp4", "my/Raw/Videos/b.mp4", "myRaw/Videos/c.mp4", "Raw/x/Videos/d.mp4")
    tree = walk(fill(tmp_path, *files), tmp_path)
    assert tree.by_name["a.mp4"] == ["Raw/Videos/a.mp4", "Raw/a.mp4"]
    assert set(tree.by_name) == {"a.mp4", "b.mp4", "c.mp4", "d.mp4"}
    assert tree.below("Raw", "Videos") == ["Raw/Videos/a.mp4", "my/Raw/Videos/b.mp4"]
    assert tree.below("Videos") == ["Raw/Videos/a.mp4", "Raw/x/Videos/d.mp4", "my/Raw/Videos/b.mp4",
                                    "myRaw/Videos/c.mp4"]  # fmt: skip
    assert tree.below("a.mp4") == []


def test_the_one_file(tmp_path: Path) -> None:
    tree = walk(fill(tmp_path / "corpus", "x/label.csv", "labels.txt"), tmp_path)
    assert tree.one(["label.csv"], "annotation") == "x/label.csv"
    assert tree.one((name for name in ("none.csv", "labels.txt")), "annotation") == "labels.txt"
    with pytest.raises(CorpusError) as error:
        tree.one((name for name in ("none.csv", "LABEL.csv")), "annotation")
    assert str(error.value) == (
        f"no annotation (none.csv or LABEL.csv) in or below {tmp_path / 'corpus'} (corpora.root is "
        f"{str(tmp_path)!r}); set corpora.root or the corpus' path"
    )


def test_copies_of_the_one_file(tmp_path: Path) -> None:
    tree = walk(fill(tmp_path / "corpus", "b/label.csv", "a/label.csv", "a/other.csv"), tmp_path)
    for file in tree.files:
        tree.path(file).write_text("same", encoding="utf-8")
    assert tree.one(["label.csv"], "annotation") == "a/label.csv"
    assert tree.one(["other.csv", "label.csv"], "annotation") == "a/other.csv"
    tree.path("b/label.csv").write_text("else", encoding="utf-8")
    assert tree.one(["other.csv"], "annotation") == "a/other.csv"
    with pytest.raises(CorpusError) as error:
        tree.one(["label.csv"], "annotation")
    assert str(error.value) == (
        "corpus/a/label.csv and corpus/b/label.csv differ, and either could be the annotation; set the corpus' path "
        "to one of them"
    )


def test_a_relative_folder_is_told_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match=f"in or below {tmp_path}/data "):
        Tree(Path("data"), Path(), ()).one(["a.csv"], "annotation")


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"a\nb.mp4"])
def test_a_name_that_is_no_text_is_told(tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "cafés\u202fzéro.mp4").touch()
    assert walk(folder, tmp_path).files == ("cafés\u202fzéro.mp4",)
    with open(os.path.join(os.fsencode(folder), name), "w"):
        pass
    defects = Defects("toy")
    assert walk(folder, tmp_path, defects).files == ("cafés\u202fzéro.mp4",)
    ((_, _, kind, where, reason),) = defects.rows
    assert (kind, where) == ("ignored", ascii(f"corpus/{os.fsdecode(name)}")[1:-1])
    assert reason == "1 files or folders left out since their names are not Unicode; rename them"
