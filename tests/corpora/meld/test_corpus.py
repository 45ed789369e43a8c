from __future__ import annotations

import os
import random
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from corpora.clips import ClipTable, CorpusError, label_columns
from corpora.demo.layouts import COLUMNS, MeldUtterance, meld_path, write_meld
from corpora.meld.corpus import MeldCorpus, seconds
from corpora.registry import CorporaConfig, read_corpora
from mmpsr.config import Config, load_config
from mmpsr.tasks import BUILTIN_TASKS, EMOTION, TasksConfig
from tests.support import meld_tree

HEADER = ",".join(COLUMNS) + "\n"
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
    """A tree without damage: one CSV under `train/`, one with a prefix, clips, and what an archive leaves behind."""
    raw = tmp_path / "meld" / "MELD.Raw"
    write(raw / "train" / "train_sent_emo.csv", ROWS["train"])
    write(raw / "meld_dev_sent_emo.csv", ROWS["dev"])
    write(raw / "test_sent_emo.csv", ROWS["test"])
    (raw / "._test_sent_emo.csv").write_bytes(b"\x00\x05")
    for split, clips in {"train": ("dia0_utt0", "dia0_utt1"), "dev": ("dia0_utt0",), "test": ("dia7_utt3",)}.items():
        folder = raw / split / FOLDERS[split]
        folder.mkdir(parents=True)
        for file in (*(f"{clip}.mp4" for clip in clips), f"._{clips[0]}.mp4", "xdia8_utt8.mp4", "dia9_utt9.mp4.part"):
            (folder / file).touch()
    return tmp_path


@pytest.fixture
def look_alike(tmp_path: Path) -> Path:
    """Every quirk of the published tree."""
    meld_tree.build(tmp_path / "meld")
    return tmp_path


def corpus(**settings: Any) -> MeldCorpus:
    return MeldCorpus.model_validate({"adapter": "meld", **settings})


def read(root: Path, **settings: Any) -> ClipTable:
    return corpus(**settings).read("meld", root, BUILTIN_TASKS)


def scan(root: Path, **settings: Any) -> ClipTable:
    return corpus(**settings).scan("meld", root, BUILTIN_TASKS)


def change(root: Path, split: str, *rows: str) -> None:
    (file,) = (path for path in root.rglob(f"*{split}_sent_emo.csv") if not path.name.startswith("._"))
    write(file, list(rows))


def found(table: ClipTable) -> list[tuple[str, str, str]]:
    """Kind, clip and reason of every defect."""
    return [(row.kind, "" if row.clip_id is pd.NA else row.clip_id, row.reason) for row in table.defects.itertuples()]  # type: ignore[misc]


# --- the published tree


def test_official_layout(root: Path) -> None:
    table = read(root, release="raw")
    clips = table.validate(BUILTIN_TASKS).clips
    assert clips["clip_id"].tolist() == ["train_dia0_utt0", "train_dia0_utt1", "dev_dia0_utt0", "test_dia7_utt3"]
    assert clips["group"].tolist() == ["train_dia0", "train_dia0", "dev_dia0", "test_dia7"]
    assert clips["split"].tolist() == ["train", "train", "dev", "test"]
    assert clips["speaker"].tolist() == ["Ann", "Bob", "Ann", "Ann"]
    assert clips["text"].tolist() == ["Well, no.", "Yes", "Oh", "Ha"]
    for column, value in {"group_kind": "dialogue", "language": "en", "corpus": "meld", "release": "raw"}.items():
        assert clips[column].tolist() == [value] * 4
    raw = root / "meld/MELD.Raw"
    assert clips["media"].iloc[0] == str(raw / "train/train_splits/dia0_utt0.mp4")
    assert clips["media"].iloc[3] == str(raw / "test/output_repeated_splits_test/dia7_utt3.mp4")
    names = clips[label_columns("emotion", EMOTION)].to_numpy().argmax(axis=1)
    assert [EMOTION.classes[name] for name in names] == ["Happiness", "Neutral", "Fear", "Anger"]
    assert clips[label_columns("emotion", EMOTION)].to_numpy().sum(axis=1).tolist() == [1.0] * 4
    assert len(table.defects) == 0


def test_look_alike_to_the_last_field(look_alike: Path) -> None:
    clips = read(look_alike, path="meld").validate(BUILTIN_TASKS).clips
    assert clips["clip_id"].tolist() == [
        "train_dia0_utt0", "train_dia0_utt1", "train_dia0_utt2", "train_dia12_utt0", "train_dia125_utt0",
        "train_dia125_utt3", "dev_dia0_utt0", "dev_dia0_utt1", "dev_dia110_utt6", "dev_dia110_utt7",
        "test_dia0_utt0", "test_dia0_utt1", "test_dia38_utt4", "test_dia155_utt3", "test_dia220_utt0",
    ]  # fmt: skip
    row = clips.iloc[2]
    one_hot = dict.fromkeys(label_columns("emotion", EMOTION), 0.0) | {"emotion.Happiness": 1.0}
    assert row.dropna().to_dict() == {
        "corpus": "meld", "split": "train", "clip_id": "train_dia0_utt2",
        "media": str(look_alike / "meld/MELD.Raw/train_splits/dia0_utt2.mp4"), "group": "train_dia0",
        "group_kind": "dialogue", "speaker": "Mara", "language": "en", "text": "Lovely!",
        "context": "Mara: Is that, um, “soup”?\nOtto: It’s stew.", **one_hot, "raw.Sr No.": "3", "raw.Emotion": "joy",
        "raw.Sentiment": "positive", "raw.Season": "2", "raw.Episode": "7", "raw.StartTime": "00:00:13,250",
        "raw.EndTime": "00:00:14,000", "raw.annotated_seconds": "0.750",
    }  # fmt: skip
    assert clips["raw.StartTime"].iloc[3] == "01:01:40,500"  # 3700.5 s
    assert clips["text"].iloc[6] == "There’s a rat…"
    assert clips["context"].iloc[7] == "Zoë: There’s a rat…"
    assert clips["raw.annotated_seconds"].isna().tolist() == [row in (3, 11, 12, 13) for row in range(15)]
    assert clips["media"].isna().tolist() == [row == 9 for row in range(15)]
    assert clips["media"].iloc[14] == str(look_alike / "meld/MELD.Raw/output_repeated_splits_test/dia220_utt0.mp4")
    assert clips.filter(like="raw.").dtypes.eq("string").all()


def test_look_alike_has_no_other_defects_than_its_quirks(look_alike: Path) -> None:
    table = read(look_alike)
    kept = "; the clip is kept, its file has its own length"
    long = f"StartTime to EndTime is longer than 40 s{kept}"
    assert found(table) == [
        ("ignored", "", "4 final_videos_test files are left out; set prefer_final_videos = true to use them"),
        ("bad_span", "train_dia12_utt0", long),
        ("known_bad", "train_dia125_utt3", "its file is known to be unreadable as published"),
        ("mended", "", "1 cells hold C1 control characters, read as the cp1252 characters that were meant"),
        ("known_bad", "dev_dia110_utt7", "its file was never published; the clip stays without it"),
        ("bad_span", "test_dia155_utt3", f"EndTime is not after StartTime{kept}"),
        ("bad_span", "test_dia0_utt1", long),
        ("bad_span", "test_dia38_utt4", long),
    ]
    wheres = table.defects["where"].tolist()
    assert wheres[0] == "meld/MELD.Raw/output_repeated_splits_test/final_videos_testdia155_utt3.mp4"
    assert wheres[1] == "meld/MELD.Raw/train/train_sent_emo.csv, row 5"
    assert wheres[3] == "meld/MELD.Raw/dev_sent_emo.csv"


def test_published_counts_and_metrics() -> None:
    assert corpus().published_counts() == {"train": 9989, "dev": 1109, "test": 2610}
    assert corpus().metrics == {"emotion": ("macro_f1", "weighted_f1", "uar")}


def test_the_layout_is_written_as_it_is_published(tmp_path: Path) -> None:
    assert meld_path("dev", 3, 12).as_posix() == "MELD.Raw/dev_splits_complete/dia3_utt12.mp4"
    said = MeldUtterance("dev", 3, 12, 'Say "when", now.', "Ann", "joy", "positive", 3723.25, 3724.0, 5, 9)
    write_meld(tmp_path, [said])
    assert (tmp_path / "MELD.Raw/dev_sent_emo.csv").read_bytes().decode().split("\r\n") == [
        "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime",
        '1,"Say ""when"", now.",Ann,joy,positive,3,12,5,9,"01:02:03,250","01:02:04,000"',
        "",
    ]
    assert (tmp_path / "MELD.Raw/test_sent_emo.csv").read_bytes().decode() == HEADER.replace("\n", "\r\n")


# --- media


def test_extra_test_clips_are_preferred_on_request(look_alike: Path) -> None:
    folder = look_alike / "meld/MELD.Raw/output_repeated_splits_test"
    (folder / "dia220_utt0.mp4").unlink()
    table = read(look_alike, splits=["test"], prefer_final_videos=True)
    assert [Path(path).name for path in table.clips["media"]] == [
        "dia0_utt0.mp4", "dia0_utt1.mp4", "final_videos_testdia38_utt4.mp4", "final_videos_testdia155_utt3.mp4",
        "final_videos_testdia220_utt0.mp4",
    ]  # fmt: skip
    media = [row for row in found(table) if row[0] != "bad_span"]
    annotation = "meld/MELD.Raw/test_sent_emo.csv"
    assert media == [
        ("ignored", "", "2 further files of clips that have one already; not used"),
        ("missing_annotation", "", f"a clip that no row of {annotation} annotates; not used"),
    ]
    assert (
        table.defects["where"].iloc[-1] == "meld/MELD.Raw/output_repeated_splits_test/final_videos_testdia230_utt9.mp4"
    )
    table = read(look_alike, splits=["test"])
    assert table.clips["media"].isna().tolist() == [False] * 4 + [True]
    assert len(scan(look_alike, splits=["train"]).defects) == 2  # nothing about the test folder


@pytest.mark.parametrize(
    "place", ["train", "clips/train", "train/videos/mp4", "dev/train_splits", "test/a/train/b", "train_splits"]
)
def test_media_are_found_in_renamed_folders(root: Path, place: str) -> None:
    raw = root / "meld/MELD.Raw"
    shutil.move(raw / "train/train_splits", root / "held")
    target = root / "meld" / place
    target.mkdir(parents=True)
    for path in (root / "held").iterdir():
        path.rename(target / path.name)
    table = read(root, path="meld")
    assert table.clips["media"].tolist()[:2] == [str(target / f"dia0_utt{number}.mp4") for number in (0, 1)]
    assert table.clips["media"].notna().all()
    assert len(table.defects) == 0


def test_leading_zeros_and_links(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = root / "meld/MELD.Raw/train/train_splits"
    elsewhere = tmp_path_factory.mktemp("disk") / "clips"
    shutil.move(folder, elsewhere)
    (elsewhere / "dia0_utt0.mp4").rename(elsewhere / "dia00_utt000.mp4")
    folder.symlink_to(elsewhere, target_is_directory=True)
    change(root, "train", f"1,x,A,joy,s,000,00,1,1,{TIMES}", f"1,y,A,joy,s,0,01,1,1,{TIMES}")
    table = read(root, path="meld", splits=["train"])
    assert table.clips["clip_id"].tolist() == ["train_dia0_utt0", "train_dia0_utt1"]
    assert table.clips["media"].tolist() == [str(folder / "dia00_utt000.mp4"), str(folder / "dia0_utt1.mp4")]
    assert len(table.defects) == 0
    (root / "meld/again").symlink_to(root / "meld", target_is_directory=True)  # back to a folder above
    assert len(read(root).clips) == 4


def test_clips_in_a_folder_that_tells_no_split_are_an_error(root: Path) -> None:
    flat = root / "meld/videos"
    shutil.move(root / "meld/MELD.Raw/train/train_splits", flat)
    reason = (
        "2 clips in a folder that tells no split, and dialogues are numbered anew in each; move them below a folder "
        "named train_splits or dev_splits_complete or output_repeated_splits_test"
    )
    table = scan(root)
    assert table.clips["media"].isna().tolist() == [True, True, False, False]
    assert found(table)[0] == ("unknown_split", "", reason)
    assert table.defects["where"].iloc[0] == "meld/videos"
    with pytest.raises(CorpusError, match=f"^meld/videos: {re.escape(reason)}"):
        read(root)
    (root / "meld/more").mkdir()
    (root / "meld/more/dia0_utt0.mp4").touch()
    assert [row[0] for row in found(scan(root))] == ["unknown_split", "unknown_split", "missing_media"]
    shutil.rmtree(root / "meld/more")
    # where every wanted split has its own clips, the others do not matter
    assert found(read(root, splits=["dev", "test"]))[0][0] == "ignored"
    assert [row[0] for row in found(scan(root, splits=["train"]))] == ["unknown_split", "missing_media"]


def test_of_several_files_of_a_clip_the_archives_folder_wins(root: Path) -> None:
    copy = root / "meld/MELD.Raw/a/train/dia0_utt1.mp4"
    copy.parent.mkdir(parents=True)
    copy.touch()
    table = read(root, splits=["train"])
    assert table.clips["media"].iloc[1] == str(root / "meld/MELD.Raw/train/train_splits/dia0_utt1.mp4")
    assert found(table) == [("ignored", "", "1 further files of clips that have one already; not used")]
    assert table.defects["where"].iloc[0] == "meld/MELD.Raw/a/train/dia0_utt1.mp4"


def test_annotation_alone_is_enough(root: Path) -> None:
    for path in root.rglob("*.mp4"):
        path.unlink()
    table = read(root)
    assert table.clips["media"].isna().all()
    assert len(table.defects) == 0


def test_a_split_that_was_not_unpacked_is_one_defect(root: Path) -> None:
    shutil.rmtree(root / "meld/MELD.Raw/test")
    table = read(root)
    assert table.clips["media"].isna().tolist() == [False, False, False, True]
    reason = "no clip of split 'test' (below a folder output_repeated_splits_test or test), though there are others"
    assert found(table) == [("missing_media", "", reason)]
    assert table.defects["where"].iloc[0] == "meld/MELD.Raw/test_sent_emo.csv"


def test_clips_and_rows_without_each_other_are_defects(root: Path) -> None:
    folder = root / "meld/MELD.Raw/train/train_splits"
    (folder / "dia0_utt1.mp4").rename(folder / "dia5_utt5.mp4")
    table = read(root, splits=["train"])
    assert table.clips["media"].isna().tolist() == [False, True]
    assert found(table) == [
        ("missing_media", "train_dia0_utt1", "no train_splits/dia<D>_utt<U>.mp4 of this utterance"),
        ("missing_annotation", "", "a clip that no row of meld/MELD.Raw/train/train_sent_emo.csv annotates; not used"),
    ]
    assert table.defects["where"].tolist() == [
        "meld/MELD.Raw/train/train_sent_emo.csv, row 3", "meld/MELD.Raw/train/train_splits/dia5_utt5.mp4"
    ]  # fmt: skip


def test_known_bad_clips_are_noted_only_where_they_can_be(look_alike: Path) -> None:
    raw = look_alike / "meld/MELD.Raw"
    (raw / "train_splits/dia125_utt3.mp4").unlink()
    (raw / "dev_splits_complete/dia110_utt7.mp4").touch()
    table = read(look_alike, splits=["train", "dev"])
    assert not table.defects["kind"].eq("known_bad").any()
    assert table.defects.loc[table.defects["kind"].eq("missing_media"), "clip_id"].tolist() == ["train_dia125_utt3"]


def test_files_whose_names_are_no_text_are_left_out(root: Path) -> None:
    raw = root / "meld/MELD.Raw"
    shutil.copytree(raw / "train", os.fsdecode(bytes(raw) + b"/\xe9"))
    os.link(raw / "test_sent_emo.csv", os.fsdecode(bytes(raw) + b"/\xe9_test_sent_emo.csv"))
    table = read(root)
    assert len(table.clips) == 4
    reason = "2 files or folders left out since their names are not Unicode; rename them"
    assert found(table) == [("ignored", "", reason)]
    assert table.defects["where"].iloc[0] == "meld/MELD.Raw/\\udce9"


# --- annotation


def test_every_emotion_has_its_class(root: Path) -> None:
    words = ["neutral", "anger", "disgust", "fear", "joy", "sadness", "surprise"]
    change(root, "dev", *(f"1,x,A,{word},s,0,{number},1,1,{TIMES}" for number, word in enumerate(words)))
    labels = read(root, splits=["dev"]).clips[label_columns("emotion", EMOTION)].to_numpy()
    np.testing.assert_array_equal(labels, np.eye(7))


def test_context_is_what_was_said_before_in_the_dialogue(root: Path) -> None:
    change(
        root, "dev",
        f"1,eleven,A,joy,s,4,11,1,1,{TIMES}", f"2,two,B,joy,s,4,2,1,1,{TIMES}", f"3,other,C,joy,s,40,0,1,1,{TIMES}",
        f'4,"o\nne",A,joy,s,4,1,1,1,{TIMES}', f"5,,B,joy,s,4,3,1,1,{TIMES}", f"6,ten,,joy,s,4,10,1,1,{TIMES}",
    )  # fmt: skip

    def context(**settings: Any) -> dict[str, str]:
        clips = read(root, splits=["dev"], **settings).clips
        return {
            clip.removeprefix("dev_"): text
            for clip, text in clips[["clip_id", "context"]].itertuples(index=False)
            if text is not pd.NA
        }

    assert context() == {
        "dia4_utt2": "A: o ne", "dia4_utt3": "A: o ne\nB: two", "dia4_utt10": "A: o ne\nB: two",
        "dia4_utt11": "A: o ne\nB: two\nten",
    }  # fmt: skip
    assert context(context_utterances=2)["dia4_utt11"] == "B: two\nten"
    assert context(context_utterances=0) == {}
    change(root, "dev", *(f"1,u{number},A,joy,s,0,{number},1,1,{TIMES}" for number in range(10)))
    assert context()["dia0_utt9"] == "\n".join(f"A: u{number}" for number in range(1, 9))  # eight of nine


def test_blank_cells_are_defects_and_the_clip_stays(root: Path) -> None:
    change(root, "dev", f"1, ,A,,s,0,0,1,1,{TIMES}")
    table = read(root, splits=["dev"])
    assert table.clips["text"].isna().all()
    assert table.clips[label_columns("emotion", EMOTION)].isna().all(axis=None)
    assert found(table) == [
        ("missing_label", "dev_dia0_utt0", "no Emotion"), ("missing_text", "dev_dia0_utt0", "no Utterance")
    ]  # fmt: skip


def test_a_row_without_numbers_is_not_used_and_has_no_other_defect(root: Path) -> None:
    change(root, "dev", "1,,A,,s,none,0,1,1,now,later", ROWS["dev"][0], "3,,A,,s,0,1,1,1,,")
    table = scan(root, splits=["dev"])
    assert table.clips["clip_id"].tolist() == ["dev_dia0_utt0", "dev_dia0_utt1"]
    assert [row[:2] for row in found(table)] == [
        ("bad_number", ""), ("bad_span", "dev_dia0_utt1"), ("missing_label", "dev_dia0_utt1"),
        ("missing_text", "dev_dia0_utt1"), ("missing_media", "dev_dia0_utt1"),
    ]  # fmt: skip


def test_suspicious_times_are_noted_and_the_clip_is_kept(root: Path) -> None:
    times = [
        '"0:00:01,0","0:00:01,0"', '"0:00:01,0","0:00:41,1"', '"0:00:01,0","0:00:41,0"', '"0:00:01,0",late',
        '"x0:00:01,0","0:00:02,0"',
    ]  # fmt: skip
    change(root, "dev", *(f"1,x,A,joy,s,0,{number},1,1,{time}" for number, time in enumerate(times)))
    table = read(root, splits=["dev"])
    assert len(table.clips) == 5
    assert table.clips["raw.annotated_seconds"].fillna("").tolist() == ["", "", "40.000", "", ""]
    notes = {clip: reason.split(";")[0] for kind, clip, reason in found(table) if kind == "bad_span"}
    assert notes == {
        "dev_dia0_utt0": "EndTime is not after StartTime",
        "dev_dia0_utt1": "StartTime to EndTime is longer than 40 s",
        "dev_dia0_utt3": "StartTime or EndTime is not h:mm:ss,ms",
        "dev_dia0_utt4": "StartTime or EndTime is not h:mm:ss,ms",
    }


def test_seconds() -> None:
    times = pd.Series(["01:02:03,250", "0:00:01,5", " 0:00:02.05 ", "", "00:01", "1:2:3,4567"])
    # 3600 + 2 * 60 + 3.25; ",5" is half a second
    np.testing.assert_allclose(seconds(times), [3723.25, 1.5, 2.05, np.nan, np.nan, np.nan])


def test_c1_code_points_are_read_as_cp1252(root: Path) -> None:
    change(root, "dev", f"1,I\u0092m \u0085 \u0081,Zo\u00eb\u0099,joy,s,0,0,1,1,{TIMES}", ROWS["train"][1])
    table = read(root, splits=["dev"])
    assert table.clips["text"].tolist() == ["I\u2019m \u2026 \u0081", "Yes"]
    assert table.clips["speaker"].tolist() == ["Zo\u00eb\u2122", "Bob"]
    reason = "2 cells hold C1 control characters, read as the cp1252 characters that were meant"
    assert [row for row in found(table) if row[0] == "mended"] == [("mended", "", reason)]


def test_cp1252_bytes_are_read(root: Path) -> None:
    file = root / "meld/MELD.Raw/meld_dev_sent_emo.csv"
    file.write_bytes((HEADER + f"1,I’m … ok,Zoë,joy,s,0,0,1,1,{TIMES}\n").encode("cp1252"))
    table = read(root, splits=["dev"])
    assert table.clips[["text", "speaker"]].to_numpy().tolist() == [["I’m … ok", "Zoë"]]
    assert [row[2][:6] for row in found(table)] == ["1 cell"]
    file.write_bytes((HEADER + f"1,I’m ok,A,joy,s,0,0,1,1,{TIMES}\n").encode() + b"\x92")
    message = rf"meld_dev_sent_emo\.csv is neither UTF-8 nor cp1252 at byte {file.stat().st_size - 1}; get the file"
    with pytest.raises(CorpusError, match=message):
        read(root, splits=["dev"])


def test_copies_of_an_annotation_are_fine_but_not_two_different_ones(root: Path) -> None:
    write(root / "copy/dev_sent_emo.csv", ROWS["dev"])
    assert len(read(root, splits=["dev"]).clips) == 1
    write(root / "copy/dev_sent_emo.csv", ROWS["train"])
    with pytest.raises(CorpusError) as error:
        read(root, splits=["dev"])
    assert str(error.value) == (
        "copy/dev_sent_emo.csv and meld/MELD.Raw/meld_dev_sent_emo.csv differ, and either could be the annotation; "
        "set the corpus' path to one of them"
    )


def test_splits_need_only_their_own_files(root: Path) -> None:
    for path in root.rglob("*train_sent_emo.csv"):
        path.unlink()
    assert read(root, splits=["dev"]).clips["clip_id"].tolist() == ["dev_dia0_utt0"]
    assert read(root).clips["split"].tolist() == ["dev", "test"]
    with pytest.raises(CorpusError) as error:
        read(root, splits=["train", "dev"], path="meld")
    assert f"no file train_sent_emo.csv (a prefix is allowed) in or below {root / 'meld'}" in str(error.value)


def test_splits_anew_read_all_and_keep_dialogues_whole(look_alike: Path) -> None:
    table = read(look_alike, hold_out={"column": "speaker", "test": ["Ivo"], "dev": ["Mara"]}, splits=["dev"])
    assert table.clips["speaker"].unique().tolist() == ["Mara"]
    assert table.clips["clip_id"].str.split("_").str[0].unique().tolist() == ["train", "dev", "test"]
    table = read(look_alike, fractions={"train": 0.6, "test": 0.4})
    assert table.clips.groupby("group")["split"].nunique().max() == 1


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no file \{train,dev,test\}_sent_emo\.csv"):
        read(tmp_path)
    with pytest.raises(CorpusError) as error:
        read(tmp_path, path="none")
    assert f"there is no folder {tmp_path / 'none'} (corpora.root is" in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([f"1,x,A,jou,s,0,0,1,1,{TIMES}"], "row 2, column 'Emotion': unknown label 'jou'; did you mean 'joy'?"),
        (
            [ROWS["dev"][0], f"1,x,A,joy,s,zero,0,1,1,{TIMES}"],
            "row 3, column 'Dialogue_ID': 'zero' is not a whole number; the row is not used",
        ),
        ([ROWS["dev"][0], f"1,x,A,joy,s,0,1.5,1,1,{TIMES}"], "row 3, column 'Utterance_ID': '1.5' is not a whole"),
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
    if rows:
        assert len(scan(root, splits=["dev"]).clips) == 1


@pytest.mark.parametrize("column", ["Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "StartTime"])
def test_a_missing_column_is_named(root: Path, column: str) -> None:
    file = root / "meld/MELD.Raw/meld_dev_sent_emo.csv"
    file.write_text(file.read_text(encoding="utf-8").replace(column, f"X{column}"), encoding="utf-8")
    with pytest.raises(CorpusError, match=f"meld_dev_sent_emo.csv has no column '{column}'; did you mean 'X{column}'"):
        read(root, splits=["dev"])


def test_damaged_annotation_raises_nothing_but_its_own_error(look_alike: Path) -> None:
    rng = random.Random(0)
    num_read, messages = 0, []
    for split in ("dev", "test"):
        file = look_alike / f"meld/MELD.Raw/{split}_sent_emo.csv"
        whole = file.read_bytes()
        damaged = [whole[: len(whole) * part // 20] for part in range(20)]
        for _ in range(20):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
                data.insert(rng.randrange(len(data)), rng.choice(b'"\x00\r,\xff\x92'))
            damaged.append(bytes(data))
        damaged.append(whole.replace(b",110,", b"," + b"9" * 6000 + b","))
        for data in damaged:
            file.write_bytes(data)
            try:
                scan(look_alike, splits=[split])
                num_read += 1
            except CorpusError as error:
                messages.append(str(error))
    assert num_read > 15
    assert len(messages) > 10
    assert all(re.search(r"MELD\.Raw/(dev|test)_sent_emo\.csv|has no clip in split", message) for message in messages)


# --- another task, size


class Run(Config):
    corpora: CorporaConfig = CorporaConfig()
    """The corpora."""
    tasks: TasksConfig = TasksConfig()
    """The tasks."""


SENTIMENT = """
[corpora.sources.meld]
adapter = "meld"

[corpora.sources.meld.labels.sentiment]
column = "Sentiment"
values = { negative = "negative", neutral = "neutral", positive = "positive" }

[tasks]
active = ["emotion", "sentiment"]

[tasks.specs.sentiment]
kind = "single_label"
classes = ["negative", "neutral", "positive"]
loss = "cross_entropy"
metrics = ["macro_f1"]
"""


def test_sentiment_is_a_task_declared_in_the_configuration(look_alike: Path) -> None:
    file = look_alike / "run.toml"
    file.write_text(SENTIMENT, encoding="utf-8")
    config = load_config(Run, file, [f"corpora.root={look_alike}"])
    tasks = config.tasks.resolve()
    clips = read_corpora(config.corpora, tasks).clips
    names = [f"sentiment.{name}" for name in ("negative", "neutral", "positive")]
    assert label_columns("sentiment", tasks["sentiment"]) == names
    np.testing.assert_array_equal(clips[names].to_numpy()[:4], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert clips[names].sum(axis=1).eq(1.0).all()
    assert clips[label_columns("emotion", EMOTION)].sum(axis=1).eq(1.0).all()
    assert config.corpora.metrics("meld", "sentiment", tasks["sentiment"]) == ("macro_f1",)
    path = look_alike / "meld/MELD.Raw/test_sent_emo.csv"
    path.write_bytes(path.read_bytes().replace(b"positive", b"possitive"))
    with pytest.raises(CorpusError, match=r"test_sent_emo\.csv, row 4, column 'Sentiment': unknown label 'possitive'"):
        read_corpora(config.corpora, tasks)


def test_a_corpus_of_full_size_is_read_quickly(tmp_path: Path) -> None:
    sizes = {"train": 9989, "dev": 1109, "test": 2610}
    utterances = [
        MeldUtterance(split, row // 10, row % 10, f"Words {row}.", "Ann", "joy", "positive", row, row + 1.5)  # type: ignore[arg-type]
        for split, size in sizes.items()
        for row in range(size)
    ]
    write_meld(tmp_path, utterances)
    began = time.perf_counter()
    table = read(tmp_path)
    assert time.perf_counter() - began < 4.0
    assert table.clips["split"].value_counts().to_dict() == sizes
    assert len(table.defects) == 0
