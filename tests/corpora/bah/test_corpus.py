from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from corpora.bah.annotation import chunks_of, language_columns, number
from corpora.bah.corpus import QUESTIONS, BahCorpus
from corpora.bah.files import find_files, video_key
from corpora.clips import CLIP_COLUMNS, ClipTable, CorpusError, Defects
from corpora.demo.layouts import BahVideo, bah_path, write_bah
from mmpsr.tasks import BUILTIN_TASKS
from tests.support.bah_tree import (
    CUES,
    FRENCH,
    MARKED,
    OTHERS,
    PLAIN,
    PRIVATE,
    QUIET,
    VIDEOS,
    build,
    change,
    clean,
    faces_path,
    metadata,
    path_2025,
    touch,
)

ANNOTATION = "video_annotation_transcript.yaml"
PRESENT = "ambivalence.present"


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a whole 2026 release."""
    root = tmp_path_factory.mktemp("whole")
    clean(root)
    return root


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """`bah/data` of a whole 2026 release, below the root `tmp_path`."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path / "bah/data"


def scan(folder: Path, **settings: Any) -> ClipTable:
    """Read `bah/` below the root, which is two folders above `folder`, and check the table."""
    corpus = BahCorpus.model_validate({"adapter": "bah", "path": "bah", **settings})
    table = corpus.scan("bah", folder.parents[1], BUILTIN_TASKS)
    return table.validate(BUILTIN_TASKS)


def notes(table: ClipTable, *kinds: str) -> list[tuple[str, str, str]]:
    """Kind, place and reason of the defects, without the one of the private test."""
    rows = table.defects[~table.defects["where"].str.contains("test_private.txt")]
    rows = rows[rows["kind"].isin(kinds)] if kinds else rows
    return list(rows[["kind", "where", "reason"]].itertuples(index=False, name=None))


def clip(video: BahVideo) -> str:
    return bah_path(video).stem


def row(table: ClipTable, clip_id: str) -> dict[str, Any]:
    """What is known of a clip."""
    (found,) = table.clips[table.clips["clip_id"].eq(clip_id)].to_dict("records")
    return {name: value for name, value in found.items() if not pd.isna(value)}


PARTICIPANT = {
    "raw.age": "44", "raw.age_range": "35 - 44 years", "raw.birth_country": "Canada", "raw.province": "Ontario (ON)",
    "raw.ethnicity": "Invented, or other", "raw.ethnicity_simplified": "Other", "raw.gender": "Female",
    "raw.student": "No",
}  # fmt: skip


def test_a_video_to_the_last_field(folder: Path) -> None:
    table = scan(folder)
    assert row(table, clip(MARKED)) == {
        "corpus": "bah",
        "release": "2026",
        "split": "train",
        "clip_id": "90001_Question_4_2024-03-01 10-05-00_Video-DESKTOP-1A2B3C4",
        "media": f"{folder}/Videos/90001/Visite_1/90001_Question_4_2024-03-01 10-05-00_Video-DESKTOP-1A2B3C4.mp4",
        "faces": f"{folder}/cropped-aligned-faces/Videos/90001/Visite_1/"
        "90001_Question_4_2024-03-01 10-05-00_Video-DESKTOP-1A2B3C4.mp4",
        "group": "90001",
        "group_kind": "participant",
        "speaker": "90001",
        "language": "en",
        "text": '"Maybe," he said, "or not."',
        "consent_challenges": True,
        "consent_publications": True,
        "ambivalence.absent": 0.0,
        "ambivalence.present": 1.0,
        "raw.list": "train",
        "raw.label": "1",
        "raw.question": "4",
        "raw.question_kind": "ambivalent",
        "raw.annotator_id": "CD",
        "raw.certainty_ah": "[1, 2]",
        "raw.global_ah": "1",
        "raw.segments": '[["00:00:01.000", "00:00:02.500"], ["00:00:04.000", "00:00:05.250"]]',
        "raw.frame_segments": "[[4, 10], [16, 21]]",
        "raw.cues": json.dumps(CUES),
        "raw.languages": "english, en",
        # the third chunk begins anew: its window begins where the second one ended
        "raw.chunks": json.dumps([
            {"start": 0.0, "end": 2.0, "language": "english", "text": ' "Maybe,"'},
            {"start": 2.0, "end": 3.5, "language": "english", "text": " he said,"},
            {"start": 3.5, "end": None, "language": "en", "text": ' "or not."'},
        ]),
        **PARTICIPANT,
    }  # fmt: skip
    french = row(table, clip(FRENCH))
    assert french["text"] == "Peut-être demain, à midi. Okay."
    assert (french["language"], french["raw.languages"]) == ("fr", "french, english")
    assert (french["consent_challenges"], french["consent_publications"]) == (True, False)
    assert not {"raw.cues", "raw.segments"} - french.keys()


def test_all_videos_in_the_order_of_the_splits(folder: Path) -> None:
    table = scan(folder)
    clips = table.clips
    assert clips["clip_id"].tolist() == [clip(video) for video in VIDEOS]
    assert clips["split"].tolist() == ["train"] * 16 + ["dev"] + ["test"] * 3
    assert clips["group"].tolist() == [video.participant for video in VIDEOS]
    known = clips[["ambivalence.absent", PRESENT]].iloc[:-1].to_numpy()
    np.testing.assert_array_equal(known, [[1 - video.label, video.label] for video in VIDEOS[:-1]])
    kinds = dict(zip(clips["raw.question"], clips["raw.question_kind"], strict=True))
    assert kinds == {str(position): kind for position, kind in enumerate(QUESTIONS, start=1)}
    assert kinds["1"] == "neutral"
    assert kinds["7"] == "hesitant"
    assert notes(table) == []
    assert {str(dtype) for dtype in clips.filter(regex=r"^raw\.").dtypes} == {"string"}
    assert [column for column in clips if column not in CLIP_COLUMNS and "." not in column] == []


def test_private_test_is_unlabeled(folder: Path) -> None:
    table = scan(folder)
    private = row(table, clip(PRIVATE))
    assert (private["split"], private["raw.list"], private["raw.label"]) == ("test", "test_private", "0")
    assert not {"ambivalence.absent", PRESENT} & private.keys()
    (note,) = table.defects.to_dict("records")
    assert (note["kind"], note["clip_id"]) == ("unlabeled", clip(PRIVATE))
    assert note["where"] == "bah/data/split/test_private.txt, row 1"
    assert note["reason"] == "the labels of a private test are placeholders; not used"
    for name in ("private_test", "unlabeled", "Test2"):
        (folder / "split/test_private.txt").rename(folder / f"split/{name}.txt")
        assert scan(folder).clips["raw.list"].tolist()[-1] == name
        (folder / f"split/{name}.txt").rename(folder / "split/test_private.txt")


def test_labels_that_are_all_0_or_declared_to_be_placeholders_are_not_used(folder: Path) -> None:
    lines = [f"Videos/91/Visite_1/{n}_Question_1_a_Video.mp4,0,Words.\n" for n in range(19)]
    (folder / "split/test.txt").write_text("".join(lines), encoding="utf-8")
    assert scan(folder, splits=["test"]).clips[PRESENT].notna().sum() == 19
    (folder / "split/test.txt").write_text("".join([*lines, lines[0].replace("0_", "19_", 1)]), encoding="utf-8")
    table = scan(folder, splits=["test"])
    assert table.clips[PRESENT].isna().all()
    unlabeled = table.defects[table.defects["kind"].eq("unlabeled")]
    assert len(unlabeled) == 21
    assert unlabeled["reason"].iloc[0] == "all 20 labels of the test list are 0, so they are placeholders; not used"
    assert not table.defects["kind"].isin(["missing_label", "bad_label"]).any()
    (folder / "split/test.txt").write_text("".join(lines) + lines[0].replace(",0,", ",1,").replace("0_", "19_", 1))
    assert scan(folder, splits=["test"]).clips[PRESENT].notna().sum() == 20

    table = scan(folder, unlabeled_splits=["dev"])
    assert table.clips[PRESENT].isna().tolist() == [False] * 16 + [True] + [False] * 20 + [True]
    reasons = table.defects[table.defects["clip_id"].eq(clip(FRENCH))]["reason"].tolist()
    assert reasons == ["unlabeled_splits says that the labels of 'dev' are placeholders"]


def test_everything_that_is_wrong_is_noted(tmp_path: Path) -> None:
    build(tmp_path)
    table = scan(tmp_path / "bah/data")
    again = "bah/data/Archive/90001/Visite_1/90001_Question_1_2024-03-01_10-00-00_Video.mp4"
    video = "bah/data/Videos/90001/Visite_1/90001_Question_1_2024-03-01_10-00-00_Video.mp4"
    transcript = f"{video.replace('data/', 'data/transcription/')}/90001_Question_1_2024-03-01_10-00-00_Video.yml"
    train, meta = "bah/data/split/train.txt", "bah/data/meta_data.yml"
    assert notes(table) == [
        ("ignored", "bah/data/split/readme.txt", "no list of a split; those are train, val, test"),
        ("ignored", again, f"of the same video as {video}, which is used"),
        ("unusable_row", f"{train}, row 17", "'Videos/90009/Visite_1/holiday.mp4' is no "
         "<participant>_Question_<1-7>_<date>_<time>_Video.mp4; the line is not used"),
        ("missing_annotation", "bah/data/Videos/90009/Visite_1/90009_Question_2_2024-05-01_10-00-00_Video.mp4",
         "no list of videos names it; it is not used"),
        ("missing_annotation", f"{train}, row 19",
         "the annotation does not have it; its segments and cues are unknown"),
        ("unusable_row", transcript,
         "line 2: cannot be read as YAML: did not find expected node content; this transcript is not used"),
        ("disagreement", f"{train}, row 5", "the text of its transcript differs from the one used"),
        ("disagreement", f"{train}, row 5", "the text of its annotation differs from the one used"),
        ("disagreement", f"{train}, row 6", "bah-video.csv has another label than the one used"),
        ("disagreement", f"{train}, row 6", "the annotation has another label than the one used"),
        ("missing_label", f"{train}, row 19", "no file has its label"),
        ("bad_label", f"{train}, row 4", "the label is neither 0 (absent) nor 1 (present)"),
        ("missing_metadata", f"{meta}, participant '90009'", "has no metadata; consent is unknown"),
        ("missing_metadata", f"{meta}, participant '90002', 'Use in publications'",
         "'ask again' is neither yes nor no; this consent is unknown"),
        ("missing_metadata", f"{meta}, participant '90003'", "has no metadata; consent is unknown"),
        ("missing_media", f"{train}, row 19", "no file of this video"),
        ("missing_media", "bah/data/split/val.txt, row 1", "no file of this video"),
        ("missing_text", f"{train}, row 19", "neither list nor transcript nor annotation says what is spoken"),
        ("duplicate_id", f"{train}, row 20", "id '90005_Question_5_2024-04-05 12-00-00_Video-DESKTOP-1A2B3C4' occurs "
         f"already in {train}, row 7; ids must be unique"),
    ]  # fmt: skip
    clips = table.clips.set_index("clip_id")
    assert len(clips) == len(VIDEOS) + 1
    first, second, third, fourth, *_ = OTHERS
    assert clips.loc[clip(first), "text"] == first.text  # from its transcript
    assert clips.loc[clip(third), "text"] == "Said otherwise."
    assert pd.isna(clips.loc[clip(second), PRESENT])
    assert clips.loc[clip(second), "raw.label"] == "maybe"
    assert clips.loc[clip(fourth), PRESENT] == 1.0  # as the list says
    assert clips.loc[clip(PLAIN), "language"] == "en"  # from the annotation
    assert clips.loc[clip(PLAIN), "media"] == str(tmp_path / video)
    assert pd.isna(clips.loc[clip(FRENCH), "consent_publications"])
    assert clips.loc[clip(FRENCH), "consent_challenges"]
    with pytest.raises(CorpusError, match=r"^bah/data/split/train\.txt, row 4: the label is neither"):
        BahCorpus(adapter="bah").read("bah", tmp_path, BUILTIN_TASKS)


def test_only_the_wanted_split_is_spoken_of(tmp_path: Path) -> None:
    build(tmp_path)
    table = scan(tmp_path / "bah/data", splits=["dev"])
    assert table.clips["clip_id"].tolist() == [clip(FRENCH)]
    kinds = [kind for kind, _, _ in notes(table)]
    assert kinds == ["ignored", "ignored", "missing_annotation", "missing_metadata", "missing_media"]


def test_folders_of_pictures_are_not_entered(folder: Path, tmp_path: Path) -> None:
    touch(folder / "Frames" / bah_path(PLAIN) / "frame-0.jpg")
    files = find_files(tmp_path / "bah", tmp_path, Defects("bah"))
    assert not [file for file in files.tree.files if file.endswith(".jpg")]
    assert len(files.tree.closed) == len(VIDEOS) + 1
    assert files.faces[video_key(str(bah_path(PLAIN)))] == f"data/{faces_path(bah_path(PLAIN))}"
    assert len(files.transcripts) == len(VIDEOS)


def test_text_comes_from_transcript_or_annotation_where_the_list_has_none(folder: Path) -> None:
    for video in (PLAIN, QUIET):
        name = {"train": "train", "test": "test"}[video.split]
        change(folder / f"split/{name}.txt", f"{bah_path(video)},0,{video.text}", f"{bah_path(video)},0")
    shutil.rmtree(folder / "transcription" / bah_path(QUIET))
    file = folder / "transcription" / bah_path(PLAIN) / f"{bah_path(PLAIN).stem}.yml"
    change(file, "text: ' Well, I walk, and I rest.'", "text: ' Well, I walk,   and I  rest. '")
    table = scan(folder)
    assert row(table, clip(PLAIN))["text"] == "Well, I walk,   and I  rest."
    assert row(table, clip(QUIET))["text"] == QUIET.text
    assert row(table, clip(QUIET))["raw.languages"] == "english"
    assert notes(table) == []  # spaces are no disagreement
    shutil.rmtree(folder / "transcription")
    (folder / ANNOTATION).unlink()
    assert notes(scan(folder)) == [
        (
            "missing_text",
            f"bah/data/split/{name}.txt, row {line}",
            "neither list nor transcript nor annotation says what is spoken",
        )
        for name, line in (("train", 1), ("test", 2))
    ]


def test_labels_come_from_the_table_or_the_annotation_where_the_list_has_none(folder: Path) -> None:
    for video in (PLAIN, MARKED):
        change(folder / "split/train.txt", f"{bah_path(video)},{video.label},", f"{bah_path(video)},,")
    change(folder / "bah-video.csv", f"{bah_path(MARKED)},1\n", "")
    table = scan(folder)
    assert table.clips[PRESENT].tolist()[:2] == [0.0, 1.0]
    assert notes(table) == []
    (folder / "bah-video.csv").unlink()
    (folder / ANNOTATION).unlink()
    assert [kind for kind, _, _ in notes(scan(folder))] == ["missing_label"] * 2


def test_nothing_but_the_lists_is_enough(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "split":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    table = scan(folder)
    assert table.clips["media"].isna().all()
    assert table.clips[PRESENT].notna().sum() == len(VIDEOS) - 1
    reason = "there is no meta_data.yml: participants and their consent are unknown"
    assert notes(table) == [("missing_metadata", str(folder.parent), reason)]
    assert table.clips["consent_publications"].isna().all()
    segments = scan(folder, level="segment")
    assert segments.clips["clip_id"].tolist() == [clip(video) for video in VIDEOS if not video.label]
    assert segments.defects["kind"].tolist()[-2:] == ["missing_annotation", "missing_annotation"]


@pytest.mark.parametrize("shape", ["as it is", "folders of 2026", "lists of 2026"])
def test_release_of_2025(tmp_path: Path, shape: str) -> None:
    folder = clean(tmp_path, "2025")
    if shape == "folders of 2026":
        for video in VIDEOS:
            target = folder / bah_path(video)
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / path_2025(video)).rename(target)
    if shape == "lists of 2026":
        for file in (folder / "split").glob("[!.]*.txt"):
            lines = file.read_text(encoding="utf-8").splitlines()
            file.write_text(
                "".join(f"Videos/{line.replace('Visite 1', 'Visite_1')}\n" for line in lines), encoding="utf-8"
            )
    table = scan(folder)
    clips = table.clips
    assert clips["clip_id"].tolist() == [clip(video) for video in VIDEOS]
    assert clips["release"].eq("2025").all()
    assert clips["media"].notna().all()
    assert clips["faces"].notna().all()
    assert clips["text"].tolist() == [video.text for video in VIDEOS]
    assert notes(table) == [
        (
            "missing_metadata",
            str(folder.parent),
            "there is no meta_data.yml: participants and their consent are unknown",
        )
    ]
    marked = row(table, clip(MARKED))
    assert marked["raw.segments"] == '[["00:00:01.000", "00:00:02.500"], ["00:00:04.000", "00:00:05.250"]]'
    assert {"raw.cues", "raw.annotator_id"} & set(clips) == set()
    assert marked["raw.global_ah"] == "1"


def test_release_and_published_counts(folder: Path) -> None:
    assert scan(folder, release="2025").clips["release"].eq("2025").all()
    (folder / ANNOTATION).unlink()
    assert scan(folder).clips["release"].eq("2026").all()
    counts = {
        "2026": {"train": 778, "dev": 124, "test": 525},
        "2025": {"train": 616, "dev": 110, "test": 392},
        None: {},
    }
    for release, count in counts.items():
        corpus = BahCorpus.model_validate({"adapter": "bah", "release": release})
        assert corpus.published_counts() == count
        assert corpus.model_copy(update={"level": "frame"}).published_counts() == {}
        assert corpus.metrics == {}


def test_ids_are_unique_where_visits_share_a_name(folder: Path) -> None:
    lines = (folder / "split/val.txt").read_text(encoding="utf-8")
    (folder / "split/val.txt").write_text(lines + lines.replace("Visite_1", "Visite_2"), encoding="utf-8")
    assert scan(folder, splits=["dev"]).clips["clip_id"].tolist() == [
        "90002/Visite_1/90002_Question_2_2024-03-02_11-00-00_Video",
        "90002/Visite_2/90002_Question_2_2024-03-02_11-00-00_Video",
    ]


def test_video_key_unites_both_releases() -> None:
    keys = {video_key(path) for path in ("Videos/9/Visite_1/a b.mp4", "9/Visite 1/a b.mp4", "x\\9\\Visite 1\\a_b.mp4")}
    assert keys == {"9/Visite_1/a_b.mp4"}


# ---- participants


@pytest.mark.parametrize(
    ("written", "consent"),
    [("'Yes'", True), ("yes", True), ("true", True), ("Oui", True), ("1", True), ("' YES '", True), ("'No'", False),
     ("NON", False), ("false", False), ("0", False), ("null", None), ("''", None)],
)  # fmt: skip
def test_consent_is_read_in_every_spelling(folder: Path, written: str, consent: bool | None) -> None:
    change(folder / "meta_data.yml", "Use in publications: 'No'", f"use_IN-Publications: {written}")
    table = scan(folder, splits=["dev"])
    assert table.clips["consent_publications"].tolist() == [pd.NA if consent is None else consent]
    assert notes(table) == []


@pytest.mark.parametrize("written", ["2", "ask", "[yes]", "1.0"])
def test_consent_that_is_neither_is_unknown_and_noted(folder: Path, written: str) -> None:
    change(folder / "meta_data.yml", "Use in publications: 'No'", f"Use in publications: {written}")
    table = scan(folder, splits=["dev"])
    assert table.clips["consent_publications"].isna().all()
    ((kind, where, reason),) = notes(table)
    assert kind == "missing_metadata"
    assert where == "bah/data/meta_data.yml, participant '90002', 'Use in publications'"
    assert reason.endswith("is neither yes nor no; this consent is unknown")


def test_every_key_of_a_participant_is_kept(folder: Path) -> None:
    text = "90002: {AGE: 51, age_range: x, First  Language: [a, b], cues: held, Birth-country: null, 7: seven}\n"
    (folder / "meta_data.yml").write_text(text + "'90001': 3\n", encoding="utf-8")
    table = scan(folder, splits=["dev"])
    found = row(table, clip(FRENCH))
    assert (found["raw.age"], found["raw.age_range"], found["raw.7"]) == ("51", "x", "seven")
    assert found["raw.first_language"] == '["a", "b"]'
    assert found["raw.participant_cues"] == "held"
    assert found["raw.cues"] == json.dumps(CUES[:1])
    assert "raw.birth_country" not in found
    reason = "expected a mapping; these metadata are not used"
    assert notes(table) == [("unusable_row", "bah/data/meta_data.yml, participant '90001'", reason)]


def test_metadata_in_two_files(folder: Path) -> None:
    shutil.copy(folder / "meta_data.yml", folder.parent / "meta_data.yml")
    assert notes(scan(folder)) == []
    change(folder.parent / "meta_data.yml", "Use in publications: 'No'", "Use in publications: 'Yes'")
    table = scan(folder)
    reason = "differs from bah/data/meta_data.yml, participant '90002', which is used"
    assert notes(table) == [("disagreement", "bah/meta_data.yml, participant '90002'", reason)]
    assert row(table, clip(FRENCH))["consent_publications"] is False


def test_splits_anew(folder: Path) -> None:
    clips = scan(folder, hold_out={"column": "raw.question_kind", "test": ["neutral"], "dev": ["positive"]}).clips
    assert clips.groupby("split")["raw.question"].unique().map(sorted).to_dict() == {
        "train": ["3", "4", "5", "6", "7"],
        "dev": ["2"],
        "test": ["1"],
    }
    clips = scan(folder, fractions={"train": 0.5, "dev": 0.5}).clips
    assert clips.groupby("group")["split"].nunique().eq(1).all()
    assert len(clips) == len(VIDEOS)


# ---- transcripts


def said(*times: tuple[object, object]) -> list[dict[str, object]]:
    return [{"timestamp": time, "text": "x", "language": "english"} for time in times]


@pytest.mark.parametrize(
    ("times", "spans"),
    [
        ([(0.0, 2.0), (2.0, 4.5)], [(0.0, 2.0), (2.0, 4.5)]),
        # a new window begins where the last one ended: at 28.5, then at 28.5 + 10
        ([(0.0, 28.5), (0.0, 4.0), (4.0, 10.0), (1.0, 2.0)], [(0.0, 28.5), (28.5, 32.5), (32.5, 38.5), (39.5, 40.5)]),
        # an unknown end: the window was 30 s long
        ([(0.0, 5.0), (5.0, None), (0.0, 3.0), (3.0, None)], [(0.0, 5.0), (5.0, None), (30.0, 33.0), (33.0, None)]),
        ([(40.0, None), (0.0, 1.0)], [(40.0, None), (40.0, 41.0)]),  # never back in time
        ([(3.0, 2.0), (3.0, 4.0)], [(3.0, None), (3.0, 4.0)]),
        ([(None, 4.0), (1, 2)], [(None, None), (1.0, 2.0)]),
        ([("0", 1.0), (True, 2.0), (10**400, 1.0), (float("nan"), 1.0)], [(None, None)] * 4),
    ],
)
def test_chunks_are_timed_from_the_start_of_the_video(times: Any, spans: Any) -> None:
    chunks = chunks_of(said(*times), "a.yml", Defects("bah"))
    assert [(chunk["start"], chunk["end"]) for chunk in chunks] == spans


def test_chunks_that_are_none_are_noted() -> None:
    defects = Defects("bah")
    chunks = chunks_of([3, {"timestamp": [1.0], "text": 4, "language": 5}, {}], "a.yml", defects)
    assert chunks == [{"start": None, "end": None, "language": None, "text": None}] * 2
    assert defects.rows == [("bah", None, "unusable_row", "a.yml", "a chunk is no mapping: '3'; it is not used")]


def test_language_is_the_one_of_most_text() -> None:
    def chunk(language: str | None, text: str | None) -> dict[str, Any]:
        return {"start": None, "end": None, "language": language, "text": text}

    # French has 3 characters, English 2 + 2
    texts = [("French", "abc"), ("english", "ab"), ("english", "de"), (None, "abcdef")]
    one = language_columns([chunk(language, text) for language, text in texts])
    assert (one["language"], one["raw.languages"]) == ("en", "French, english")
    assert language_columns([chunk("FR", None)])["language"] == "fr"
    assert language_columns([chunk("spanish", "hola")])["language"] is None
    assert language_columns([]) == {"language": None, "raw.languages": None, "raw.chunks": None}


def test_number() -> None:
    assert [number(value) for value in (1, 2.5, True, "3", None, float("inf"), 10**400)] == [1.0, 2.5] + [None] * 5


# ---- levels


def test_segments_and_the_gaps_between_them(folder: Path) -> None:
    table = scan(folder, level="segment")
    columns = ["clip_id", "start", "end", PRESENT, "raw.cues", "text", "raw.video"]
    clips = table.clips[columns].astype(object).where(table.clips[columns].notna(), None)
    marked, private = clip(MARKED), clip(PRIVATE)
    found = clips[clips["raw.video"].isin([clip(PLAIN), marked, clip(FRENCH), private])]
    assert list(found.itertuples(index=False, name=None)) == [
        (clip(PLAIN), None, None, 0.0, None, "Well, I walk, and I rest.", clip(PLAIN)),
        # "Maybe" is from 0 to 2 s, "he said" to 3.5 s, "or not" from there on: at least half of it or of the clip
        (f"{marked}/present-0", 1.0, 2.5, 1.0, json.dumps(CUES[0]), '"Maybe,"', marked),
        (f"{marked}/present-1", 4.0, 5.25, 1.0, json.dumps(CUES[1]), '"or not."', marked),
        (f"{marked}/absent-0", 0.0, 1.0, 0.0, None, '"Maybe,"', marked),
        (f"{marked}/absent-1", 2.5, 4.0, 0.0, None, "he said,", marked),
        (f"{marked}/absent-2", 5.25, None, 0.0, None, '"or not."', marked),
        (f"{clip(FRENCH)}/present-0", 0.0, 1.5, 1.0, json.dumps(CUES[0]), "Peut-être demain, à midi.", clip(FRENCH)),
        (f"{clip(FRENCH)}/absent-0", 1.5, None, 0.0, None, "Okay.", clip(FRENCH)),
        (private, None, None, None, None, "Well, I walk, and I rest.", private),
    ]
    assert notes(table) == []
    one = row(table, f"{marked}/present-0")
    assert one["media"] == str(folder / bah_path(MARKED))
    assert (one["group"], one["split"], one["raw.segments"][:3]) == ("90001", "train", '[["')


def segments(folder: Path, written: str, label: int = 1) -> ClipTable:
    """Read the video FRENCH with other segments in the annotation, as YAML."""
    change(
        folder / ANNOTATION,
        "time_detailed_ah:\n  - - '00:00:00.000'\n    - '00:00:01.500'",
        f"time_detailed_ah: {written}",
    )
    change(folder / "split/val.txt", ".mp4,1,", f".mp4,{label},")
    return scan(folder, level="segment", splits=["dev"])


def spans(table: ClipTable) -> list[tuple[str, float, float]]:
    """Last part of the id, start and end, -1 where it has none."""
    clips = table.clips.assign(part=table.clips["clip_id"].str.extract("([^/]*)$")[0]).fillna(
        {"start": -1.0, "end": -1.0}
    )
    return list(clips[["part", "start", "end"]].itertuples(index=False, name=None))


def test_segments_may_overlap_touch_and_be_numbers(folder: Path) -> None:
    # 00:01:02.5 without quotes is 62.5 in YAML; the second lies within the first, the fourth touches the third
    table = segments(
        folder, "[['00:00:10.000', '00:00:20.000'], [12, 15.5], [00:01:02.5, '00:01:03'], [63, 64], [1, 2]]"
    )
    assert spans(table) == [
        ("present-0", 10.0, 20.0), ("present-1", 12.0, 15.5), ("present-2", 62.5, 63.0), ("present-3", 63.0, 64.0),
        ("present-4", 1.0, 2.0), ("absent-0", 0.0, 1.0), ("absent-1", 2.0, 10.0), ("absent-2", 20.0, 62.5),
        ("absent-3", 64.0, -1.0),
    ]  # fmt: skip
    place = f"bah/data/{ANNOTATION}, {video_key(str(bah_path(FRENCH)))!r}"
    assert notes(table) == [("disagreement", place, "5 segments, but cues of 1")]
    assert table.clips["raw.cues"].notna().tolist() == [True] + [False] * 8


def test_segments_that_cannot_be_are_noted(folder: Path) -> None:
    table = segments(
        folder, "[['00:00:03.000', '00:00:02.000'], ['1:2', 3], [4], null, [-1, 2], [5, 6], [7, .inf], {a: b}]"
    )
    assert spans(table) == [("present-5", 5.0, 6.0), ("absent-0", 0.0, 5.0), ("absent-1", 6.0, -1.0)]
    found = notes(table, "bad_span")
    place = f"bah/data/{ANNOTATION}, {video_key(str(bah_path(FRENCH)))!r}"
    assert [where for _, where, _ in found] == [f"{place}, segment {position}" for position in (0, 1, 2, 3, 4, 6, 7)]
    tail = "is no [start, end] as HH:MM:SS.mmm with the start first; it is not used"
    assert found[0][2] == f"['00:00:03.000', '00:00:02.000'] {tail}"


def test_label_and_segments_that_disagree(folder: Path) -> None:
    table = segments(folder, "[[1, 2]]", label=0)
    assert spans(table) == [("present-0", 1.0, 2.0), ("absent-0", 0.0, 1.0), ("absent-1", 2.0, -1.0)]
    place = f"bah/data/{ANNOTATION}, {video_key(str(bah_path(FRENCH)))!r}"
    reason = f"is labelled absent, but {place} has segments, which are used"
    assert ("disagreement", "bah/data/split/val.txt, row 1", reason) in notes(table)


def test_label_without_segments(folder: Path) -> None:
    reason = "is labelled present, but no segment says when; it is not used at level 'segment'"
    with pytest.raises(CorpusError, match="no clip in split 'dev'") as error:
        segments(folder, "null")
    assert reason in str(error.value)


def test_frames(folder: Path) -> None:
    table = scan(folder, level="frame")
    assert notes(table) == []
    clips = table.clips
    assert len(clips) == sum(video.num_frames for video in VIDEOS)
    assert clips["raw.video"].drop_duplicates().tolist() == [clip(video) for video in VIDEOS]
    own = clips[clips["raw.video"].eq(clip(MARKED))]
    assert own["clip_id"].tolist() == [f"{clip(MARKED)}/frame-{number}" for number in range(24)]
    # 4 frames a second: 1.0 to 2.5 s are frames 4 to 10, 4.0 to 5.25 s are frames 16 to 21
    assert np.flatnonzero(own[PRESENT]).tolist() == [*range(4, 11), *range(16, 22)]
    assert row(table, f"{clip(MARKED)}/frame-7") == {
        "corpus": "bah",
        "release": "2026",
        "split": "train",
        "clip_id": f"{clip(MARKED)}/frame-7",
        "media": f"{folder / faces_path(bah_path(MARKED))}/frame-7.jpg",
        "group": "90001",
        "group_kind": "participant",
        "speaker": "90001",
        "language": "en",
        "consent_challenges": True,
        "consent_publications": True,
        "ambivalence.absent": 0.0,
        "ambivalence.present": 1.0,
        "raw.list": "train",
        "raw.label": "1",
        "raw.video": clip(MARKED),
        "raw.question": "4",
        "raw.question_kind": "ambivalent",
        "raw.annotator_id": "CD",
        "raw.certainty_ah": "[1, 2]",
        "raw.global_ah": "1",
        **PARTICIPANT,
    }
    assert clips.loc[clips["raw.video"].eq(clip(PRIVATE)), PRESENT].isna().all()


def test_every_so_manieth_frame(folder: Path) -> None:
    (folder / "split-frames/train.txt").write_bytes(b"of a split that is not asked for \xff")
    table = scan(folder, level="frame", frame_step=10, splits=["dev", "test"])
    numbers = table.clips["clip_id"].str.extract(r"^(.*)/frame-(\d+)$")
    assert numbers.groupby(0, sort=False)[1].agg(list).to_dict() == {
        clip(FRENCH): ["0", "10"],
        clip(VIDEOS[-3]): ["0", "10", "20"],
        clip(QUIET): ["0"],
        clip(PRIVATE): ["0"],
    }
    with pytest.raises(ValueError, match="frame_step"):
        BahCorpus.model_validate({"adapter": "bah", "frame_step": 0})


@pytest.mark.parametrize("layout", ["block", "flow", "quoted", "tagged"])
def test_frames_come_from_the_annotation_where_no_list_has_them(folder: Path, layout: str) -> None:
    listed = scan(folder, level="frame").clips.drop(columns="raw.list")
    shutil.rmtree(folder / "split-frames")
    text = (folder / ANNOTATION).read_text(encoding="utf-8")
    if layout == "quoted":
        text = text.replace("  - - Videos/", "  - - 'Videos/").replace(".jpg\n", ".jpg'\n").replace(".jpg''", ".jpg'")
    if layout == "tagged":
        text = text.replace("frame-0.jpg\n    - 0", "frame-0.jpg\n    - !!int '0'")
    if layout == "flow":
        import yaml

        text = yaml.dump(yaml.load(text, Loader=yaml.FullLoader), default_flow_style=None, width=10_000)
    (folder / ANNOTATION).write_text(text, encoding="utf-8")
    shutil.copy(folder / ANNOTATION, folder.parent)  # a copy changes nothing
    table = scan(folder, level="frame")
    pd.testing.assert_frame_equal(table.clips.drop(columns="raw.list"), listed)
    assert notes(table) == []


def test_what_is_wrong_with_frames_is_noted(folder: Path) -> None:
    listed = folder / "split-frames/val.txt"
    change(listed, f"{bah_path(FRENCH)}/frame-3.jpg,1", f"{bah_path(FRENCH)}/frame-3.jpg,yes")
    with listed.open("a", encoding="utf-8") as lines:
        lines.write(
            f"\nVideos/9/Visite_1/9_Question_1_x_Video.mp4/frame-0.jpg,1\nrubbish\n{bah_path(FRENCH)}/frame-x.jpg,1\n"
        )
        lines.write(f"{bah_path(QUIET)}/frame-90.jpg, 1 \n")
    change(folder / "split-frames/test.txt", f"{bah_path(QUIET)}/frame-5.jpg,0\n", "")
    shutil.rmtree(folder / faces_path(bah_path(QUIET)))
    train = (folder / "split-frames/train.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in train if not line.startswith(str(bah_path(PLAIN)))]
    (folder / "split-frames/train.txt").write_text("".join(kept), encoding="utf-8")
    annotation = (folder / ANNOTATION).read_text(encoding="utf-8")
    name = f"{bah_path(PLAIN)}/frame-"
    (folder / ANNOTATION).write_text(annotation.replace(f"- - {name}", f"- - {name}no-"), encoding="utf-8")

    table = scan(folder, level="frame")
    place = f"bah/data/{ANNOTATION}, '{bah_path(PLAIN)}', frame_annotation"
    entry = ("unusable_row", place, "an entry is no [.../frame-N.jpg, label]; it is not used")
    assert notes(table) == [
        ("unusable_row", "bah/data/split-frames/val.txt, row 15", "2 lines are no .../frame-N.jpg,label, the first: "
         "'rubbish'; they are not used"),
        ("unusable_row", "bah/data/split-frames/val.txt",
         "'Videos/9/Visite_1/9_Question_1_x_Video.mp4' is in no list of videos; its frames are not used"),
        ("disagreement", "bah/data/split-frames/val.txt",
         f"'{bah_path(QUIET)}' is in the list of split 'test', where its frames are counted"),
        *[entry] * 6,
        ("missing_annotation", "bah/data/split/train.txt, row 1",
         "none of its frames is annotated; it is not used at level 'frame'"),
        ("missing_media", "bah/data/split/test.txt, row 2",
         "no folder of cropped and aligned faces; its frames have no picture"),
        ("bad_label", "bah/data/split-frames/val.txt, row 4", "the label is neither 0 (absent) nor 1 (present)"),
    ]  # fmt: skip
    quiet = table.clips[table.clips["raw.video"].eq(clip(QUIET))]
    assert quiet["clip_id"].str.extract(r"(\d+)$")[0].tolist() == ["0", "1", "2", "3", "4", "90"]
    assert quiet["split"].eq("test").all()
    assert quiet["media"].isna().all()
    assert quiet[PRESENT].tolist() == [0.0] * 5 + [1.0]
    assert row(table, f"{clip(FRENCH)}/frame-3")["raw.label"] == "yes"


def test_frames_without_any_pictures(folder: Path) -> None:
    shutil.rmtree(folder / "cropped-aligned-faces")
    table = scan(folder, level="frame")
    assert table.clips["media"].isna().all()
    assert notes(table) == []


# ---- files


def test_frames_of_the_annotation_are_not_parsed_where_they_are_not_needed(folder: Path) -> None:
    before = scan(folder).clips
    text = (folder / ANNOTATION).read_text(encoding="utf-8")
    damaged = text.replace("frame-0.jpg\n    - 0\n", "frame-0.jpg\n    - ]\n\n")
    assert damaged != text
    (folder / ANNOTATION).write_text(damaged, encoding="utf-8")
    pd.testing.assert_frame_equal(scan(folder).clips, before)
    shutil.rmtree(folder / "split-frames")
    with pytest.raises(CorpusError, match=rf"^bah/data/{ANNOTATION}, line \d+: cannot be read as YAML"):
        scan(folder, level="frame")


def test_damage_after_the_frames_is_told_with_its_line(folder: Path) -> None:
    lines = (folder / ANNOTATION).read_text(encoding="utf-8").split("\n")
    row = len(lines) - 1 - lines[::-1].index("  global_ah: 1")
    lines[row] = "  global_ah: ]"
    (folder / ANNOTATION).write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(CorpusError, match=rf"^bah/data/{ANNOTATION}, line {row + 1}: cannot be read as YAML"):
        scan(folder)


@pytest.mark.parametrize("layout", ["flow", "header", "comments", "indented", "aliases", "windows", "two"])
def test_annotation_may_be_laid_out_otherwise(folder: Path, layout: str) -> None:
    import yaml

    before = scan(folder, level="segment").clips
    file = folder / ANNOTATION
    text = file.read_text(encoding="utf-8")
    if layout == "flow":
        text = yaml.dump(yaml.load(text, Loader=yaml.FullLoader), default_flow_style=True)
    elif layout == "header":
        text = f"---\n{text}...\n"
    elif layout == "comments":
        text = "# made by hand\n\n" + text.replace("\n  annotator_id", "\n# here\n\n  annotator_id")
    elif layout == "indented":
        text = "\n".join(line if not line.startswith(" ") else f"   {line}" for line in text.split("\n"))
    elif layout == "aliases":
        text = text.replace("annotator_id: CD", "annotator_id: &who CD", 1)
        first, mark, rest = text.partition("&who CD")
        text = first + mark + rest.replace("annotator_id: CD", "annotator_id: *who")
    elif layout == "windows":
        text = text.replace("\n", "\r\n")
    else:
        half = text.index("\nVideos/90003") + 1
        (folder / "test").mkdir()
        (folder / "test" / ANNOTATION).write_text(text[half:], encoding="utf-8")
        text = text[:half]
    file.write_bytes(text.encode())
    table = scan(folder, level="segment")
    pd.testing.assert_frame_equal(table.clips, before)
    assert notes(table) == []


def test_annotations_that_contradict_each_other_or_are_none(folder: Path) -> None:
    text = f"{bah_path(PLAIN)}:\n  global_ah: 1\nVideos/9/Visite_1/x.mp4:\n  global_ah: 0\n{bah_path(FRENCH)}:\n- 3\n"
    (folder / "annotation.yml").write_text(text, encoding="utf-8")
    assert notes(scan(folder)) == [
        ("disagreement", f"bah/data/annotation.yml, '{bah_path(PLAIN)}'",
         f"bah/data/{ANNOTATION} annotates this video otherwise, and is used"),
        ("unusable_row", f"bah/data/annotation.yml, '{bah_path(FRENCH)}'",
         "expected a mapping; this annotation is not used"),
        ("unusable_row", "bah/data/annotation.yml, '9/Visite_1/x.mp4'",
         "no list of videos names this video; it is not used"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [ANNOTATION, "meta_data.yml", "transcript"])
def test_a_tag_that_would_execute_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    transcript = folder / "transcription" / bah_path(FRENCH) / f"{bah_path(FRENCH).stem}.yml"
    file = transcript if name == "transcript" else folder / name
    bad = f"!!python/object/apply:os.mkdir ['{tmp_path / 'made'}']"
    for text in (f"a: {bad}\n", f"a:\n  frame_annotation:\n  - {bad}\n  b: 1\n"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(CorpusError) as error:
            scan(folder)
        shown = file.relative_to(tmp_path).as_posix()
        assert str(error.value).startswith(
            f"{shown}, line {text[: text.index('!')].count(chr(10)) + 1}: the tag 'tag:yaml"
        )
        assert not (tmp_path / "made").exists()


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "bah/data").mkdir(parents=True)
    with pytest.raises(CorpusError) as error:
        scan(tmp_path / "bah/data")
    assert str(error.value) == (
        "corpora.sources.bah: no list split/train.txt of the videos in split 'train' in or below "
        f"{tmp_path / 'bah'}; set its path, or splits to those that are there"
    )
    with pytest.raises(CorpusError, match="there is no folder"):
        scan(tmp_path / "bah/data", path="none")


def test_structure_that_cannot_be_used(folder: Path) -> None:
    (folder / "split/val.txt").unlink()
    assert scan(folder).clips["split"].eq("dev").sum() == 0
    with pytest.raises(CorpusError, match=r"no list split/val\.txt of the videos in split 'dev'"):
        scan(folder, splits=["dev"])
    touch(folder / "copy/split/test.txt")
    with pytest.raises(
        CorpusError, match=r"^bah/copy|^bah/data/copy/split/test\.txt and bah/data/split/test\.txt differ"
    ):
        scan(folder)
    shutil.copy(folder / "split/test.txt", folder / "copy/split/test.txt")
    assert scan(folder).clips["split"].eq("test").sum() == 3

    (folder / "bah-video.csv").write_text("video-path\nx\n", encoding="utf-8")
    with pytest.raises(
        CorpusError, match=r"^bah/data/bah-video\.csv: expected the columns video-path and label, found"
    ):
        scan(folder)
    (folder / "bah-video.csv").unlink()
    (folder / "meta_data.yml").write_text("- 1", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"^bah/data/meta_data\.yml: expected a mapping of participants, found list"):
        scan(folder)
    (folder / "meta_data.yml").unlink()
    (folder / ANNOTATION).write_text("", encoding="utf-8")
    with pytest.raises(CorpusError, match=rf"^bah/data/{ANNOTATION}: expected a mapping of videos, found NoneType"):
        scan(folder)
    (folder / "split/train.txt").write_bytes(b"a\xff")
    with pytest.raises(CorpusError, match=r"^bah/data/split/train\.txt is not UTF-8 at byte 1; get it again"):
        scan(folder)


def test_the_task_must_have_both_classes(folder: Path) -> None:
    tasks = {"ambivalence": BUILTIN_TASKS["ambivalence"].model_copy(update={"classes": ("no", "yes")})}
    message = "BAH labels the classes absent and present, but the task 'ambivalence' has no, yes"
    with pytest.raises(CorpusError, match=message):
        BahCorpus(adapter="bah").scan("bah", folder.parents[1], tasks)


FUZZED = ("split/train.txt", "split-frames/train.txt", ANNOTATION, "meta_data.yml", "bah-video.csv", "transcript")


@pytest.mark.parametrize("name", FUZZED)
def test_some_damage_is_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    damage(tmp_path, name, cuts=1, flips=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZED)
def test_no_damage_raises_anything_but_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    damage(tmp_path, name, cuts=10, flips=20)


def damage(root: Path, name: str, cuts: int, flips: int) -> None:
    """Truncate a file and put random bytes into it, and read it each time."""
    folder = root / "bah/data"
    write_bah(folder, [PLAIN, MARKED, FRENCH], {video.participant: metadata() for video in (PLAIN, FRENCH)})
    transcript = folder / "transcription" / bah_path(MARKED) / f"{bah_path(MARKED).stem}.yml"
    file = transcript if name == "transcript" else folder / name
    whole, chance = file.read_bytes(), random.Random(name)
    damaged = [whole[: len(whole) * cut // cuts] for cut in range(cuts)]
    for _ in range(flips):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 3, 20])):
            at = chance.randrange(len(data))
            put = bytes(chance.choice(b"\x00\x80\xff\n,:-[]{}'\"!&*#% \t") for _ in range(2))
            data[at : at + chance.randrange(2)] = put
        damaged.append(bytes(data))
    for content in damaged:
        file.write_bytes(content)
        error = failure(folder, "frame" if name == "split-frames/train.txt" else "segment")
        assert error is None or file.relative_to(root).as_posix() in error


def failure(folder: Path, level: str) -> str | None:
    """Message of the corpus' own error, if it has one."""
    try:
        scan(folder, level=level)
    except CorpusError as error:
        return str(error)
    return None
