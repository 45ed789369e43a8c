from __future__ import annotations

import os
import pickle
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from corpora.clips import ClipTable, CorpusError, label_columns
from corpora.demo.layouts import fiv2_path
from corpora.fiv2.corpus import FirstImpressionsCorpus, _split_of
from corpora.registry import CorporaConfig
from mmpsr.tasks import BUILTIN_TASKS, PERSONALITY, TaskSpec
from tests.support.fiv2_tree import CLIPS, build

TASKS = {**BUILTIN_TASKS, "interview": TaskSpec(kind="regression", classes=("invite",), loss="mae", metrics=("mae",))}
LABELS = label_columns("personality", PERSONALITY)
TRAINING = Path("fiv2/train-annotation/annotation_training.pkl")
SPOKEN = Path("fiv2/train-transcription/transcription_training.pkl")
DOTS = "-aB3_dots.in.it"
# {trait: {'-aB.000.mp4': 0.5}} with 0.25 for neuroticism, and {'-aB.000.mp4': 'caf\xe9'}, as Python 2 writes them
PYTHON_2_SCORES = (
    b"\x80\x02}q\x00(U\x0cextraversionq\x01}q\x02U\x0b-aB.000.mp4q\x03G?\xe0\x00\x00\x00\x00\x00\x00s"
    b"U\x0bneuroticismq\x04}q\x05h\x03G?\xd0\x00\x00\x00\x00\x00\x00sU\x0dagreeablenessh\x02"
    b"U\x11conscientiousnessh\x02U\x08opennessh\x02u."
)
PYTHON_2_WORDS = b"(dp0\nS'-aB.000.mp4'\np1\nS'caf\\xe9'\np2\ns."


@pytest.fixture
def root(tmp_path: Path) -> Path:
    build(tmp_path / "fiv2")
    return tmp_path


def corpus(**settings: Any) -> FirstImpressionsCorpus:
    return FirstImpressionsCorpus.model_validate({"adapter": "fiv2", "path": "fiv2", **settings})


def scan(root: Path, **settings: Any) -> ClipTable:
    return corpus(**settings).scan("fiv2", root, TASKS)


def failure(root: Path, **settings: Any) -> str:
    with pytest.raises(CorpusError) as error:
        scan(root, **settings)
    return str(error.value)


def change(path: Path, alter: Any) -> None:
    """Alter the content of a pickle."""
    content = pickle.loads(path.read_bytes())
    alter(content)
    path.write_bytes(pickle.dumps(content, 2))


def notes(table: ClipTable) -> list[tuple[Any, ...]]:
    frame = table.defects[["clip_id", "kind", "where", "reason"]].astype(object)
    return list(frame.where(frame.notna(), None).itertuples(index=False, name=None))


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def without_media(root: Path) -> None:
    for path in root.rglob("*.mp4"):
        path.unlink()


def test_official_layout(root: Path) -> None:
    table = scan(root, release="2017")
    clips = table.validate(BUILTIN_TASKS).clips
    assert clips["clip_id"].tolist() == [
        f"{DOTS}.000", f"{DOTS}.005", "_Qw7rT-yUi0.001", "xYz12345678.000", "xYz12345678.004",
        f"{DOTS}.003", "kLm_opQrSt9.002", "-__-aaaaaaa.000", "xYz12345678.001",
    ]  # fmt: skip
    assert clips["split"].tolist() == ["train"] * 5 + ["dev"] * 2 + ["test"] * 2
    first = clips.iloc[0].dropna().to_dict()
    assert first == {
        "corpus": "fiv2",
        "release": "2017",
        "split": "train",
        "clip_id": "-aB3_dots.in.it.000",
        "media": str(root / "fiv2/train-1/training80_01/-aB3_dots.in.it.000.mp4"),
        "group": "-aB3_dots.in.it",
        "group_kind": "video",
        "language": "en",
        "text": "Hello, so this is my boat.",
        # 0.125 and a sixteenth more for each of extraversion, neuroticism, agreeableness, conscientiousness,
        # interview, openness
        "personality.extraversion": 0.125,
        "personality.non-neuroticism": 0.1875,
        "personality.agreeableness": 0.25,
        "personality.conscientiousness": 0.3125,
        "personality.openness": 0.4375,
        "raw.extraversion": "0.125",
        "raw.neuroticism": "0.1875",
        "raw.agreeableness": "0.25",
        "raw.conscientiousness": "0.3125",
        "raw.interview": "0.375",
        "raw.openness": "0.4375",
        "raw.ethnicity": "Caucasian",
        "raw.gender": "male",
    }
    assert clips["media"].tolist() == [str(root / "fiv2" / fiv2_path(clip)) for clip in sorted_clips()]
    assert clips["text"].tolist()[2:5] == [
        "Café first, then — work.", "Nothing here costs a thing.", "A list; with semicolons, too.",
    ]  # fmt: skip
    assert clips["personality.extraversion"].tolist() == [0.125, 0.25, 0.375, 0.0, 0.5, 0.375, 0.25, 0.5, 0.125]
    assert clips["group"].tolist()[-2:] == ["-__-aaaaaaa", "xYz12345678"]
    assert clips["raw.ethnicity"].tolist()[2:5] == ["Asian", "African-American", "African-American"]
    assert clips["raw.ethnicity"].tolist()[-2:] == ["Asian", "African-American"]
    assert clips["raw.gender"].tolist()[-2:] == ["male", "female"]
    assert clips[["raw.interview", "raw.gender"]].dtypes.eq("string").all()
    assert "annotated" not in clips
    words = "no words in fiv2/test-transcription/transcription_test.pkl"
    where = "fiv2/test-annotation/annotation_test.pkl, -__-aaaaaaa.000.mp4"
    assert notes(table) == [("-__-aaaaaaa.000", "missing_text", where, words)]
    assert pd.isna(clips["text"].iloc[7])


def sorted_clips() -> list[Any]:
    return sorted(CLIPS, key=lambda clip: (["train", "dev", "test"].index(clip.split), clip.clip_id))


def test_the_layout_that_is_written(root: Path) -> None:
    assert [fiv2_path(clip).as_posix() for clip in CLIPS[3:7]] == [
        "train-2/training80_14/xYz12345678.000.mp4", "train-6/training80_75/xYz12345678.004.mp4",
        "val-1/validation80_01/-aB3_dots.in.it.003.mp4", "val-2/validation80_25/kLm_opQrSt9.002.mp4",
    ]  # fmt: skip
    assert (root / TRAINING).read_bytes().startswith(b"\x80\x02")
    people = (root / "fiv2/eth_gender_annotations_test.csv").read_text(encoding="utf-8").split()
    assert people == ["VideoName;YouTubeID;Ethnicity;Gender", "xYz12345678.001.mp4;xYz12345678;3;2",
                      "-__-aaaaaaa.000.mp4;-__-aaaaaaa;1;1"]  # fmt: skip


def test_what_is_known_of_the_corpus() -> None:
    assert corpus().published_counts() == {"train": 6000, "dev": 2000, "test": 2000}
    assert corpus().groups_overlap
    assert corpus().label_tasks() == ("personality",)
    config = CorporaConfig.model_validate({"sources": {"fiv2": {"adapter": "fiv2"}}})
    assert isinstance(config.sources["fiv2"], FirstImpressionsCorpus)


@pytest.mark.parametrize("shape", ["flat", "by split", "deep"])
def test_videos_may_lie_anywhere(root: Path, shape: str) -> None:
    expected = {}
    for clip in CLIPS:
        folder = {"flat": "all", "by split": {"dev": "val"}.get(clip.split, clip.split), "deep": "a/b/Test80_01"}[shape]
        target = root / "fiv2" / folder / f"{clip.clip_id}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        (root / "fiv2" / fiv2_path(clip)).rename(target)
        expected[clip.clip_id] = str(target)
    table = scan(root)
    assert dict(zip(table.clips["clip_id"], table.clips["media"], strict=True)) == expected
    assert table.defects["kind"].tolist() == ["missing_text"]


def test_pickles_of_python_2(tmp_path: Path) -> None:
    (tmp_path / "annotation_validation.pkl").write_bytes(PYTHON_2_SCORES)
    (tmp_path / "transcription_validation.pkl").write_bytes(PYTHON_2_WORDS)
    table = scan(tmp_path, path=".")
    assert len(table.defects) == 0
    clip = table.clips.iloc[0]
    assert clip[["clip_id", "split", "text", "group"]].tolist() == ["-aB.000", "dev", "café", "-aB"]
    assert clip[LABELS].tolist() == [0.5, 0.5, 0.5, 0.5, 0.25]
    assert "raw.interview" not in table.clips


def test_a_name_without_a_dot_is_its_own_group(tmp_path: Path) -> None:
    scores = PYTHON_2_SCORES.replace(b"-aB.000.mp4", b"nodotid.mp4")
    (tmp_path / "annotation_validation.pkl").write_bytes(scores)
    assert scan(tmp_path, path=".").clips[["clip_id", "group"]].iloc[0].tolist() == ["nodotid", "nodotid"]


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("train-1/training80_01/a.000.mp4", "train"),
        ("test/Val_2/clips/a.000.mp4", "dev"),
        ("DEV/a.000.mp4", "dev"),
        ("validation80_25/a.000.mp4", "dev"),
        ("first/test80_01/a.000.mp4", "test"),
        ("testimony/trainer/a.000.mp4", None),
        ("clips/test.000.mp4", None),
    ],
)
def test_the_nearest_folder_names_the_split(file: str, split: str | None) -> None:
    assert _split_of(file) == split


def test_transcripts_that_python_2_kept_as_utf_8_are_mended(root: Path) -> None:
    change(root / SPOKEN, lambda words: words.update({f"{DOTS}.000.mp4": "It\u2019s".encode().decode("latin1")}))
    table = scan(root, splits=["train"])
    assert table.clips["text"].tolist()[:3:2] == ["It\u2019s", "Café first, then — work."]
    assert notes(table) == [(None, "mended", SPOKEN.as_posix(), "1 transcripts were UTF-8 read as Latin-1")]


def test_the_interview_score_can_be_a_task(root: Path) -> None:
    table = scan(root, labels={"interview": ["interview"]}, splits=["dev"])
    assert table.clips["interview.invite"].tolist() == [0.625, 0.5]
    assert corpus(labels={"interview": ["interview"]}).label_tasks() == ("personality", "interview")


def test_scores_that_are_missing_or_wrong(root: Path) -> None:
    def alter(traits: dict[str, dict[str, Any]]) -> None:
        del traits["openness"][f"{DOTS}.000.mp4"]
        del traits["interview"][f"{DOTS}.000.mp4"]
        traits["extraversion"][f"{DOTS}.005.mp4"] = 1.5
        traits["agreeableness"][f"{DOTS}.005.mp4"] = float("nan")
        traits["neuroticism"]["_Qw7rT-yUi0.001.mp4"] = ["0.5"]
        traits["neuroticism"]["xYz12345678.000.mp4"] = -0.01
        traits["neuroticism"]["xYz12345678.004.mp4"] = 2**60
        traits["openness"]["_Qw7rT-yUi0.001.mp4"] = "much"
        traits["openness"]["xYz12345678.000.mp4"] = float("inf")
        traits["conscientiousness"]["xYz12345678.000.mp4"] = 1
        traits["conscientiousness"]["xYz12345678.004.mp4"] = "0.25"

    change(root / TRAINING, alter)
    table = scan(root, splits=["train"])
    # in the task's order: openness, conscientiousness, extraversion, agreeableness, non-neuroticism
    np.testing.assert_array_equal(
        table.clips[LABELS].to_numpy(),
        [
            [np.nan, 0.3125, 0.125, 0.25, 0.1875],
            [0.5625, 0.4375, np.nan, np.nan, 0.3125],
            [np.nan, 0.5625, 0.375, 0.5, np.nan],
            [np.nan, 1.0, 0.0, 0.125, np.nan],
            [0.8125, 0.25, 0.5, 0.625, np.nan],
        ],
    )
    assert table.clips["raw.neuroticism"].tolist()[2:] == ["a list", "-0.01", "a int"]
    assert pd.isna(table.clips["raw.interview"].iloc[0])
    where = f"{TRAINING.as_posix()}, "
    tail = ", expected a number in [0, 1]"
    assert notes(table) == [
        ("_Qw7rT-yUi0.001", "bad_label", f"{where}_Qw7rT-yUi0.001.mp4", f"openness is 'much'{tail}"),
        ("xYz12345678.000", "bad_label", f"{where}xYz12345678.000.mp4", f"openness is 'inf'{tail}"),
        (f"{DOTS}.000", "missing_label", f"{where}{DOTS}.000.mp4", "no score of openness"),
        (f"{DOTS}.005", "bad_label", f"{where}{DOTS}.005.mp4", f"extraversion is '1.5'{tail}"),
        (f"{DOTS}.005", "missing_label", f"{where}{DOTS}.005.mp4", "no score of agreeableness"),
        ("_Qw7rT-yUi0.001", "bad_label", f"{where}_Qw7rT-yUi0.001.mp4", f"neuroticism is 'a list'{tail}"),
        ("xYz12345678.000", "bad_label", f"{where}xYz12345678.000.mp4", f"neuroticism is '-0.01'{tail}"),
        ("xYz12345678.004", "bad_label", f"{where}xYz12345678.004.mp4", f"neuroticism is 'a int'{tail}"),
    ]
    with pytest.raises(CorpusError, match=r"annotation_training\.pkl, _Qw7rT-yUi0\.001\.mp4: openness is 'much'"):
        corpus(splits=["train"]).read("fiv2", root, TASKS)


def test_a_clip_of_two_splits_is_an_error(root: Path) -> None:
    change(root / TRAINING, lambda traits: traits["openness"].update({"kLm_opQrSt9.002.mp4": 0.5}))
    table = scan(root)
    (found,) = (note for note in notes(table) if note[1] == "duplicate_id")
    assert found[0] == "kLm_opQrSt9.002"
    assert found[2] == "fiv2/val-annotation/annotation_validation.pkl, kLm_opQrSt9.002.mp4"


def test_media_without_annotation_and_annotation_without_media(root: Path) -> None:
    folder = root / "fiv2/train-1/training80_01"
    (folder / f"{DOTS}.005.mp4").rename(folder / "stray.000.mp4")
    (root / "fiv2/stray.001.mp4").touch()
    (root / "fiv2/val-1/stray.002.mp4").touch()
    unknown = "a video that neither the annotation nor the transcripts know; not used"
    missing = (
        f"{DOTS}.005",
        "missing_media",
        f"{TRAINING.as_posix()}, {DOTS}.005.mp4",
        f"no {DOTS}.005.mp4 in or below {root / 'fiv2'}",
    )
    strays = [
        ("stray.001", "missing_annotation", "fiv2/stray.001.mp4", unknown),
        ("stray.000", "missing_annotation", "fiv2/train-1/training80_01/stray.000.mp4", unknown),
        ("stray.002", "missing_annotation", "fiv2/val-1/stray.002.mp4", unknown),
    ]
    table = scan(root)
    assert sorted(notes(table)[1:]) == sorted([missing, *strays])
    assert table.clips["media"].isna().tolist() == [False, True, *[False] * 7]
    assert notes(scan(root, splits=["train"])) == [missing, strays[1]]  # what is known to belong to train


def test_a_tree_without_any_media_is_fine(root: Path) -> None:
    without_media(root)
    table = scan(root)
    assert table.clips["media"].isna().all()
    assert table.clips["media"].dtype == "string"
    assert table.defects["kind"].tolist() == ["missing_text"]


def test_the_same_video_twice(root: Path) -> None:
    for number, clip in enumerate(CLIPS[:2]):
        copy = root / "fiv2/zz_copies" / f"{clip.clip_id}.mp4"
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(b"x" * number)
    table = scan(root, splits=["train"])
    first = fiv2_path(CLIPS[1]).as_posix()
    reason = f"is not as large as fiv2/{first}, which is used; remove one of them"
    assert notes(table) == [(f"{DOTS}.005", "disagreement", f"fiv2/zz_copies/{DOTS}.005.mp4", reason)]
    assert table.clips["media"].iloc[1] == str(root / "fiv2" / first)


def test_links_to_nothing_are_no_files(root: Path) -> None:
    path = root / "fiv2" / fiv2_path(CLIPS[0])
    path.unlink()
    path.symlink_to(root / "nowhere.mp4")
    assert scan(root, splits=["train"]).defects["kind"].tolist() == ["missing_media"]


def test_a_name_that_is_not_unicode_is_noted(root: Path) -> None:
    try:
        open(os.fsencode(root / "fiv2") + b"/stray\xff.000.mp4", "wb").close()
    except OSError:
        pytest.skip("the file system refuses such names")
    assert notes(scan(root, splits=["train"])) == [
        (
            None,
            "ignored",
            "fiv2/stray\\udcff.000.mp4",
            "1 files or folders left out since their names are not Unicode; rename them",
        )
    ]


def pack(root: Path, name: str, *entries: str) -> None:
    with zipfile.ZipFile(root / "fiv2" / name, "w") as archive:
        for entry in entries:
            archive.writestr(entry, b"")
        archive.writestr("__MACOSX/._other.000.mp4", b"")


def test_zips_that_are_still_packed(root: Path) -> None:
    shutil.rmtree(root / "fiv2/train-2")
    shutil.rmtree(root / "fiv2/test-1")
    pack(root, "train-1.zip", "training80_01/", f"training80_01/{DOTS}.000.mp4", "training80_02.zip")
    pack(root, "train-2.zip", "training80_14/", "training80_14/xYz12345678.000.mp4")
    pack(root, "test-1.zip", "test80_01.zip", "test80_03.zip")
    (root / "fiv2/test-2.zip").write_bytes(b"PK damaged")
    table = scan(root)
    kinds = {note[2]: (note[1], note[3]) for note in notes(table)}
    packed = "is still packed: {} of its files, such as {}, are nowhere else; unpack it"
    assert kinds["fiv2/train-2.zip"] == ("missing_media", packed.format(1, "xYz12345678.000.mp4"))
    assert kinds["fiv2/test-1.zip"] == ("missing_media", packed.format(2, "test80_01.zip"))
    damaged = ("ignored", "cannot be opened (File is not a zip file); unpack or download it again")
    assert kinds["fiv2/test-2.zip"] == damaged
    assert "fiv2/train-1.zip" not in kinds
    clip = kinds[f"{TRAINING.as_posix()}, xYz12345678.000.mp4"]
    assert clip[1] == f"no xYz12345678.000.mp4 in or below {root / 'fiv2'}; fiv2/train-2.zip is still packed"


def test_only_zips(tmp_path: Path) -> None:
    (tmp_path / "fiv2").mkdir()
    pack(tmp_path, "train-annotation.zip", "annotation_training.pkl")
    pack(tmp_path, "train-1.zip", "training80_01/a.000.mp4")
    message = failure(tmp_path)
    assert message == (
        "corpora.sources.fiv2: no file annotation_training.pkl or annotation_validation.pkl or annotation_test.pkl "
        f"(or training_gt.csv of the first release) in or below {tmp_path / 'fiv2'} (corpora.root is "
        f"{str(tmp_path)!r}); fiv2/train-annotation.zip is still packed; unpack the annotation, set corpora.root or "
        "the corpus' path, or splits to those that are there"
    )


def test_splits_that_are_not_there(root: Path) -> None:
    shutil.rmtree(root / "fiv2/test-annotation")
    shutil.rmtree(root / "fiv2/test-transcription")
    shutil.rmtree(root / "fiv2/test-1")
    assert scan(root).clips["split"].unique().tolist() == ["train", "dev"]
    message = failure(root, splits=["train", "test"])
    assert "no file annotation_test.pkl (or test_gt.csv of the first release) in or below" in message
    message = failure(root, path="none")
    assert message.startswith(f"there is no folder {root / 'none'}")


@pytest.mark.parametrize("left", ["both", "media", "transcription", "flat media"])
def test_a_withheld_annotation_leaves_clips_unlabelled(root: Path, left: str) -> None:
    shutil.rmtree(root / "fiv2/test-annotation")
    if "media" in left:
        shutil.rmtree(root / "fiv2/test-transcription")
    if left == "transcription":
        shutil.rmtree(root / "fiv2/test-1")
    if left == "flat media":
        for path in (root / "fiv2/test-1").rglob("xYz*.mp4"):
            path.rename(root / "fiv2" / path.name)
    table = scan(root)
    test = table.clips[table.clips["split"] == "test"]
    assert test["clip_id"].tolist() == ["-__-aaaaaaa.000", "xYz12345678.001"][: 1 if left == "flat media" else 2]
    assert test[LABELS].isna().all(axis=None)
    assert test["raw.openness"].isna().all()
    assert test["raw.gender"].tolist()[0] == "male"
    assert test["media"].notna().all() == (left != "transcription")
    count = len(test)
    unlabelled = f"no annotation_test.pkl in or below {root / 'fiv2'}: its {count} clips are unlabelled"
    assert notes(table)[0] == (None, "unlabeled", "fiv2", unlabelled)
    where = {"both": "fiv2/test-1/test80_03/-__-aaaaaaa.000.mp4",
             "transcription": "fiv2/test-transcription/transcription_test.pkl"}  # fmt: skip
    if left in where:
        words = "no words in fiv2/test-transcription/transcription_test.pkl"
        assert notes(table)[1] == ("-__-aaaaaaa.000", "missing_text", where[left], words)
        assert test["text"].iloc[1] == "Right, that was it."
    else:
        words = f"no transcription_test.pkl in or below {root / 'fiv2'}: its {count} clips have no text"
        assert notes(table)[1] == (None, "missing_text", "fiv2", words)
    others = {"transcription": ["missing_media"] * 2, "flat media": ["missing_annotation"]}.get(left, [])
    assert table.defects["kind"].tolist()[2:] == others
    alone = scan(root, splits=["test"]).clips
    assert alone["clip_id"].tolist() == test["clip_id"].tolist()
    assert alone["raw.openness"].dtype == "string"
    shutil.rmtree(root / "fiv2/train-annotation")
    shutil.rmtree(root / "fiv2/val-annotation")
    assert "no file annotation_training.pkl" in failure(root)


def test_the_hints_of_packed_pickles(root: Path) -> None:
    shutil.rmtree(root / "fiv2/val-transcription")
    pack(root, "val-transcription.zip", "transcription_validation.pkl")
    assert notes(scan(root))[0][3].endswith(": its 2 clips have no text; fiv2/val-transcription.zip is still packed")
    shutil.rmtree(root / "fiv2/test-annotation")
    pack(root, "test-annotation.zip", "annotation_test.pkl")
    assert notes(scan(root))[1][3].endswith(": its 2 clips are unlabelled; fiv2/test-annotation.zip is still packed")


def test_transcripts_and_scores_without_each_other(root: Path) -> None:
    def alter(words: dict[Any, Any]) -> None:
        words["other.000.mp4"] = words.pop(f"{DOTS}.000.mp4")
        words["_Qw7rT-yUi0.001.mp4"] = " \n"
        words["xYz12345678.000.mp4"] = 5
        words[".mp4"] = words[7] = "no name"

    change(root / SPOKEN, alter)
    table = scan(root, splits=["train"])
    assert table.clips["text"].isna().tolist() == [True, False, True, True, False]
    unnamed = (None, "unusable_row", SPOKEN.as_posix(), "a key that is no file name; not used")
    stray = "a transcript of a clip that the annotation does not know; not used"
    assert [note[1] for note in notes(table)] == ["unusable_row"] * 2 + ["missing_text"] * 3 + ["missing_annotation"]
    assert notes(table)[0] == unnamed
    assert notes(table)[-1] == ("other.000", "missing_annotation", SPOKEN.as_posix(), stray)


V1 = "VideoName,ValueExtraversion,ValueAgreeableness,ValueConscientiousness,ValueNeurotisicm,ValueOpenness"


def test_first_release(root: Path) -> None:
    shutil.rmtree(root / "fiv2/train-annotation")
    shutil.rmtree(root / "fiv2/train-transcription")
    rows = (f"{DOTS}.005.mp4,0.1,0.2,0.3,0.4,0.5", "_Qw7rT-yUi0.001.mp4,1.2,,0,1,many", ",0,0,0,0,0")
    write(root / "fiv2/training_gt.csv", V1, *rows)
    write(root / "fiv2/validation_gt.csv", "not, read")  # there is a pickle
    without_media(root)
    table = scan(root)
    clips = table.clips[table.clips["split"] == "train"]
    assert clips["clip_id"].tolist() == [f"{DOTS}.005", "_Qw7rT-yUi0.001"]
    assert table.clips["release"].fillna("").tolist() == ["V1", "V1", "", "", "", ""]
    assert clips["group"].tolist() == [DOTS, "_Qw7rT-yUi0"]
    # openness, conscientiousness, extraversion, agreeableness, non-neuroticism
    expected = [[0.5, 0.3, 0.1, 0.2, 0.4], [np.nan, 0.0, np.nan, np.nan, 1.0]]
    np.testing.assert_array_equal(clips[LABELS].to_numpy(), expected)
    assert clips["raw.neuroticism"].tolist() == ["0.4", "1"]
    assert clips["raw.gender"].isna().sum() == 0
    row = "fiv2/training_gt.csv, row "
    assert [note for note in notes(table) if note[2].startswith(row)] == [
        (None, "unusable_row", row + "4", "names no video; not used"),
        ("_Qw7rT-yUi0.001", "bad_label", row + "3", "openness is 'many', expected a number in [0, 1]"),
        ("_Qw7rT-yUi0.001", "bad_label", row + "3", "extraversion is '1.2', expected a number in [0, 1]"),
        ("_Qw7rT-yUi0.001", "missing_label", row + "3", "no score of agreeableness"),
    ]
    assert len(table.defects) == 5  # and the transcript of test without words
    assert scan(root, release="mine").clips["release"].eq("mine").all()
    write(root / "fiv2/training_gt.csv", V1.replace("Neurotisicm", "Neuroticism"))
    assert "fiv2/training_gt.csv has no column 'ValueNeurotisicm'; did you mean" in failure(root)


def test_people(root: Path) -> None:
    write(root / "fiv2/eth_gender_annotations_dev.csv",
          "VideoName,YouTubeID,Ethnicity,Gender", f"{DOTS}.000.mp4,x,1,", f"{DOTS}.005,x,9,2")  # fmt: skip
    write(root / "fiv2/age_anno_dev.csv", "VideoName;AgeGroup", f"{DOTS}.000.mp4;4", "xYz12345678.000.mp4;")
    write(root / "fiv2/eth_gender_annotations_dev_2.csv",
          "VideoName;Ethnicity;Gender", f"{DOTS}.000.mp4;2;1")  # fmt: skip
    write(root / "fiv2/ages-annotation.csv", "Video;Age", "a;1")
    write(root / "fiv2/x_age_anno.csv", "VideoName;Years", "a;1")
    write(root / "fiv2/language_annotation.csv", "VideoName;Age", f"{DOTS}.000.mp4;77")
    table = scan(root, splits=["train"])
    clips = table.clips.fillna({"raw.gender": "", "raw.ethnicity": "", "raw.age": ""})
    assert clips["raw.ethnicity"].tolist() == ["Asian", "9", "", "", ""]
    assert clips["raw.gender"].tolist() == ["male", "female", "", "", ""]
    assert clips["raw.age"].tolist() == ["4", "", "", "", ""]
    said = "ethnicity is 'Caucasian', another file says 'Asian', which is used"
    assert notes(table) == [
        (None, "ignored", "fiv2/ages-annotation.csv", "has no columns 'VideoName' and 'AgeGroup'; not used"),
        (f"{DOTS}.000", "disagreement", "fiv2/eth_gender_annotations_dev_2.csv", said),
        (None, "ignored", "fiv2/x_age_anno.csv", "has no columns 'VideoName' and 'AgeGroup'; not used"),
    ]
    write(root / "fiv2/eth_gender_annotations_dev.csv", "VideoName;Gender")
    assert "fiv2/eth_gender_annotations_dev.csv has no column 'Ethnicity'" in failure(root)


def test_people_are_not_needed(root: Path) -> None:
    for path in root.rglob("*.csv"):
        path.unlink()
    assert not {"raw.gender", "raw.ethnicity", "raw.age"} & set(scan(root).clips)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "holds something else than scores by trait and file name"),
        ({10**5000: {}}, "holds something else than scores by trait and file name"),
        ({"openness": [1]}, "holds something else than scores by trait and file name"),
        (
            {"openess": {}, "extraversion": {}, "neuroticism": {}},
            "has no trait 'agreeableness'; known names are extraversion, neuroticism, openess",
        ),
        ({}, "has no trait 'extraversion'"),
        (os.system, "asks for posix.system; such a file may hold nothing but containers"),
    ],
)
def test_annotations_of_another_shape(root: Path, content: object, message: str) -> None:
    (root / TRAINING).write_bytes(pickle.dumps(content, 2))
    assert failure(root).startswith(f"{TRAINING.as_posix()} {message}")


def test_transcripts_of_another_shape(root: Path) -> None:
    (root / SPOKEN).write_bytes(pickle.dumps(["words"], 2))
    assert failure(root) == f"{SPOKEN.as_posix()} holds a list, expected a transcript by file name"


def test_files_that_differ(root: Path) -> None:
    copy = root / "fiv2/copy" / TRAINING.name
    copy.parent.mkdir()
    shutil.copy(root / TRAINING, copy)
    assert len(scan(root).clips) == 9
    copy.write_bytes(PYTHON_2_SCORES)
    assert "fiv2/copy/annotation_training.pkl and fiv2/train-annotation/annotation_training.pkl differ" in failure(root)


def test_a_task_that_the_scores_do_not_cover(root: Path) -> None:
    spec = PERSONALITY.model_copy(update={"classes": ("openness", "neuroticism")})
    with pytest.raises(CorpusError, match=r"sources\.fiv2: its clips have no score for 'neuroticism'; did you mean"):
        corpus().scan("fiv2", root, {"personality": spec})


def test_splits_by_the_video_they_are_cut_from(root: Path) -> None:
    anew: tuple[dict[str, Any], ...] = (
        {"fractions": {"train": 0.5, "test": 0.5}}, {"fold": {"of": 2, "number": 0}}, {"hold_out": {"test": [DOTS]}},
    )  # fmt: skip
    for settings in anew:
        clips = scan(root, **settings).clips
        assert len(clips) == 9
        assert clips.groupby("group")["split"].nunique().eq(1).all()
    assert clips.loc[clips["split"].eq("test"), "group"].tolist() == [DOTS] * 3
    by_gender = scan(root, hold_out={"column": "raw.gender", "test": ["male"], "dev": ["female"]}, splits=["test"])
    assert by_gender.clips["group"].tolist() == [DOTS] * 3 + ["-__-aaaaaaa"]


@pytest.mark.parametrize(
    "file", ["annotation_training.pkl", "transcription_test.pkl", "eth_gender_annotations_dev.csv"]
)
def test_damaged_files(root: Path, file: str) -> None:
    chance = random.Random(file)
    (path,) = (path for path in root.rglob(file) if "__MACOSX" not in path.parts)
    whole = path.read_bytes()
    for number in range(24):
        content = bytearray(whole[: chance.randrange(len(whole))] if number < 12 else whole)
        for _ in range(0 if number < 12 else 3):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            scan(root)
        except CorpusError as error:
            message = str(error)
        else:
            continue
        assert path.relative_to(root).as_posix() in message
