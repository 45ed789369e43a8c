"""Datasets of Hugging Face: a clip table goes out and comes back, and what a dataset holds is read as cells."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, disable_progress_bars

from corpora.clips import ClipTable, CorpusError, conform
from corpora.reading.hugging_face import dataset_frame, to_dataset
from corpora.table import TableCorpus
from corpora.timeline import Segment, Timeline
from mmpsr.tasks import AMBIVALENCE, PERSONALITY

TASKS = {"ambivalence": AMBIVALENCE, "personality": PERSONALITY}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    disable_progress_bars()


def table(folder: Path) -> ClipTable:
    """Five clips of three splits; the fourth has no label, and none has a speaker."""
    for name in "abcde":
        (folder / "media").mkdir(exist_ok=True)
        (folder / "media" / f"{name}.wav").touch()
    clips = pd.DataFrame({
        "corpus": "mine", "split": ["train", "train", "dev", "test", "test"], "clip_id": list("abcde"),
        "media": [str(folder / "media" / f"{name}.wav") for name in "abcde"], "start": [0.5, np.nan, 0.0, 1.25, 2.0],
        "group": ["p1", "p1", "p2", "p3", "p3"], "group_kind": "participant",
        "text": ["Well.", None, 'é, "so"', "", "no"],
        "consent_publications": [True, False, None, True, True],
        "ambivalence.absent": [1.0, 0.0, 1.0, np.nan, 0.0], "ambivalence.present": [0.0, 1.0, 0.0, np.nan, 1.0],
        "personality.openness": [0.1, 1 / 3, np.nan, np.nan, 0.9],
    })  # fmt: skip
    return ClipTable(conform(clips)).validate(TASKS)


def test_a_clip_table_goes_out_and_comes_back(tmp_path: Path) -> None:
    before = table(tmp_path)
    dataset = to_dataset(before, TASKS)
    assert {name: split.num_rows for name, split in dataset.items()} == {"train": 2, "validation": 1, "test": 2}
    assert dataset["train"].features["ambivalence"] == ClassLabel(names=["absent", "present"])
    assert [row["ambivalence"] for row in dataset["test"]] == [None, 1]
    assert "speaker" not in dataset["train"].column_names
    dataset.save_to_disk(tmp_path / "exported")
    source = TableCorpus.model_validate({
        "adapter": "table", "id": "clip_id", "media": "media", "start": "start", "group": "group", "text": "text",
        "group_kind": "participant", "consent_publications": "consent_publications",
        "files": {split: f"exported/{word}" for split, word in
                  (("train", "train"), ("dev", "validation"), ("test", "test"))},
        "labels": {"ambivalence": {"column": "ambivalence"}, "personality": {"openness": "personality.openness"}},
    })  # fmt: skip
    after = source.read("mine", tmp_path, TASKS)
    assert len(after.defects) == 0
    clips = after.validate(TASKS).clips
    expected = before.clips.assign(text=before.clips["text"].mask(before.clips["text"].eq("")))
    pd.testing.assert_frame_equal(clips[expected.columns], expected)


def test_paths_are_written_relative_where_asked(tmp_path: Path) -> None:
    clips = table(tmp_path)
    assert to_dataset(clips, TASKS, tmp_path)["validation"]["media"][:] == ["media/c.wav"]
    with pytest.raises(CorpusError, match=r"a\.wav lies outside .*elsewhere, to which paths should be"):
        to_dataset(clips, TASKS, tmp_path / "elsewhere")


def test_what_a_dataset_cannot_hold_is_refused(tmp_path: Path) -> None:
    clips = table(tmp_path)
    timeline = Timeline(None, segments=(Segment(0.0, 1.0, 1),))
    timed = ClipTable(clips.clips, clips.defects, {("mine", "b"): {"ambivalence": timeline}})
    with pytest.raises(CorpusError, match="1 clips have labels in time, the first 'b' of 'mine', for which"):
        to_dataset(timed, TASKS)
    clips.clips.loc[2, ["ambivalence.absent", "ambivalence.present"]] = 0.5
    with pytest.raises(CorpusError, match=r"mine/c: the label of ambivalence is \[0\.5, 0\.5\], which is no"):
        to_dataset(clips, TASKS)


def media_file(folder: Path) -> Path:
    path = folder / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 80)
    return path


def test_classes_are_names_and_media_are_paths(tmp_path: Path) -> None:
    content = {"bytes": Value("binary"), "path": Value("string")}
    features = Features({"label": ClassLabel(names=["no", "yes"]), "sound": content, "n": Value("int64")})
    columns: dict[str, Any] = {
        "label": [1, -1, None], "n": [1, None, 3],
        "sound": [{"bytes": None, "path": str(media_file(tmp_path))}, {"bytes": b"abc", "path": None}, None],
    }  # fmt: skip
    dataset = Dataset.from_dict(columns, features=features)
    frame = dataset_frame(dataset.select([2, 1, 0]))  # in the order of the view, not of the file
    assert frame["label"].fillna("-").tolist() == ["-", "-", "yes"]
    assert frame["sound"].fillna("-").tolist() == ["-", "(3 bytes in the dataset)", str(tmp_path / "a.wav")]
    assert frame["n"].isna().tolist() == [False, True, False]


def read(root: Path, files: Any) -> ClipTable:
    return TableCorpus.model_validate({"adapter": "table", "files": files, "id": "id"}).read("mine", root, TASKS)


def test_errors_name_the_folder_and_what_to_do(tmp_path: Path) -> None:
    dataset = Dataset.from_dict({"id": ["a", "b"]})
    DatasetDict({"train": dataset, "validation": dataset}).save_to_disk(tmp_path / "both")
    with pytest.raises(CorpusError, match=r"both holds a dataset for each split; name them: files = \{ train = \"bo"):
        read(tmp_path, "both")
    assert read(tmp_path, {"train": "both/train"}).clips["clip_id"].tolist() == ["a", "b"]
    with pytest.raises(CorpusError, match=r"both/train has no column 'ident'; known names are id"):
        TableCorpus.model_validate({"adapter": "table", "files": {"train": "both/train"}, "id": "ident"}).read(
            "mine", tmp_path, TASKS
        )
    for file in (tmp_path / "both" / "train").glob("*.arrow"):
        file.write_bytes(b"ARROW1")
    with pytest.raises(CorpusError, match="both/train cannot be read as a dataset: "):
        read(tmp_path, {"train": "both/train"})
    with pytest.raises(CorpusError, match="there is no file"):
        read(tmp_path, {"train": "both/tain"})
