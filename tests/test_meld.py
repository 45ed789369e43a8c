from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from corpora.clips import ClipTable, CorpusError, label_columns
from corpora.meld import MeldCorpus, _index, seconds
from mmpsr.tasks import BUILTIN_TASKS, EMOTION

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
TIMES = '"00:00:01,000","0:00:03,500"'
ROWS = {
    "train": [f'1,"Well, no.",Ann,joy,positive,0,0,1,1,{TIMES}', f"2,Yes,Bob,neutral,neutral,0,1,1,1,{TIMES}"],
    "dev": [f"1,Oh,Ann,fear,negative,0,0,1,2,{TIMES}"],
    "test": [f"1,Ha,Ann,anger,negative,7,3,1,3,{TIMES}"],
}
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}


def write(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The official layout: one CSV under `train/`, one with a prefix, clips, and what an archive leaves behind."""
    raw = tmp_path / "meld" / "MELD.Raw"
    write(raw / "train" / "train_sent_emo.csv", ROWS["train"])
    write(raw / "meld_dev_sent_emo.csv", ROWS["dev"])
    write(raw / "test_sent_emo.csv", ROWS["test"])
    write(raw / "test_sent_emo_dya.csv", [])
    (raw / "._test_sent_emo.csv").write_bytes(b"\x00\x05")
    for split, clips in {"train": ("dia0_utt0", "dia0_utt1"), "dev": ("dia0_utt0",), "test": ("dia7_utt3",)}.items():
        folder = raw / split / FOLDERS[split]
        folder.mkdir(parents=True)
        for clip in (*clips, f"._{clips[0]}", "final_videos_testdia7_utt3"):
            (folder / f"{clip}.mp4").touch()
    return tmp_path


def read(root: Path, **settings: Any) -> ClipTable:
    return MeldCorpus.model_validate({"adapter": "meld", **settings}).read("meld", root, BUILTIN_TASKS)


def change(root: Path, split: str, *rows: str) -> None:
    (file,) = (path for path in root.rglob(f"*{split}_sent_emo.csv") if not path.name.startswith("._"))
    write(file, list(rows))


def test_official_layout(root: Path) -> None:
    table = read(root, release="raw")
    clips = table.validate(BUILTIN_TASKS).clips
    assert clips["clip_id"].tolist() == ["train_dia0_utt0", "train_dia0_utt1", "dev_dia0_utt0", "test_dia7_utt3"]
    assert clips["group"].tolist() == ["train_dia0", "train_dia0", "dev_dia0", "test_dia7"]
    assert clips["split"].tolist() == ["train", "train", "dev", "test"]
    assert clips["speaker"].tolist() == ["Ann", "Bob", "Ann", "Ann"]
    assert clips["text"].tolist() == ["Well, no.", "Yes", "Oh", "Ha"]
    for column, value in {"group_kind": "dialogue", "language": "en", "corpus": "meld", "release": "raw"}.items():
        assert clips[column].eq(value).all()
    raw = root / "meld/MELD.Raw"
    assert clips["media"].iloc[0] == str(raw / "train/train_splits/dia0_utt0.mp4")
    assert clips["media"].iloc[3] == str(raw / "test/output_repeated_splits_test/dia7_utt3.mp4")
    assert clips[["start", "end"]].isna().all(axis=None)
    names = clips[label_columns("emotion", EMOTION)].to_numpy().argmax(axis=1)
    assert [EMOTION.classes[name] for name in names] == ["Happiness", "Neutral", "Fear", "Anger"]
    assert clips[label_columns("emotion", EMOTION)].to_numpy().sum(axis=1).tolist() == [1.0] * 4
    assert clips["raw.Emotion"].tolist() == ["joy", "neutral", "fear", "anger"]
    assert clips["raw.Sentiment"].tolist() == ["positive", "neutral", "negative", "negative"]
    assert len(table.defects) == 0


def test_every_emotion_has_its_class(root: Path) -> None:
    words = ["neutral", "anger", "disgust", "fear", "joy", "sadness", "surprise"]
    change(root, "dev", *(f"1,x,A,{word},s,0,{number},1,1,{TIMES}" for number, word in enumerate(words)))
    labels = read(root, splits=["dev"]).clips[label_columns("emotion", EMOTION)].to_numpy()
    np.testing.assert_array_equal(labels, np.eye(7))


def test_default_metrics_are_those_of_a_single_label() -> None:
    assert MeldCorpus(adapter="meld").metrics == {"emotion": ("macro_f1", "weighted_f1", "uar")}


def test_splits_need_only_their_own_files(root: Path) -> None:
    for path in root.rglob("*train_sent_emo.csv"):
        path.unlink()
    assert read(root, splits=["dev"]).clips["clip_id"].tolist() == ["dev_dia0_utt0"]
    assert read(root).clips["split"].tolist() == ["dev", "test"]
    with pytest.raises(CorpusError) as error:
        read(root, splits=["train", "dev"], path="meld")
    assert f"no file train_sent_emo.csv (a prefix is allowed) in or below {root / 'meld'}" in str(error.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no file \{train,dev,test\}_sent_emo\.csv"):
        read(tmp_path)
    with pytest.raises(CorpusError) as error:
        read(tmp_path, path="none")
    assert f"there is no folder {tmp_path / 'none'} (corpora.root is" in str(error.value)


def test_annotation_alone_is_enough(root: Path) -> None:
    shutil.rmtree(root / "meld/MELD.Raw/test")
    table = read(root, splits=["test"])
    assert table.clips["media"].isna().all()
    assert len(table.defects) == 0


def test_clips_and_rows_without_each_other_are_defects(root: Path) -> None:
    folder = root / "meld/MELD.Raw/train/train_splits"
    (folder / "dia0_utt1.mp4").rename(folder / "dia5_utt5.mp4")
    table = read(root, splits=["train"])
    assert table.clips["media"].isna().tolist() == [False, True]
    orphan, absent = table.defects.to_dict("records")
    assert absent["clip_id"] == "train_dia0_utt1"
    assert absent["where"] == "meld/MELD.Raw/train/train_sent_emo.csv, row 3"
    assert absent["reason"] == "no train_splits/dia<D>_utt<U>.mp4 of this utterance"
    assert orphan["where"] == str(folder / "dia5_utt5.mp4")
    assert "no row of" in orphan["reason"]


def test_suspicious_times_are_noted_and_the_clip_is_kept(root: Path) -> None:
    times = ['"0:00:01,0","0:00:01,0"', '"0:00:01,0","0:00:42,1"', '"0:00:01,0","0:00:41,0"', '"0:00:01,0",late']
    change(root, "dev", *(f"1,x,A,joy,s,0,{number},1,1,{time}" for number, time in enumerate(times)))
    shutil.rmtree(root / "meld/MELD.Raw/dev")
    table = read(root, splits=["dev"])
    assert len(table.clips) == 4
    notes = {row["clip_id"]: row["reason"] for row in table.defects.to_dict("records")}
    assert notes.keys() == {"dev_dia0_utt0", "dev_dia0_utt1", "dev_dia0_utt3"}
    assert notes["dev_dia0_utt0"].startswith("EndTime is not after StartTime; the clip is kept")
    assert notes["dev_dia0_utt1"].startswith("StartTime to EndTime is longer than 40 s; the clip is kept")
    assert notes["dev_dia0_utt3"].startswith("StartTime or EndTime is not h:mm:ss,ms; the clip is kept")


def test_seconds() -> None:
    times = pd.Series(["01:02:03,250", "0:00:01,5", " 0:00:02.05 ", "", "00:01", "1:2:3,4567"])
    # 3600 + 2 * 60 + 3.25; ",5" is half a second
    np.testing.assert_allclose(seconds(times), [3723.25, 1.5, 2.05, np.nan, np.nan, np.nan])


def test_c1_code_points_are_read_as_cp1252(root: Path) -> None:
    change(root, "dev", f"1,I\u0092m \u0085 \u0081,Zo\u00eb\u0099,joy,s,0,0,1,1,{TIMES}")
    clips = read(root, splits=["dev"]).clips
    assert clips["text"].tolist() == ["I\u2019m \u2026 \u0081"]
    assert clips["speaker"].tolist() == ["Zo\u00eb\u2122"]


def test_copies_of_an_annotation_are_fine_but_not_two_different_ones(root: Path) -> None:
    write(root / "copy/dev_sent_emo.csv", ROWS["dev"])
    assert len(read(root, splits=["dev"]).clips) == 1
    write(root / "copy/dev_sent_emo.csv", ROWS["train"])
    with pytest.raises(CorpusError, match=r"copy/dev_sent_emo\.csv and meld/MELD\.Raw/meld_dev_sent_emo\.csv differ"):
        read(root, splits=["dev"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([f"1,x,A,jou,s,0,0,1,1,{TIMES}"], "row 2, column 'Emotion': unknown label 'jou'; did you mean 'joy'?"),
        ([f"1,x,A,joy,s,zero,0,1,1,{TIMES}"], "row 2, column 'Dialogue_ID': 'zero' is not a whole number"),
        (
            [f"1,x,A,joy,s,0,0,1,1,{TIMES}"] * 2,
            "csv, row 3: id 'dev_dia0_utt0' occurs already in meld/MELD.Raw/meld_dev",
        ),
        ([], "no clip in split 'dev'"),
    ],
)
def test_errors_name_the_row(root: Path, rows: list[str], message: str) -> None:
    change(root, "dev", *rows)
    with pytest.raises(CorpusError) as error:
        read(root, splits=["dev"])
    assert message in str(error.value)


def test_a_missing_column_is_named(root: Path) -> None:
    (root / "meld/MELD.Raw/meld_dev_sent_emo.csv").write_text("Dialogue_ID,Uterance_ID\n0,0\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="has no column 'Utterance_ID'; did you mean 'Uterance_ID'"):
        read(root, splits=["dev"])


def test_links_back_to_a_folder_above_end(root: Path) -> None:
    (root / "meld/again").symlink_to(root / "meld", target_is_directory=True)
    assert len(read(root).clips) == 4
    assert {split: len(files) for split, files in _index(root).tables.items()} == {"train": 1, "dev": 1, "test": 1}
