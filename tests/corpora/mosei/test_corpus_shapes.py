from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from corpora.clips import ClipTable, CorpusError
from corpora.demo.layouts import MoseiSegment, mosei_path, write_csd, write_folds, write_mosei, write_transcripts
from corpora.mosei.corpus import Labels, MoseiCorpus
from corpora.mosei.labels import CSD
from mmpsr.tasks import BUILTIN_TASKS
from tests.support.mosei_tree import (
    DASH,
    LINES,
    LONG,
    SHORT,
    full_path,
    mmsa_path,
    write_answers,
    write_mmsa,
    write_table,
)

JOY = {"Happiness": 0.75, "Surprise": 0.25}
EMOTIONS = [f"emotion.{name}" for name in ("Neutral", "Happiness", "Sadness", "Anger", "Surprise", "Disgust", "Fear")]


def scan(root: Path, **settings: Any) -> ClipTable:
    return MoseiCorpus.model_validate({"adapter": "mosei", "path": "m", **settings}).scan("m", root, BUILTIN_TASKS)


def defects(table: ClipTable) -> list[tuple[str, str, str]]:
    rows = table.defects[["kind", "where", "reason"]]
    return [(str(kind), str(where), str(reason)) for kind, where, reason in rows.itertuples(index=False)]


def put(folder: Path, *paths: Any, content: str = "x") -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")


def row(table: ClipTable, number: int) -> dict[str, Any]:
    return {str(name): value for name, value in table.clips.iloc[number].items() if not pd.isna(value)}


# --- raw answers of AMT


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    """Two batches, three workers: one clip in both, one with a folder before its id, one without a transcript."""
    folder = tmp_path / "m"
    write_transcripts(folder, LINES[:6])
    write_folds(folder, LINES[:6])
    one, two = (1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0), (-2.0, 3.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    none = (0.0,) * 7
    first = [(LONG, 1, "w1", one), (LONG, 1, "w2", two), (f"part/{DASH}", 0, "w1", none), (LONG, 8, "w1", one)]
    write_answers(folder, "first_batch", first)
    write_answers(folder, "second_batch", [(LONG, 1, "w3", none)])
    return tmp_path


def test_answers_are_averaged_over_workers(answered: Path) -> None:
    put(answered / "m", full_path(LONG), mosei_path(LONG, 1), mosei_path(LONG, 8), mosei_path(DASH, 0))
    table = scan(answered)
    assert row(table, 0) == {
        "corpus": "m", "split": "train", "clip_id": f"{LONG}_1", "group": LONG, "group_kind": "video",
        "language": "en", "text": "It was fine.", "media": str(answered / "m" / mosei_path(LONG, 1)),
        "fallback_media": str(answered / "m" / full_path(LONG)), "fallback_start": 4.25, "fallback_end": 9.0,
        "emotion.Neutral": 0.0, "emotion.Happiness": pytest.approx(5 / 9), "emotion.Sadness": 0.0,
        "emotion.Anger": pytest.approx(1 / 9), "emotion.Surprise": 0.0, "emotion.Disgust": 0.0, "emotion.Fear": 0.0,
        "raw.sentiment": "-0.3333333", "raw.happiness": "1.666667", "raw.sadness": "0", "raw.anger": "0.3333333",
        "raw.surprise": "0", "raw.disgust": "0", "raw.fear": "0", "raw.workers": "3", "raw.start": "4.25",
        "raw.end": "9", "raw.annotated_seconds": "4.75",
    }  # fmt: skip
    assert table.clips["clip_id"].tolist() == [f"{LONG}_1", f"{DASH}_0", f"{LONG}_8"]
    assert table.clips["emotion.Neutral"].tolist() == [0.0, 1.0, 0.0]
    assert table.clips["media"].notna().all()
    assert table.clips["fallback_media"].notna().tolist() == [True, False, False]  # the last has no times
    where = "m/Raw/Labels/first_batch.csv, row 5"
    assert defects(table) == [("missing_text", where, "no transcript; the text modality is absent")]


def test_labels_may_be_shares_of_the_workers(answered: Path) -> None:
    """Three workers: two see happiness, one of them anger, too; one sees nothing. How intense it was does not count."""
    table = scan(answered, intensities="votes")
    assert table.clips["emotion.Happiness"].tolist() == [pytest.approx(2 / 3), 0.0, 1.0]
    assert table.clips["emotion.Anger"].tolist() == [pytest.approx(1 / 3), 0.0, 0.0]
    assert table.clips["emotion.Neutral"].tolist() == [0.0, 1.0, 0.0]
    means = scan(answered)
    emotions = [name for name in table.clips if name.startswith("emotion.")]
    assert ((table.clips[emotions] > 0) == (means.clips[emotions] > 0)).all(axis=None)  # presence is the same
    assert list(table.clips) == list(means.clips)


def test_workers_are_told_apart_in_answers_alone(tmp_path: Path) -> None:
    write_csd(tmp_path / "m", LINES[:2])
    with pytest.raises(CorpusError, match=r'm.intensities = "votes" counts workers, .* labels are read from .csd.'):
        scan(tmp_path, intensities="votes")


def test_answers_that_cannot_be_used(answered: Path) -> None:
    batch = answered / "m/Raw/Labels/first_batch.csv"
    lines = batch.read_bytes().splitlines()
    head = lines[0].decode().split(",")
    bad = ["HIT9", "w9", LONG, "2", *["0"] * 7]
    bad[head.index("Answer.fear")], bad[head.index("Answer.anger")] = "7", "much"
    blank = ["HIT9", "w9", LONG, "3", *[""] * 7]
    lines += [",".join(cells).encode() for cells in (bad, blank, ["H", "\xe9", LONG, "two", *["0"] * 7])]
    lines += ["H,caf\xe9,,1".encode("latin-1") + b",0" * 7]
    batch.write_bytes(b"\n".join(lines))
    (batch.parent / "notes.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    table = scan(answered)
    found = defects(table)
    unusable = "an answer needs Input.VIDEO_ID and a whole number in Input.CLIP; not used"
    assert found[:6] == [
        ("bad_label", "m/Raw/Labels/first_batch.csv, row 6, column 'Answer.anger'",
         "'much' is not a number; correct the cell"),
        ("bad_label", f"m/Raw/Labels/first_batch.csv, row 6, video '{LONG}', column 'Answer.fear'",
         "fear is 7, outside [0, 3]"),
        ("unusable_row", "m/Raw/Labels/first_batch.csv, row 8", unusable),
        ("unusable_row", "m/Raw/Labels/first_batch.csv, row 9", unusable),
        ("ignored", "m/Raw/Labels/notes.csv", "it has no column 'Input.VIDEO_ID'; not read as answers"),
        ("missing_label", "m/Raw/Labels/first_batch.csv, row 7",
         "no emotion is annotated; the clip is kept without labels"),
    ]  # fmt: skip
    clip = table.clips.set_index("clip_id").loc[f"{LONG}_2"]
    assert clip[["emotion.Anger", "emotion.Fear", "emotion.Neutral"]].isna().all()
    assert clip["emotion.Sadness"] == 0.0


def test_no_table_of_answers(answered: Path) -> None:
    for file in (answered / "m/Raw/Labels").iterdir():
        file.write_text("a,b\n1,2\n", encoding="utf-8")
    message = r"no table with columns Input\.VIDEO_ID, .* Labels below .*batch\.csv has no column 'Input\.VIDEO_ID'$"
    with pytest.raises(CorpusError, match=message):
        scan(answered)


# --- flat tables


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    write_table(tmp_path / "m/train_full_with_description.csv", [
        (LONG, -0.3, 4.4, "Kites, three.", JOY, "The man waves."),
        (f"{DASH}x", 5.0, 10.0, "Warm.", {"Neutral": 1.0}, "Still."),
    ])  # fmt: skip
    write_table(tmp_path / "m/mosei_val.csv", [(SHORT, 6.0, 12.0, "Bus.", {"Fear": 1.0}, " ")])
    put(tmp_path / "m", "train_notes.csv", "other.csv", content="name,text\na,b\n")
    return tmp_path


def test_flat_tables(flat: Path) -> None:
    put(flat / "m", f"clips/{LONG}_-0.3000_4.4000.mp4", full_path(f"{DASH}x"), f"{SHORT}.mp4")
    table = scan(flat)
    assert row(table, 0) == {
        "corpus": "m", "split": "train", "clip_id": f"{LONG}_-0.3000_4.4000", "group": LONG, "group_kind": "video",
        "language": "en", "text": "Kites, three.", "description": "The man waves.",
        "media": str(flat / f"m/clips/{LONG}_-0.3000_4.4000.mp4"), "emotion.Neutral": 0.0, "emotion.Anger": 0.0,
        "emotion.Disgust": 0.0, "emotion.Fear": 0.0, "emotion.Happiness": 0.75, "emotion.Sadness": 0.0,
        "emotion.Surprise": 0.25, "raw.Neutral": "0.0", "raw.Anger": "0.0", "raw.Disgust": "0.0", "raw.Fear": "0.0",
        "raw.Happiness": "0.75", "raw.Sadness": "0.0", "raw.Surprise": "0.25", "raw.Other": "0.0",
        "raw.start": "-0.3", "raw.end": "4.4", "raw.annotated_seconds": "4.4",
    }  # fmt: skip
    clips = table.clips
    assert clips["split"].tolist() == ["train", "train", "dev"]
    assert clips["group"].tolist() == [LONG, f"{DASH}x", SHORT]
    assert clips[["start", "end"]].fillna(-1).to_numpy().tolist() == [[-1, -1], [5, 10], [-1, -1]]
    assert clips["description"].isna().tolist() == [False, False, True]
    assert clips["emotion.Neutral"].tolist() == [0.0, 1.0, 0.0]
    assert [(kind, where[-5:]) for kind, where, _ in defects(table)] == [
        ("mended", "row 2"), ("missing_annotation", "3.mp4"), ("mended", "row 3"), ("missing_media", "row 2"),
    ]  # fmt: skip


def test_table_with_the_official_files_beside_it(flat: Path) -> None:
    write_csd(flat / "m", LINES[:3])
    write_transcripts(flat / "m", LINES[:10])
    put(flat / "m", mosei_path(LONG, 0), mosei_path(SHORT, 2))
    table = scan(flat)
    assert table.clips["raw.sentiment"].fillna("?").tolist() == ["1", "?", "?"]  # 0 to 4.4 of 0 to 4.5 s shared
    assert table.clips["text"].tolist() == ["Kites, three.", "Warm.", "Bus."]
    assert table.clips["media"].isna().tolist() == [False, True, False]
    assert "raw.happiness" not in table.clips
    far = [(where, reason) for kind, where, reason in defects(table) if kind == "disagreement"]
    reason = f"no interval of m/{CSD} is near; its sentiment is unknown"
    places = ["m/train_full_with_description.csv, row 3", "m/mosei_val.csv, row 2"]
    assert far == [(place, reason) for place in places]
    assert scan(flat, labels_from="csd").clips["clip_id"].tolist() == [f"{LONG}_{clip}" for clip in range(3)]


def test_table_rows_that_cannot_be_used(flat: Path) -> None:
    path = flat / "m/mosei_val.csv"
    with path.open("a", encoding="utf-8") as file:
        file.write("noTimes,a,1,0,0,0,0,0,0,0,b\nv_0_1,a,0.5,x,0,0,0,1.5,0,0,b\nv_1_2,,,,,,,,,,b\n")
    put(flat / "m", "mosei_val.txt")
    table = scan(flat, splits=["dev"])
    assert defects(table)[:4] == [
        ("bad_label", "m/mosei_val.csv, row 4, column 'Anger'",
         "'x' is not a number; correct the cell"),
        ("bad_label", "m/mosei_val.csv, row 4, column 'Sadness'",
         "label 1.5 lies outside [0, 1]; set `scale = [lowest, highest]`"),
        ("unusable_row", "m/mosei_val.csv, row 3, column 'video_name'",
         "'noTimes' is not <video id>_<start>_<end>; not used"),
        ("missing_label", "m/mosei_val.csv, row 5", "no emotion is annotated; the clip is kept without labels"),
    ]  # fmt: skip
    assert [kind for kind, _, _ in defects(table)[4:]] == ["missing_text", "mended"]
    assert table.clips["clip_id"].tolist() == [f"{SHORT}_6.0000_12.0000", "v_0_1", "v_1_2"]


def test_a_text_that_a_table_lacks_is_the_transcripts(flat: Path) -> None:
    write_transcripts(flat / "m", LINES[:10])
    frame = pd.read_csv(flat / "m/mosei_val.csv").drop(columns=["text", "text_llm", "Other"])
    frame.to_csv(flat / "m/mosei_val.csv", index=False)
    found = scan(flat, splits=["dev"]).clips.iloc[0]
    assert found["text"] == "Then the bus came."
    assert pd.isna(found["description"])


def test_two_tables_of_a_split(flat: Path) -> None:
    table = flat / "m/mosei_val.csv"
    (flat / "m/sub").mkdir()
    (flat / "m/sub/dev.csv").write_bytes(table.read_bytes())
    assert len(scan(flat).clips) == 3
    (flat / "m/sub/dev.csv").write_bytes(table.read_bytes() + b"v_0_1,a,1,0,0,0,0,0,0,0,b\n")
    with pytest.raises(
        CorpusError, match=r"m/mosei_val.csv and m/sub/dev.csv differ, and either could be the table; set"
    ):
        scan(flat)
    put(flat / "m/more", "a_train.csv", content="video_name,text\n")
    message = r"no table named train\*\.csv, .*; m/more/a_train\.csv has no column 'Neutral'$"
    with pytest.raises(CorpusError, match=message):
        scan(flat, path="m/more", labels_from="table")


def test_a_folds_file_goes_before_the_names_of_tables(flat: Path) -> None:
    put(flat / "m", "folds.json", content=json.dumps({"valid": [LONG, SHORT], "test": []}))
    table = scan(flat)
    assert table.clips["split"].tolist() == ["dev", "train", "dev"]
    where = "m/train_full_with_description.csv, row 2"
    assert defects(table)[0] == (
        "disagreement", where, "1 clips, this first, are in another split by m/folds.json, which is used"
    )  # fmt: skip


# --- MMSA


@pytest.fixture
def mmsa(tmp_path: Path) -> Path:
    write_mmsa(tmp_path / "m", [LINES[4], LINES[9], LINES[10]])
    return tmp_path


def test_mmsa_table(mmsa: Path) -> None:
    put(mmsa / "m", mmsa_path(DASH, 0), mmsa_path(SHORT, 2), mmsa_path(LINES[10].video, 0))
    table = scan(mmsa)
    assert row(table, 0) == {
        "corpus": "m", "split": "train", "clip_id": f"{DASH}_0", "group": DASH, "group_kind": "video",
        "language": "en", "text": "Soup, then.", "media": str(mmsa / "m/Raw" / DASH / "0.mp4"),
        "raw.sentiment": "3", "raw.annotation": "Positive",
    }  # fmt: skip
    assert table.clips["split"].tolist() == ["train", "dev", "test"]
    assert table.clips["raw.sentiment"].tolist() == ["3", "-3", "1"]
    assert set(EMOTIONS) <= set(table.clips)
    assert table.clips[EMOTIONS].isna().all(axis=None)
    assert len(table.defects) == 0


def test_mmsa_rows_that_cannot_be_used(mmsa: Path) -> None:
    with (mmsa / "m/label.csv").open("a", encoding="utf-8") as file:
        file.write("v,1,a,4,,train\nv,2,a,x,,train\nv,,a,1,,train\nv,3,a,1,,other\n")
    table = scan(mmsa)
    assert defects(table) == [
        ("bad_label", "m/label.csv, row 6, column 'label'",
         "'x' is not a number; correct the cell"),
        ("unknown_split", "m/label.csv, row 8",
         "'other' is no split; splits are train, dev, val, valid, validation, test, training, "
         "development, testing"),
        ("unusable_row", "m/label.csv, row 7", "a clip needs a video id and a clip id; not used"),
        ("bad_label", "m/label.csv, row 5, video 'v'", "sentiment is 4, outside [-3, 3]"),
    ]  # fmt: skip
    assert table.clips["clip_id"].tolist()[3:] == ["v_1", "v_2"]
    assert scan(mmsa, fractions={"test": 1.0}).clips["clip_id"].tolist()[5:] == ["v_3"]


def mmsa_pickle(**changes: Any) -> dict[str, Any]:
    part = {
        "id": np.array([f"{DASH}$_$0", f"{LONG}$_$12"]), "raw_text": np.array(["Soup.", " "], dtype=object),
        "regression_labels": np.array([[1.5], [-3.0]], dtype=np.float32), "annotations": ["Positive", "Negative"],
        "audio": np.zeros((2, 3, 4), dtype=np.float32), "audio_lengths": [3, 2], **changes,
    }  # fmt: skip
    later = {"id": [f"{SHORT}$_$1", "no separator"], "regression_labels": [0.25, 0.0]}
    return {"train": part, "valid": later, "test": {"id": [], "regression_labels": []}}


def test_mmsa_pickle(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/aligned_50.pkl").write_bytes(pickle.dumps(mmsa_pickle()))
    (tmp_path / "m/unaligned_50.pkl").write_bytes(pickle.dumps(mmsa_pickle(vision=np.zeros((2, 9)))))
    table = scan(tmp_path)
    assert row(table, 0) == {
        "corpus": "m", "split": "train", "clip_id": f"{DASH}_0", "group": DASH, "group_kind": "video",
        "language": "en", "text": "Soup.", "raw.sentiment": "1.5", "raw.annotation": "Positive",
    }  # fmt: skip
    assert table.clips["clip_id"].tolist() == [f"{DASH}_0", f"{LONG}_12", f"{SHORT}_1"]
    assert table.clips["split"].tolist() == ["train", "train", "dev"]
    assert table.clips["raw.sentiment"].tolist() == ["1.5", "-3", "0.25"]
    text = "no transcript; the text modality is absent"
    assert defects(table) == [
        ("ignored", "m/unaligned_50.pkl", "labels are read from m/aligned_50.pkl"),
        ("unusable_row", "m/aligned_50.pkl, valid, row 1", "a clip needs a video id and a clip id; not used"),
        ("missing_text", "m/aligned_50.pkl, train, row 1", text),
        ("missing_text", "m/aligned_50.pkl, valid, row 0", text),
    ]


class _Harm:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("harm",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": _Harm()}, r"^m/a\.pkl .*builtins\.print"),
        ([1, 2], r"^m/a\.pkl is not a pickle of MMSA: expected train, valid and test, each with id and regression_lab"),
        ({}, r"m/a\.pkl is not a pickle of MMSA"),
        ({"other": {}}, r"m/a\.pkl is not a pickle of MMSA"),
        ({"train": {"id": ["a$_$1"]}}, r"not a pickle of MMSA.* \(KeyError: 'regression_labels'\)"),
        (mmsa_pickle(regression_labels=[1.0]), r"not a pickle of MMSA.*ValueError"),
        (mmsa_pickle(raw_text=["one"]), r"not a pickle of MMSA.*ValueError"),
    ],
)
def test_pickles_that_are_refused(
    tmp_path: Path, content: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(CorpusError, match=message):
        scan(tmp_path)
    assert capsys.readouterr().out == ""


def test_neither_table_nor_pickle_of_mmsa(tmp_path: Path) -> None:
    write_csd(tmp_path / "m", LINES[:2])
    with pytest.raises(
        CorpusError, match=r"no label\.csv and no pickle \(\.pkl\) of MMSA in or below .*; set the corpus' path"
    ):
        scan(tmp_path, labels_from="mmsa")


# --- folds

PYTHON = f'''"""Folds."""
import os
standard_train_fold = ["{LONG}"]
standard_valid_fold=("{DASH}",)
standard_test_fold = ['{SHORT}']
folds = os.listdir(".")
'''


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("standard_folds.json", json.dumps({"train": [LONG], "dev": [DASH], "test": [SHORT], "note": "mine"})),
        ("sub/My-Folds.JSON", json.dumps({"standard_train_fold": [LONG], "valid": [DASH], "test": [SHORT]})),
        ("cmu_mosei_std_folds.py", PYTHON),
        ("folds.csv", f"video_id,split\n{LONG},train\n\n{DASH},valid\n{SHORT},test\n"),
        ("fold.txt", f"{LONG} train\n{DASH}\tval\n{SHORT}, Test\n"),
    ],
)
def test_files_of_folds(tmp_path: Path, name: str, content: str) -> None:
    write_mosei(tmp_path / "m", [LINES[1], LINES[4], LINES[7]])
    (tmp_path / "m/standard_folds.json").unlink()
    put(tmp_path / "m", name, content=content)
    clips = scan(tmp_path).clips
    assert dict(zip(clips["group"], clips["split"], strict=True)) == {LONG: "train", DASH: "dev", SHORT: "test"}


def test_lists_of_folds(tmp_path: Path) -> None:
    write_mosei(tmp_path / "m", [LINES[1], LINES[4], LINES[7]])
    (tmp_path / "m/standard_folds.json").unlink()
    put(tmp_path / "m", "train_ids.txt", content=f"{LONG}\n")
    put(tmp_path / "m", "Valid.txt", content=f"{DASH}\r\n\n")
    put(tmp_path / "m", "trainee.txt", "test.csv", content="words")
    with pytest.raises(CorpusError, match="the standard folds are missing"):
        scan(tmp_path)
    put(tmp_path / "m", "test.txt", content=SHORT)
    clips = scan(tmp_path).clips
    assert dict(zip(clips["group"], clips["split"], strict=True)) == {LONG: "train", DASH: "dev", SHORT: "test"}


def test_folds_from_the_labels_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write_mosei(folder, [LINES[1], LINES[4], LINES[7]])
    (folder / "standard_folds.json").unlink()
    write_table(folder / "train.csv", [(SHORT, 0.0, 1.0, "a", JOY, ""), (LONG, 0.0, 1.0, "a", JOY, "")])
    assert scan(tmp_path, labels_from="csd").clips["group"].tolist() == [SHORT, LONG]
    write_mmsa(folder, [LINES[4], LINES[7]])
    table = scan(tmp_path, labels_from="csd")
    assert dict(zip(table.clips["group"], table.clips["split"], strict=True)) == {DASH: "train", SHORT: "dev"}
    reason = f"video '{LONG}' is in no fold of m/label.csv, column 'mode'; its clips (1) are not used"
    assert ("unusable_row", f"m/{CSD}, video '{LONG}', row 0", reason) in defects(table)


EXPECTED = "expected three lists of video ids named train, valid and test, or lines of a video id and its split"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("folds.json", "{", rf"^m/folds\.json does not hold folds \(.*\); {EXPECTED}$"),
        ("folds.json", "[1]", r"m/folds\.json does not hold folds"),
        ("folds.json", '{"train": 3}', r"m/folds\.json does not hold folds"),
        ("folds.json", '{"train": "abc"}', r"\(a fold is a text, not a list\)"),
        ("folds.json", '{"train": [1]}', r"\(a video id is no text\)"),
        ("folds.json", '{"train": ["\\ud800"]}', r"m/folds\.json does not hold folds"),
        ("folds.json", "[" * 100_000, r"m/folds\.json does not hold folds"),
        ("folds.json", '{"other": ["a"]}', r"^m/folds\.json names no video; it should say which videos are in train"),
        (
            "folds.json",
            '{"train": ["a"], "test": ["a"]}',
            r"^m/folds\.json: video 'a' is in train and in test; leave it",
        ),
        ("folds.py", "standard_train_fold = open('a')", r"m/folds\.py does not hold folds"),
        ("folds.py", "a =", r"m/folds\.py does not hold folds"),
        ("folds.txt", "a train\nb odd\n", r"^m/folds\.txt: video 'b' is in 'odd'; splits are train, dev, val"),
        ("folds.txt", "a train\nb\n", r"\(found the line 'b'\)"),
    ],
)
def test_folds_that_cannot_be_read(tmp_path: Path, name: str, content: str, message: str) -> None:
    write_mosei(tmp_path / "m", LINES[:2])
    (tmp_path / "m/standard_folds.json").unlink()
    put(tmp_path / "m", name, content=content)
    with pytest.raises(CorpusError, match=message):
        scan(tmp_path)
    (tmp_path / "m" / name).write_bytes(b"a train\n\xff")
    with pytest.raises(CorpusError, match=rf"^m/{name} is not utf-8 at byte 8; it should list video ids$"):
        scan(tmp_path)


def test_folds_that_differ(tmp_path: Path) -> None:
    write_mosei(tmp_path / "m", LINES[:2])
    put(tmp_path / "m", "z_fold.csv", content=f"{LONG},train\n")
    assert len(scan(tmp_path).clips) == 2
    put(tmp_path / "m", "z_fold.csv", content=f"{LONG},test\n")
    with pytest.raises(CorpusError, match=r"^m/standard_folds\.json and m/z_fold\.csv say different folds; keep one"):
        scan(tmp_path)


# --- damaged files


def test_files_without_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "table/train.csv", [])
    write_mmsa(tmp_path / "mmsa", [])
    write_answers(tmp_path / "amt", "b", [])
    for name in ("amt", "amt_with_lines"):
        write_answers(tmp_path / name, "b", [])
        write_folds(tmp_path / name, LINES[:1])
    write_transcripts(tmp_path / "amt_with_lines", LINES[:2])
    (tmp_path / "pickle").mkdir()
    empty = {"train": {"id": [], "regression_labels": []}}
    (tmp_path / "pickle/a.pkl").write_bytes(pickle.dumps(empty))
    for name in ("table", "mmsa", "amt", "amt_with_lines", "pickle"):
        assert len(scan(tmp_path, path=name).validate(BUILTIN_TASKS).clips) == 0


def damaged(content: bytes, times: int) -> list[bytes]:
    chance = random.Random(7)
    found = [content[: len(content) * part // times] for part in range(times)]
    for _ in range(times):
        changed = bytearray(content)
        for _ in range(3):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        place = chance.randrange(len(changed))
        changed[place:place] = chance.randbytes(4)
        found.append(bytes(changed))
    return found


@pytest.mark.parametrize(
    ("shape", "file"),
    [
        ("csd", CSD), ("csd", f"Raw/Transcript/Segmented/Combined/{LONG}.txt"), ("csd", "standard_folds.json"),
        ("csd", "cmu_mosei_std_folds.py"), ("amt", "Raw/Labels/b.csv"), ("table", "dev.csv"), ("mmsa", "label.csv"),
        ("mmsa", "a.pkl"),
    ],
)  # fmt: skip
def test_damaged_files_raise_nothing_else(tmp_path: Path, shape: Labels, file: str) -> None:
    folder = tmp_path / "m"
    if shape == "csd":
        write_mosei(folder, LINES[:3])
    if file.endswith(".py"):
        (folder / "standard_folds.json").unlink()
        put(folder, file, content=PYTHON)
    elif shape == "amt":
        write_answers(folder, "b", [(LONG, 1, "w", (0.0,) * 7), (DASH, 0, "w", (1.0,) * 7)])
        write_folds(folder, LINES[:6])
    elif shape == "table":
        write_table(folder / file, [(LONG, -0.3, 4.4, "Kites, three.", JOY, "d"), (DASH, 5.0, 9.0, "W", JOY, "d")])
    elif file == "label.csv":
        write_mmsa(folder, LINES[:5])
    elif file == "a.pkl":
        folder.mkdir()
        (folder / file).write_bytes(pickle.dumps(mmsa_pickle()))
    content, read = (folder / file).read_bytes(), 0
    for broken in (content, *damaged(content, 20 if file in (CSD, "a.pkl") else 8)):
        (folder / file).write_bytes(broken)
        try:
            scan(tmp_path, labels_from=shape).validate(BUILTIN_TASKS)
            read += 1
        except CorpusError as error:
            assert Path(file).name in str(error)  # noqa: PT017
    assert read


def test_segments_of_the_writer_default_to_no_emotion() -> None:
    assert MoseiSegment("v", 0, 0.0, 1.0, "x", -1.0, {"fear": 2.0}).intensities == [-1.0, 0, 0, 0, 0, 0, 2.0]
