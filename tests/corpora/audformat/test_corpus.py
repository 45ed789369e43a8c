"""Tests of `corpora/audformat`: databases that the library of that name wrote are read as that library reads them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from corpora.audformat.corpus import AudformatCorpus
from corpora.clips import ClipTable, CorpusError
from corpora.registry import CorporaConfig, read_corpora
from mmpsr.tasks import BUILTIN_TASKS, EMOTION

audformat = pytest.importorskip("audformat")

EMOTIONS = {"emotion": {"column": "emotion", "values": {"happy": "Happiness", "angry": "Anger", "calm": "Neutral"}}}
TRAITS = {"personality": {"extraversion": "extraversion", "openness": "openness"}}
FILES = [f"audio/00{number}.wav" for number in (1, 2, 3)]


def write(folder: Path, storage: str = "csv") -> Any:
    """A database of three files, or five segments of them, with gaps; split by table, and speakers by file."""
    db = audformat.Database("toy", languages=["deu"])
    db.schemes["emotion"] = audformat.Scheme(labels=["happy", "angry", "calm"])
    db.schemes["rating"] = audformat.Scheme("float", minimum=1, maximum=7)
    db.schemes["speaker"] = audformat.Scheme(labels={1: {"age": 30}, 2: {"age": 40}})
    db.schemes["words"] = audformat.Scheme("str")
    for split in ("train", "dev", "test"):
        db.splits[split] = audformat.Split(split)
    db["files"] = audformat.Table(audformat.filewise_index(FILES))
    db["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    db["files"]["speaker"].set([1, 2, 1])
    db["files"]["words"] = audformat.Column(scheme_id="words")
    db["files"]["words"].set(["Well, no.", None, 'so-called "yes"'])
    spans = {
        "train": ([FILES[0], FILES[0], FILES[2]], ["0s", "1.5s", "0s"], ["1.5s", None, "2s"]),
        "dev": ([FILES[1]], ["0.25s"], ["1.000000001s"]),
        "test": ([FILES[1]], ["2s"], ["3s"]),
    }
    emotions = {"train": ["happy", None, "angry"], "dev": ["calm"], "test": ["happy"]}
    ratings = {"train": [7, 4, np.nan], "dev": [1], "test": [2.5]}
    for split, (files, starts, ends) in spans.items():
        table = audformat.Table(audformat.segmented_index(files, starts, ends), split_id=split)
        db[f"segments.{split}"] = table
        table["emotion"] = audformat.Column(scheme_id="emotion")
        table["emotion"].set(emotions[split])
        for trait in ("extraversion", "openness"):
            table[trait] = audformat.Column(scheme_id="rating")
        table["extraversion"].set(ratings[split])
    db.save(folder, storage_format=storage)
    (folder / "audio").mkdir()
    for file in FILES:
        (folder / file).touch()
    return db


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write(folder)
    return folder


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path, dirs_exist_ok=True)


def corpus(**settings: Any) -> AudformatCorpus:
    return AudformatCorpus.model_validate({"adapter": "audformat", **settings})


def read(root: Path, **settings: Any) -> ClipTable:
    return corpus(**settings).read("toy", root, BUILTIN_TASKS)


def found(root: Path, **settings: Any) -> list[tuple[str, str]]:
    """Kind of every defect but `ignored` and `mended`, its place and reason."""
    table = corpus(**settings).scan("toy", root, BUILTIN_TASKS).defects
    own = table[~table["kind"].isin(["ignored", "mended"])]
    return [(row.kind, f"{row.where}: {row.reason}") for row in own.itertuples()]  # type: ignore[misc]


def change(root: Path, **edits: Any) -> None:
    """Edit the header: `tables__files__type="x"`."""
    header = yaml.safe_load((root / "db.yaml").read_text(encoding="utf-8"))
    for path, value in edits.items():
        *above, last = path.split("__")
        inner = header
        for name in above:
            inner = inner[name]
        inner[last] = value
    (root / "db.yaml").write_text(yaml.safe_dump(header, sort_keys=False), encoding="utf-8")


def edit(root: Path, table: str, old: str, new: str) -> None:
    path = root / f"db.{table}.csv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_segments_are_clips_as_the_library_reads_them(tmp_path: Path, storage: str) -> None:
    write(tmp_path, storage)
    clips = read(tmp_path, text="words", labels=EMOTIONS | TRAITS).validate(BUILTIN_TASKS).clips
    assert clips["clip_id"].tolist() == [
        "audio/002.wav#0.25-1.000000001", "audio/002.wav#2-3",
        "audio/001.wav#0-1.5", "audio/001.wav#1.5-", "audio/003.wav#0-2",
    ]  # fmt: skip
    assert clips["split"].tolist() == ["dev", "test", "train", "train", "train"]
    assert clips["speaker"].tolist() == clips["group"].tolist() == ["2", "2", "1", "1", "1"]
    assert clips["group_kind"].unique().tolist() == ["participant"]
    assert clips["language"].unique().tolist() == ["de"]
    assert clips["text"].fillna("-").tolist() == ["-", "-", "Well, no.", "Well, no.", 'so-called "yes"']
    db = audformat.Database.load(tmp_path)
    tables = [db[f"segments.{split}"].get() for split in ("dev", "test", "train")]
    theirs = pd.concat([table.astype({"emotion": "object"}) for table in tables]).reset_index()
    assert clips["media"].tolist() == [str(tmp_path / file) for file in theirs["file"]]
    np.testing.assert_array_equal(clips["start"], theirs["start"].dt.total_seconds())
    np.testing.assert_array_equal(clips["end"].astype("float64"), theirs["end"].dt.total_seconds())
    named = dict(zip(("happy", "angry", "calm"), ("Happiness", "Anger", "Neutral"), strict=True))
    for row, label in enumerate(theirs["emotion"]):
        expected = [np.nan if pd.isna(label) else float(name == named[label]) for name in EMOTION.classes]
        np.testing.assert_array_equal(clips.filter(regex=r"^emotion\.").iloc[row].to_numpy(float), expected)
    # the scheme says 1 to 7: (4 - 1) / 6 = 0.5, (2.5 - 1) / 6 = 0.25
    np.testing.assert_array_equal(clips["personality.extraversion"], [0.0, 0.25, 1.0, 0.5, np.nan])
    assert clips["personality.openness"].isna().all()


def test_files_are_clips_where_the_labels_are_of_files(root: Path) -> None:
    labels = {"ambivalence": {"column": "speaker", "values": {"1": "absent", "2": "present"}}}
    table = read(root, table_splits={"files": "train"}, labels=labels, keep=["words"])
    assert table.clips["clip_id"].tolist() == FILES
    assert table.clips["start"].isna().all()
    assert table.clips["ambivalence.present"].tolist() == [0.0, 1.0, 0.0]
    assert table.clips["raw.words"].tolist() == ["Well, no.", "", 'so-called "yes"']
    assert "table 'segments.dev' is not read: no setting names it or a column of it" in table.defects["reason"].tolist()


def test_labels_of_files_hold_for_their_segments_and_that_is_said(root: Path) -> None:
    labels = {"ambivalence": {"column": "speaker", "values": {"1": "absent", "2": "present"}}}
    segments = [f"segments.{split}" for split in ("train", "dev", "test")]
    table = read(root, tables=segments, labels=labels)
    assert table.clips["ambivalence.present"].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert "'speaker' of whole files (table 'files') is the label of each of their segments" in list(
        table.defects["reason"]
    )


def test_without_labels_clips_are_for_pseudo_labels(root: Path) -> None:
    clips = read(root, tables=["files"]).clips
    assert clips["split"].tolist() == ["train"] * 3
    assert clips["group"].tolist() == ["1", "2", "1"]


def test_splits_are_said_by_tables_by_a_column_or_dealt_anew(root: Path) -> None:
    train = "segments.train"
    assert set(read(root, labels=EMOTIONS, table_splits={"segments.test": "dev"}).clips["split"]) == {"train", "dev"}
    change(root, tables__files__columns__part={"scheme_id": "words"})
    path = root / "db.files.csv"
    rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(f"{row},{end}" for row, end in zip(rows, ["part", *"ABA"], strict=True)), "utf-8")
    split = {"column": "part", "values": {"A": "train", "B": "dev"}}
    clips = read(root, labels=EMOTIONS, split=split).clips
    assert clips["split"].tolist() == ["dev", "dev", "train", "train", "train"]
    clips = read(root, tables=[train], labels=EMOTIONS, fractions={"train": 0.5, "dev": 0.5}, group="file").clips
    assert clips.groupby("group")["split"].nunique().tolist() == [1, 1]
    assert clips["group_kind"].unique().tolist() == ["video"]


def test_the_configuration_chooses_the_adapter(root: Path) -> None:
    source = {"adapter": "audformat", "labels": EMOTIONS}
    config = CorporaConfig.model_validate({"root": str(root), "sources": {"toy": source}})
    assert len(read_corpora(config, BUILTIN_TASKS).clips) == 5


# --- what is wrong


@pytest.mark.parametrize(
    ("edits", "settings", "message"),
    [
        ({"tables__files__type": "wide"}, {}, "db.yaml: tables.files.type is 'wide'; it must be filewise or segmented"),
        ({"tables__files__split_id": "trian"}, {}, "tables.files.split_id is 'trian'; did you mean 'train'?"),
        ({"tables__files__columns__words": {"scheme_id": "wrds"}}, {},
         "tables.files.columns.words.scheme_id is 'wrds'; did you mean 'words'?"),
        ({"tables": {}}, {}, "db.yaml declares no table of files or segments"),
        ({"schemes": [1]}, {}, "db.yaml: schemes is list, expected a mapping"),
        ({}, {"labels": {"emotion": {"column": "emotoin"}}},
         "corpora.sources.toy.labels.emotion: db.yaml has no column or scheme 'emotoin'; did you mean 'emotion'?"),
        ({}, {"tables": ["file"]}, "corpora.sources.toy.tables: no table of db.yaml is named 'file'; "
         "did you mean 'files'?"),
        ({}, {"labels": EMOTIONS, "table_splits": {"files": "dev"}}, "the rows of 'files' are no clips; those of "
         "segments.dev, segments.test, segments.train are"),
        ({}, {"tables": ["files", "segments.dev"]},
         r"clips would be segments \(segments.dev\) and whole files \(files\) at once"),
        ({}, {"tables": ["files"], "labels": EMOTIONS, "table_splits": {"files": "train"}},
         r"'emotion' is of segments \(table segments.dev, segments.test, segments.train\), but clips are whole files"),
        ({"tables__segments.dev__split_id": None}, {"labels": EMOTIONS},
         "db.yaml: table 'segments.dev' has no split; set corpora.sources.toy.table_splits"),
        ({}, {"labels": {"personality": {"openness": "rating"}}},
         "'rating' is the scheme of several columns, 'segments.dev/extraversion' and 'segments.dev/openness'"),
        ({"schemes__seven": {"dtype": "float", "minimum": 0, "maximum": 7},
          "tables__segments.train__columns__openness__scheme_id": "seven"}, {"labels": TRAITS},
         r"its columns have several ranges \(extraversion 1 to 7, openness 1 to 7, openness 0 to 7\); set `scale`"),
        ({"tables__segments.train__columns__mood": {"scheme_id": "words"}}, {"labels": EMOTIONS},
         "db.segments.train.csv has no column 'mood'; known names are emotion, end"),
    ],
)  # fmt: skip
def test_a_header_or_a_setting_that_does_not_fit_is_named(
    root: Path, edits: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    change(root, **edits)
    with pytest.raises(CorpusError, match=message):
        read(root, **settings)


def test_splits_are_said_once() -> None:
    with pytest.raises(ValueError, match="say once what the splits are"):
        corpus(split="part", table_splits={"files": "train"})


def test_a_missing_table_is_named_and_a_pickle_is_not_read(root: Path) -> None:
    path = root / "db.segments.dev.csv"
    path.rename(path.with_suffix(".pkl"))
    with pytest.raises(CorpusError, match=r"db.segments.dev.pkl: a pickle can run what its author likes, and is not"):
        read(root, labels=EMOTIONS)
    path.with_suffix(".pkl").unlink()
    with pytest.raises(CorpusError, match=r"db.segments.dev"):
        read(root, labels=EMOTIONS)
    (root / "db.yaml").unlink()
    with pytest.raises(CorpusError, match=r"db.yaml"):
        read(root, labels=EMOTIONS)


def test_a_header_with_code_is_refused(root: Path) -> None:
    (root / "db.yaml").write_text("name: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"db.yaml, line 1: the tag .* is not admitted"):
        read(root)


def test_cells_that_are_wrong_are_named_with_file_row_and_column(root: Path) -> None:
    edit(root, "segments.train", "happy", "hapy")
    edit(root, "segments.train", "7", "8")
    edit(root, "segments.dev", "0 days 00:00:00.250000", "a while")
    edit(root, "segments.test", "0 days 00:00:03", "0 days 00:00:01")
    defects = found(root, labels=EMOTIONS | TRAITS)
    assert defects == [
        ("bad_number", "db.segments.dev.csv, row 2, column 'start': 'a while' is no time; "
         "write 0 days 00:00:01.5 for one and a half seconds"),
        ("bad_label", "db.segments.train.csv, row 2, column 'emotion': unknown label 'hapy'; did you mean 'happy'?"),
        ("bad_label", "db.segments.train.csv, row 2, column 'extraversion': label 8 lies outside [1, 7]; correct the "
         "cell or `scale`"),
        ("unusable_row", "db.segments.test.csv, row 2: the end does not lie behind the start; the row is not used"),
    ]  # fmt: skip


def test_clips_of_two_splits_and_repeated_rows_are_named(root: Path) -> None:
    row = (root / "db.segments.train.csv").read_text(encoding="utf-8").splitlines()[1]
    for table in ("segments.train", "segments.test"):
        with (root / f"db.{table}.csv").open("a", encoding="utf-8") as file:
            file.write(row + "\n")
    reasons = dict(found(root, labels=EMOTIONS))
    assert "occurs already in this table" in reasons["duplicate_id"]
    assert "is test, and in table 'segments.train' train" in reasons["unknown_split"]


def test_what_two_tables_say_of_a_clip_must_agree(root: Path) -> None:
    edit(root, "segments.test", "audio/002.wav,0 days 00:00:02,0 days 00:00:03,happy",
         "audio/001.wav,0 days 00:00:00,0 days 00:00:01.500000,angry")  # fmt: skip
    change(root, **{"tables__segments.test__split_id": "train"})
    ((kind, reason),) = found(root, labels=EMOTIONS)
    assert kind == "bad_label"
    assert "'emotion' is 'angry' (db.segments.test.csv, row 2) and 'happy' (db.segments.train.csv, row 2)" in reason
    assert "say which table is meant: `table/column`" in reason
    named = {"emotion": EMOTIONS["emotion"] | {"column": "segments.train/emotion"}}
    assert found(root, labels=named) == []


def test_labels_of_no_clip_are_counted_and_labels_that_fit_none_are_refused(root: Path) -> None:
    one = {"ambivalence": {"column": "segments.dev/emotion", "values": {"calm": "absent"}}}
    with pytest.raises(CorpusError, match=r"all 1 of 1 values of 'emotion' are of no clip, whose tables are"):
        read(root, tables=["segments.train", "segments.test"], labels=one)
    edit(root, "files", "audio/003.wav", "audio/004.wav")
    table = corpus(labels=EMOTIONS, text="files/words").scan("toy", root, BUILTIN_TASKS)
    assert "1 of 2 values of 'words' are of no clip; they are not used" in table.defects["reason"].tolist()
    assert table.defects["reason"].str.contains("no group in 'speaker'").sum() == 1


def test_tables_with_split_other_are_set_aside_unless_the_configuration_says_what_they_are(root: Path) -> None:
    change(root, splits__rest={"type": "other"}, **{"tables__segments.test__split_id": "rest"})
    (defect,) = found(root, labels=EMOTIONS)
    assert defect[0] == "unusable_row"
    assert "table 'segments.test' has split 'other'; its clips are not used" in defect[1]
    assert found(root, labels=EMOTIONS, table_splits={"segments.test": "test"}) == []
