from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from corpora.clips import ClipTable, CorpusError, Defects, label_columns
from corpora.demo.layouts import DIMENSIONS, MoseiSegment, mosei_path, write_csd, write_mosei
from corpora.mosei.corpus import MoseiCorpus, match_spans
from corpora.mosei.labels import CSD, MOST_SEGMENTS
from corpora.registry import CorporaConfig, read_corpora
from mmpsr.tasks import BUILTIN_TASKS, EMOTION, TaskSpec
from tests.support.mosei_tree import DASH, LINES, LONG, SHORT, STRAY, UNDER, build, full_path, sound_path

SENTIMENT = TaskSpec(kind="regression", classes=("sentiment",), loss="mae", metrics=("mae",))
LABELS = label_columns("emotion", EMOTION)
TRANSCRIPTS = "mosei/Raw/Transcript/Segmented/Combined"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    build(tmp_path / "mosei")
    return tmp_path


def scan(root: Path, **settings: Any) -> ClipTable:
    source = MoseiCorpus.model_validate({"adapter": "mosei", "path": "mosei", **settings})
    return source.scan("m", root, {**BUILTIN_TASKS, "sentiment": SENTIMENT})


def plain(folder: Path, *segments: MoseiSegment) -> None:
    write_mosei(folder / "mosei", segments or LINES[:3])


def put(root: Path, *paths: Any, content: bytes = b"\x00") -> None:
    for path in paths:
        file = root / "mosei" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def defects(table: ClipTable) -> list[tuple[str, str, str]]:
    rows = table.defects[["kind", "where", "reason"]]
    return [(str(kind), str(where), str(reason)) for kind, where, reason in rows.itertuples(index=False)]


def row(table: ClipTable, clip: str) -> dict[str, Any]:
    """All that is known of a clip."""
    found = table.clips.set_index("clip_id", drop=False).loc[clip]
    return {str(name): value for name, value in found.items() if not pd.isna(value)}


def test_a_clip_to_the_last_field(root: Path) -> None:
    table = scan(root, release="1.0")
    raw = root / "mosei" / "Raw"
    assert row(table, f"{LONG}_0") == {
        "corpus": "m", "release": "1.0", "split": "train", "clip_id": f"{LONG}_0", "group": LONG,
        "group_kind": "video", "language": "en", "text": "A kite___no, two___over the lake.",
        "media": str(raw / f"Videos/Segmented/Combined/{LONG}_0.mp4"),
        "fallback_media": str(raw / f"Videos/Full/Combined/{LONG}.mp4"), "fallback_start": 0.0, "fallback_end": 4.5,
        "audio_media": str(raw / f"Audio/Full/WAV_16000/{LONG}.wav"), "audio_start": 0.0, "audio_end": 4.5,
        "emotion.Neutral": 0.0, "emotion.Anger": 0.0, "emotion.Disgust": 0.0,
        "emotion.Fear": pytest.approx(1 / 9), "emotion.Happiness": pytest.approx(2 / 3), "emotion.Sadness": 0.0,
        "emotion.Surprise": 0.0, "raw.sentiment": "1", "raw.happiness": "2", "raw.sadness": "0", "raw.anger": "0",
        "raw.surprise": "0", "raw.disgust": "0", "raw.fear": "0.3333333", "raw.start": "-0.25", "raw.end": "4.5",
        "raw.annotated_seconds": "4.5",
    }  # fmt: skip
    assert {name: str(table.clips[name].dtype) for name in ("raw.sentiment", "raw.start", "text")} == dict.fromkeys(
        ("raw.sentiment", "raw.start", "text"), "string"
    )


def test_all_clips_of_the_tree(root: Path) -> None:
    clips = scan(root).validate(BUILTIN_TASKS).clips
    assert dict(zip(clips["clip_id"], clips["split"], strict=True)) == {
        f"{DASH}_0": "train", f"{DASH}_1": "train", f"{DASH}_2": "train", f"{SHORT}_20.0000_25.5000": "dev",
        f"{SHORT}_0": "dev", f"{SHORT}_2": "dev", f"{LONG}_3": "train", f"{LONG}_1": "train", f"{LONG}_0": "train",
        f"{LONG}_2": "train", f"{UNDER}_2": "test", f"{UNDER}_0": "test", f"{UNDER}_1": "test",
    }  # fmt: skip
    by_clip = clips.set_index("clip_id")
    for line in LINES[:13]:
        if (line.video, line.clip) != (SHORT, 1):
            found = by_clip.loc[f"{line.video}_{line.clip}"]
            assert found["text"] == line.text
            assert float(found["raw.sentiment"]) == pytest.approx(line.sentiment, abs=1e-6)
            expected = {name.capitalize(): value / 3 for name, value in line.emotions.items()} or {"Neutral": 1.0}
            assert found[LABELS].to_numpy(float) == pytest.approx([expected.get(name, 0.0) for name in EMOTION.classes])
    assert by_clip["group"].tolist() == [DASH] * 3 + [SHORT] * 3 + [LONG] * 4 + [UNDER] * 3


def test_every_defect_of_the_tree(root: Path) -> None:
    csd = f"mosei/{CSD}, video"
    assert sorted(defects(scan(root))) == sorted([
        ("unusable_row", f"{TRANSCRIPTS}/{DASH}.txt, row 7",
         f"not a line {DASH}___<clip>___<start>___<end>___<text>; not used"),
        ("ignored", f"{TRANSCRIPTS}/{DASH}.txt, row 4", "the same line of clip 2 stands above; the first is used"),
        ("disagreement", f"{TRANSCRIPTS}/{DASH}.txt, row 6", "another line of clip 1 stands above; the first is used"),
        ("ignored", f"{csd} '{LONG}', row 4",
         "an earlier row has 14.75 to 20 s with the same labels; the first is used"),
        ("disagreement", f"{csd} '{UNDER}', row 0", f"annotated from 8.5 to 11.5 s, but {TRANSCRIPTS}/{UNDER}.txt, row "
         "3 runs from 8 to 11 s; the annotated times are used"),
        ("missing_annotation", f"{TRANSCRIPTS}/{SHORT}.txt, row 2", "no interval has labels for this; not used"),
        ("unusable_row", f"{csd} '{STRAY}', row 0",
         f"video '{STRAY}' is in no fold of mosei/standard_folds.json; its clips (2) are not used"),
        ("disagreement", "mosei/standard_folds.json", "1 of 5 videos have no labels, for example 'ghostVideo1'"),
        ("missing_text", f"{csd} '{SHORT}', row 0", "no transcript; the text modality is absent"),
        ("mended", f"{csd} '{LONG}', row 2", "it starts before its video; it is cut from 0 s"),
        ("missing_annotation", f"mosei/Raw/Videos/Segmented/Combined/{SHORT}_1.mp4",
         "4 of 14 segmented files belong to no annotated clip, this is the first; not used"),
        ("missing_annotation", f"mosei/Raw/Videos/Full/Combined/{STRAY}.mp4",
         "1 of 4 full videos belong to no annotated clip, this is the first; not used"),
        ("missing_annotation", f"mosei/Raw/Audio/Full/WAV_16000/{STRAY}.wav",
         "1 of 4 sound files belong to no annotated clip, this is the first; not used"),
        ("mended", f"{csd} '{LONG}', row 3", "its segmented file is empty; cut from the full video"),
        ("mended", f"{csd} '{SHORT}', row 0", "it has no segmented file; cut from the full video"),
        ("mended", f"{csd} '{LONG}', row 0", "it has no segmented file; cut from the full video"),
        ("missing_media", f"{csd} '{UNDER}', row 0", "no segmented file, no full video"),
        ("missing_media", f"{csd} '{UNDER}', row 2", "its segmented file is empty, and no full video is there"),
        ("mended", f"{csd} '{SHORT}', row 0", f"no WAV_16000/{SHORT}.wav, or one without content, for this video's "
         "clips; the sound is that of the video"),
    ])  # fmt: skip


def test_a_clean_tree_has_no_defect_and_is_a_source(tmp_path: Path) -> None:
    plain(tmp_path, *LINES[1:8])
    put(tmp_path, *(mosei_path(line.video, line.clip) for line in LINES[1:8]))
    config = CorporaConfig.model_validate({"root": str(tmp_path), "sources": {"m": {"adapter": "mosei"}}})
    table = read_corpora(config, BUILTIN_TASKS)
    assert len(table.clips) == 7
    assert len(table.defects) == 0
    assert table.clips["media"].notna().all()
    assert table.clips["fallback_media"].isna().all()
    assert MoseiCorpus(adapter="mosei").published_counts() == {"train": 16327, "dev": 1871, "test": 4662}


def places(table: ClipTable, clip: str) -> list[Any]:
    found = table.clips.set_index("clip_id").loc[clip]
    names = ("media", "fallback_media", "start", "end", "fallback_start", "fallback_end")
    values = [None if pd.isna(found[name]) else found[name] for name in names]
    return [Path(value).name if isinstance(value, str) else value for value in values]


def test_choice_of_media(root: Path) -> None:
    table = scan(root)
    assert places(table, f"{LONG}_1") == [f"{LONG}_1.mp4", f"{LONG}.mp4", None, None, 4.25, 9.0]
    assert places(table, f"{LONG}_2") == [f"{LONG}.mp4", None, 8.75, 15.0, None, None]
    assert places(table, f"{UNDER}_0") == [f"{UNDER}_0.mp4", None, None, None, None, None]
    assert places(table, f"{UNDER}_1") == [None] * 6

    table = scan(root, media="segmented")
    assert places(table, f"{LONG}_1") == [f"{LONG}_1.mp4", None, None, None, None, None]
    assert places(table, f"{LONG}_2") == [None] * 6
    reasons = table.defects.loc[table.defects["kind"].eq("missing_media"), ["clip_id", "reason"]].to_numpy().tolist()
    assert sorted(reasons) == [
        [f"{SHORT}_20.0000_25.5000", "no segmented file"], [f"{LONG}_2", "its segmented file is empty"],
        [f"{LONG}_3", "no segmented file"], [f"{UNDER}_1", "its segmented file is empty"],
        [f"{UNDER}_2", "no segmented file"],
    ]  # fmt: skip
    assert not table.defects["reason"].str.contains("cut from the full").any()

    table = scan(root, media="full")
    assert places(table, f"{LONG}_1") == [f"{LONG}.mp4", None, 4.25, 9.0, None, None]
    missing = table.defects[table.defects["kind"].eq("missing_media")]
    assert sorted(missing["clip_id"]) == [f"{UNDER}_{clip}" for clip in range(3)]
    assert set(missing["reason"]) == {"no full video"}
    assert not table.defects["reason"].str.contains("cut from the full").any()


def test_media_elsewhere(tmp_path: Path) -> None:
    plain(tmp_path)
    put(tmp_path, f"Audio/WAV_16000/{LONG}.wav", f"clips/{LONG}_1.MKV", f"clips/{LONG}_2.txt", f"a/{LONG}_0.mp4")
    put(tmp_path, mosei_path(LONG, 0))
    table = scan(tmp_path)
    clips = table.clips.set_index("clip_id")
    assert clips.loc[f"{LONG}_0", "media"] == str(tmp_path / "mosei" / mosei_path(LONG, 0))
    assert clips.loc[f"{LONG}_1", "media"] == str(tmp_path / f"mosei/clips/{LONG}_1.MKV")
    assert pd.isna(clips.loc[f"{LONG}_2", "media"])
    assert clips["audio_start"].tolist() == [0.0, 4.25, 8.75]
    reasons = table.defects.set_index("kind")["reason"]
    assert reasons["missing_media"] == "no segmented file, no full video"


def test_without_segmented_files_all_is_cut_without_a_note(tmp_path: Path) -> None:
    plain(tmp_path, *LINES[1:6])
    put(tmp_path, full_path(LONG), full_path(DASH))
    table = scan(tmp_path)
    assert table.clips["start"].tolist() == [0.0, 5.0, 4.25, 8.75, 14.75]
    assert len(table.defects) == 0


def test_sound_alone(tmp_path: Path) -> None:
    plain(tmp_path, *LINES[1:8])
    put(tmp_path, sound_path(LONG))
    put(tmp_path, sound_path(DASH), content=b"")
    table = scan(tmp_path)
    assert table.clips["media"].isna().all()
    assert table.clips.set_index("clip_id").loc[f"{LONG}_2", ["audio_start", "audio_end"]].tolist() == [8.75, 15.0]
    assert table.clips["audio_start"].notna().sum() == 3 == table.clips["audio_end"].notna().sum()
    assert [kind for kind, _, _ in defects(table)] == ["missing_media"] * 2
    assert defects(table)[0][2] == f"no WAV_16000/{DASH}.wav, or one without content, for this video's clips"


def test_without_media_and_transcripts_one_note_is_made(tmp_path: Path) -> None:
    write_csd(tmp_path / "mosei", LINES[:3])
    table = scan(tmp_path, fractions={"train": 1.0})
    assert table.clips["clip_id"].tolist() == [
        f"{LONG}_-0.2500_4.5000",
        f"{LONG}_4.2500_9.0000",
        f"{LONG}_8.7500_15.0000",
    ]
    assert table.clips[["media", "text", "start", "end", "audio_media"]].isna().all(axis=None)
    assert defects(table)[0] == (
        "missing_text", "mosei",
        "no clip has a transcript (Transcript/Segmented/Combined/<video>.txt); the text modality is absent",
    )  # fmt: skip
    assert len(table.defects) == 2  # and the negative start


def test_blank_text_is_missing(tmp_path: Path) -> None:
    plain(tmp_path, LINES[1], MoseiSegment(LONG, 2, 9.0, 12.0, " ", 0.0, {}))
    table = scan(tmp_path)
    assert table.clips["text"].isna().tolist() == [False, True]
    assert table.defects["clip_id"].tolist() == [f"{LONG}_2"]
    assert defects(table)[0][0] == "missing_text"


def test_times_that_cannot_be(tmp_path: Path) -> None:
    odd = [
        MoseiSegment(LONG, clip, start, end, "x", 0.0, {})
        for clip, start, end in ((0, 5.0, 5.0), (1, 7.0, 6.0), (2, -2.0, -1.0), (3, 8.0, 9.0))
    ]
    plain(tmp_path, *odd, MoseiSegment(LONG, 4, np.nan, 3.0, "x", 0.0, {}))
    put(tmp_path, full_path(LONG), sound_path(LONG), mosei_path(LONG, 0))
    table = scan(tmp_path).validate(BUILTIN_TASKS)
    assert len(table.clips) == 4
    clips = table.clips.set_index("clip_id")
    assert clips["audio_media"].notna().tolist() == [False, False, False, True]
    assert clips["fallback_media"].isna().all()
    assert clips["media"].notna().tolist() == [True, False, False, True]
    assert clips["raw.start"].tolist() == ["5", "7", "-2", "8"]
    assert clips["raw.end"].tolist() == ["5", "6", "-1", "9"]
    assert clips["raw.annotated_seconds"].isna().tolist() == [True, True, True, False]
    found = defects(table)
    reason = "its end is not after its start; nothing can be cut for it, a segmented file keeps its own length"
    assert [where[-5:] for kind, where, why in found if (kind, why) == ("bad_span", reason)] == [
        "row 0",
        "row 1",
        "row 2",
    ]
    assert (
        "unusable_row",
        f"mosei/{CSD}, video '{LONG}', row 4",
        "its interval is not made of numbers; not used",
    ) in found
    assert not [why for kind, _, why in found if kind == "mended" and "before" in why]


def test_numbers_outside_their_range_are_errors(tmp_path: Path) -> None:
    plain(
        tmp_path,
        MoseiSegment(LONG, 0, 0.0, 1.0, "x", 3.5, {"fear": 3.00001}),
        MoseiSegment(LONG, 1, 1.0, 2.0, "x", -3.0, {"fear": -0.5, "anger": 1.0}),
        MoseiSegment(LONG, 2, 2.0, 3.0, "x", 0.0, dict.fromkeys(("happiness", "sadness", "anger", "surprise"), np.nan)),
        MoseiSegment(LONG, 3, 3.0, 4.0, "x", np.nan, dict.fromkeys(
            ("happiness", "sadness", "anger", "surprise", "disgust", "fear"), np.nan)),
        MoseiSegment(LONG, 4, 4.0, 5.0, "x", 0.0, {"fear": np.inf}),
    )  # fmt: skip
    table = scan(tmp_path)
    assert defects(table) == [
        ("bad_label", f"mosei/{CSD}, video '{LONG}', row 0", "sentiment is 3.5, outside [-3, 3]"),
        ("bad_label", f"mosei/{CSD}, video '{LONG}', row 1", "fear is -0.5, outside [0, 3]"),
        ("bad_label", f"mosei/{CSD}, video '{LONG}', row 4", "fear is inf, outside [0, 3]"),
        ("missing_label", f"mosei/{CSD}, video '{LONG}', row 3",
         "no emotion is annotated; the clip is kept without labels"),
    ]  # fmt: skip
    clips = table.validate(BUILTIN_TASKS).clips
    assert clips["emotion.Fear"].fillna(-1).tolist() == [1.0, -1.0, 0.0, -1.0, -1.0]  # single precision is forgiven
    assert clips["emotion.Neutral"].fillna(-1).tolist() == [0.0, 0.0, -1.0, -1.0, -1.0]
    assert clips["raw.sentiment"].fillna("?").tolist() == ["?", "-3", "0", "?", "0"]
    with pytest.raises(CorpusError, match=rf"{CSD}, video '{LONG}', row 0: sentiment is 3\.5"):
        MoseiCorpus(adapter="mosei").read("m", tmp_path, BUILTIN_TASKS)


def test_sentiment_as_a_task(root: Path) -> None:
    table = scan(root, labels={"sentiment": {"columns": ["sentiment"], "scale": [-3, 3]}})
    values = table.clips.set_index("clip_id")["sentiment.sentiment"]
    assert values[f"{DASH}_0"] == 1.0
    assert values[f"{SHORT}_2"] == 0.0
    assert values[f"{LONG}_3"] == pytest.approx((3 - 1 / 3) / 6, abs=1e-6)


def test_same_interval_with_other_labels_is_a_disagreement(tmp_path: Path) -> None:
    plain(tmp_path, LINES[1])
    write_csd(tmp_path / "mosei", [LINES[1], MoseiSegment(LONG, 5, LINES[1].start, LINES[1].end, "", 2.0, {})])
    table = scan(tmp_path)
    assert table.clips["raw.sentiment"].tolist() == ["0"]
    assert defects(table) == [(
        "disagreement", f"mosei/{CSD}, video '{LONG}', row 1",
        "an earlier row has 4.25 to 9 s with other labels; the first is used",
    )]  # fmt: skip


def test_dimension_names_decide_the_order(tmp_path: Path) -> None:
    segment = MoseiSegment(LONG, 0, 0.0, 1.0, "x", 2.0, {"happiness": 3.0, "fear": 1.5})
    plain(tmp_path, segment)
    folder = tmp_path / "mosei"
    for unnamed in (None, []):
        write_csd(folder, [segment], dimensions=unnamed)
        assert scan(tmp_path).clips[["raw.sentiment", "raw.happiness"]].to_numpy().tolist() == [["2", "3"]]
    with h5py.File(folder / CSD, "r+") as file:
        del file["All Labels/metadata"]
    assert scan(tmp_path).clips["raw.happiness"].tolist() == ["3"]
    write_csd(
        folder,
        [segment],
        dimensions=["Fear", " Angry", *DIMENSIONS[2:3], "surprise", "disgust", "sentiment", "happiness"],
    )
    found = scan(tmp_path).clips.iloc[0]
    assert [found[f"raw.{name}"] for name in ("fear", "anger", "sentiment", "happiness")] == ["2", "3", "0", "1.5"]
    write_csd(folder, [segment], dimensions=["valence", *DIMENSIONS[1:]])
    with pytest.raises(
        CorpusError, match=rf"mosei/{CSD}: dimension names are \['valence', .*\], expected sentiment, happ"
    ):
        scan(tmp_path)


def test_structure_of_the_csd(tmp_path: Path) -> None:
    plain(tmp_path)
    path = tmp_path / "mosei" / CSD
    with h5py.File(path, "r+") as file:
        del file[f"All Labels/data/{LONG}/intervals"]
        file[f"All Labels/data/{LONG}/intervals"] = np.zeros((2, 2))
    with pytest.raises(
        CorpusError, match=rf"{CSD}, video '{LONG}': features are \[3, 7\] and intervals \[2, 2\], expected"
    ):
        scan(tmp_path)
    with h5py.File(path, "w") as file:
        data = file.create_group("All Labels/data/v")
        data.create_dataset("features", (MOST_SEGMENTS + 1, 7), "f4")
        data.create_dataset("intervals", (MOST_SEGMENTS + 1, 2), "f4")
    with pytest.raises(CorpusError, match=r"features are \[2001, 7\]"):
        scan(tmp_path)
    with h5py.File(path, "w") as file:
        file.create_group("All Labels/metadata")
    with pytest.raises(CorpusError, match=rf"mosei/{CSD} has no videos at All Labels/data; it should be the SDK's"):
        scan(tmp_path)
    path.write_bytes(b"not HDF5")
    with pytest.raises(CorpusError, match=rf"mosei/{CSD} cannot be read as HDF5 \(.*\); fetch it again"):
        scan(tmp_path)
    path.unlink()
    with pytest.raises(CorpusError, match=rf"no file of the labels \({CSD}\) in or below"):
        scan(tmp_path, labels_from="csd")
    with pytest.raises(CorpusError, match=r"corpora\.sources\.m: no CMU_MOSEI_Labels\.csd, no AMT answers"):
        scan(tmp_path)


def test_root_of_the_csd_may_have_another_name(tmp_path: Path) -> None:
    plain(tmp_path)
    with h5py.File(tmp_path / "mosei" / CSD, "r+") as file:
        file.move("All Labels", "Labels")
    assert len(scan(tmp_path).clips) == 3


def test_transcripts_elsewhere_and_of_other_bytes(tmp_path: Path) -> None:
    plain(tmp_path, *LINES[1:3])
    segmented = tmp_path / TRANSCRIPTS
    other = tmp_path / "mosei/Transcript/Combined"
    other.mkdir(parents=True)
    (segmented / f"{LONG}.txt").rename(other / f"{LONG}.txt")
    (other / "notes.md").write_text("x", encoding="utf-8")
    text = (other / f"{LONG}.txt").read_bytes().replace(b"fine", b"f\xefne")
    (other / f"{LONG}.txt").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    table = scan(tmp_path)
    assert table.clips["text"].tolist() == ["It was f\ufffdne.", "Who moved my boots?"]
    where = f"mosei/Transcript/Combined/{LONG}.txt"
    assert defects(table) == [("mended", where, "bytes that are not UTF-8 were replaced")]
    (segmented / f"{LONG}.txt").write_bytes(text.replace(b"f\xefne", "\ufffd".encode()))  # this folder goes first
    assert scan(tmp_path).clips["text"].tolist() == ["It was \ufffd.", "Who moved my boots?"]
    assert len(scan(tmp_path).defects) == 0


@pytest.mark.parametrize(
    "line", ["v___x___1___2___t", "v___1___a___2___t", "v___1___0___inf___t", "v___1___0___2", "u___1___0___2___t"]
)
def test_lines_that_are_none(tmp_path: Path, line: str) -> None:
    plain(tmp_path, MoseiSegment("v", 0, 0.0, 2.0, "x", 0.0, {}))
    (tmp_path / TRANSCRIPTS / "v.txt").write_text(f"v___0___0.0___2.0___x\n{line}\n", encoding="utf-8")
    reason = "not a line v___<clip>___<start>___<end>___<text>; not used"
    assert defects(scan(tmp_path)) == [("unusable_row", f"{TRANSCRIPTS}/v.txt, row 2", reason)]


def spans(*rows: tuple[str, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["vid", "start", "end"]).astype({"start": "float64", "end": "float64"})


@pytest.mark.parametrize(
    ("these", "those", "pairs"),
    [
        # both ends within 0.05 s, the nearest first, each used once
        ([("a", 0, 4)], [("a", 0.04, 4.04), ("a", 0.01, 4.0)], [(0, 1, True)]),
        ([("a", 0, 4), ("a", 0.03, 4)], [("a", 0.02, 4)], [(1, 0, True)]),
        # one end further away, but 4.0 of 4.06 s shared
        ([("a", 0, 4.06)], [("a", 0, 4)], [(0, 0, False)]),
        # 2 of 4 s shared; then 1.9 of 4.1 s; another video
        ([("a", 0, 3)], [("a", 1, 4)], [(0, 0, False)]),
        ([("a", 0, 3)], [("a", 1.1, 4.1)], []),
        ([("a", 0, 3)], [("b", 0, 3)], []),
        # what is left after the exact ones goes to the largest share: 9 of 10 s before 8 of 10 s
        ([("a", 0, 10), ("a", 20, 30)], [("a", 20.01, 30), ("a", 0, 8), ("a", 0, 9)], [(0, 2, False), (1, 0, True)]),
        # an exact pair goes before a near one of another row
        ([("a", 0, 9.9), ("a", 0, 10)], [("a", 0, 10)], [(1, 0, True)]),
        # negative starts count as 0 on either side; no length, no share; unknown times match nothing
        ([("a", -3, 4)], [("a", 0, 4)], [(0, 0, True)]),
        ([("a", 0, 4)], [("a", -3, 4)], [(0, 0, True)]),
        ([("a", 2, 2)], [("a", 3, 3)], []),
        ([("a", np.nan, 4)], [("a", 0, 4)], []),
    ],
)  # fmt: skip
def test_matching_of_spans(these: list[Any], those: list[Any], pairs: list[Any]) -> None:
    found = match_spans(spans(*these), spans(*those))
    assert [tuple(pair) for pair in found.itertuples(index=False)] == pairs


def test_splits_anew_need_no_folds(root: Path) -> None:
    (root / "mosei/standard_folds.json").unlink()
    table = scan(root, hold_out={"test": [LONG], "dev": [DASH]})
    assert table.clips.groupby("group")["split"].unique().map(list).to_dict() == {
        LONG: ["test"], DASH: ["dev"], SHORT: ["train"], UNDER: ["train"], STRAY: ["train"],
    }  # fmt: skip
    folder = (root / "mosei").absolute()
    with pytest.raises(CorpusError) as error:
        scan(root)
    assert str(error.value) == (
        "corpora.sources.m: the standard folds are missing; put the SDK's cmu_mosei_std_folds.py, a file *fold*.json, "
        f".txt or .csv, or three lists train*.txt, valid*.txt and test*.txt of video ids into {folder}, or set "
        "fractions, hold_out or fold to split anew"
    )


def test_only_some_splits(root: Path) -> None:
    assert set(scan(root, splits=["dev"]).clips["group"]) == {SHORT}
    folds = root / "mosei/standard_folds.json"
    folds.write_text(json.dumps({"train": [LONG]}), encoding="utf-8")
    with pytest.raises(CorpusError, match=r"no clip in split 'dev', which corpora.sources.m.splits asks for"):
        scan(root, splits=["dev"])


def test_layout_writer_reads_back_its_own_defects(tmp_path: Path) -> None:
    plain(tmp_path)
    notes = Defects("m")
    frame = MoseiCorpus(adapter="mosei", path="mosei").collect("m", tmp_path, BUILTIN_TASKS, notes)
    assert frame["where"].tolist() == [f"mosei/{CSD}, video '{LONG}', row {number}" for number in range(3)]
    assert [kind for _, _, kind, _, _ in notes.rows] == ["mended"]
