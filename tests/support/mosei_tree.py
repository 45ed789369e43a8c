"""A small look-alike of CMU-MOSEI with every quirk of the published tree; ids and words are invented."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from corpora.demo.layouts import MoseiSegment, mosei_path, write_csd, write_folds, write_transcripts
from corpora.mosei.labels import CSD, NAMES
from corpora.mosei.tables import CLASSES, MMSA_LABELS

LONG, DASH, SHORT, UNDER, STRAY = "vA1b2C3d4E5", "-dash_end_", "210433", "zz__Q9-long_id", "inNoFold_01"

LINES = (
    MoseiSegment(LONG, 0, -0.25, 4.5, "A kite___no, two___over the lake.", 1.0, {"happiness": 2.0, "fear": 1 / 3}),
    MoseiSegment(LONG, 1, 4.25, 9.0, "It was fine.", 0.0, {}),
    MoseiSegment(LONG, 2, 8.75, 15.0, "Who moved my boots?", -2.0, {"anger": 3.0, "disgust": 1.0}),
    MoseiSegment(LONG, 3, 14.75, 20.0, "Rain again.", -1 / 3, {"sadness": 2 / 3}),
    MoseiSegment(DASH, 0, 0.0, 5.0, "Soup, then.", 3.0, {"surprise": 1.0}),
    MoseiSegment(DASH, 1, 5.0, 10.0, "Warm — quite.", 2.0, {"happiness": 1.0}),
    MoseiSegment(DASH, 2, 10.0, 16.0, "The lid.", 0.0, {}),
    MoseiSegment(SHORT, 0, 0.5, 3.5, "Left at noon.", 0.5, {}, "dev"),
    MoseiSegment(SHORT, 1, 3.5, 6.0, "Nobody labelled this.", 0.0, {}, "dev"),
    MoseiSegment(SHORT, 2, 6.0, 12.0, "Then the bus came.", -3.0, {"fear": 2.0}, "dev"),
    MoseiSegment(UNDER, 0, 1.0, 4.0, "One.", 1.0, {"happiness": 1 / 3}, "test"),
    MoseiSegment(UNDER, 1, 4.0, 8.0, "Two.", 1.0, {"happiness": 2 / 3}, "test"),
    MoseiSegment(UNDER, 2, 8.0, 11.0, "Three.", 1.0, {"happiness": 1.0}, "test"),
    MoseiSegment(STRAY, 0, 0.0, 2.0, "Unplaced.", 0.0, {}),
    MoseiSegment(STRAY, 1, 2.0, 4.0, "Still unplaced.", 0.0, {}),
)
"""Lines of the transcripts."""
_BARE = MoseiSegment(SHORT, 9, 20.0, 25.5, "", 2.5, {"surprise": 3.0}, "dev")
_UNANNOTATED = LINES[8]


def full_path(video: str) -> PurePosixPath:
    """Path of a whole video, relative to the corpus' folder."""
    return PurePosixPath("Raw", "Videos", "Full", "Combined", f"{video}.mp4")


def sound_path(video: str) -> PurePosixPath:
    """Path of a whole video's sound, relative to the corpus' folder."""
    return PurePosixPath("Raw", "Audio", "Full", "WAV_16000", f"{video}.wav")


def mmsa_path(video: str, clip: int) -> PurePosixPath:
    """Path of a segment's file in MMSA's layout, relative to the corpus' folder."""
    return PurePosixPath("Raw", video, f"{clip}.mp4")


def write_answers(folder: Path, batch: str, answers: Iterable[tuple[str, int, str, Sequence[float]]]) -> None:
    """Write `Raw/Labels/<batch>.csv` from answers: video, clip, worker, numbers in the order of `NAMES`."""
    columns = ["HITId", "WorkerId", "Input.VIDEO_ID", "Input.CLIP", *(f"Answer.{name}" for name in sorted(NAMES))]
    rows = []
    for number, (video, clip, worker, numbers) in enumerate(answers):
        by_name = dict(zip(NAMES, numbers, strict=True))
        rows.append([f"HIT{number}", worker, video, clip, *(f"{by_name[name]:g}" for name in sorted(NAMES))])
    _write_csv(folder / "Raw" / "Labels" / f"{batch}.csv", columns, rows)


def write_mmsa(folder: Path, segments: Iterable[MoseiSegment]) -> None:
    """Write MMSA's `label.csv`."""
    columns = ["video_id", "clip_id", "text", "label", "annotation", "mode"]
    modes = {"train": "train", "dev": "valid", "test": "test"}
    words = {-1: "Negative", 0: "Neutral", 1: "Positive"}
    rows = [
        [
            row.video,
            row.clip,
            row.text,
            row.sentiment,
            words[(row.sentiment > 0) - (row.sentiment < 0)],
            modes[row.split],
        ]
        for row in segments
    ]
    _write_csv(folder / MMSA_LABELS, columns, rows)


def write_table(path: Path, rows: Iterable[tuple[str, float, float, str, Mapping[str, float], str]]) -> None:
    """Write a flat table from rows: video, start, end, text, share by class, description."""
    columns = ["video_name", "text", *CLASSES, "Other", "text_llm"]
    cells = [
        [f"{video}_{start:.4f}_{end:.4f}", text, *(shares.get(name, 0.0) for name in CLASSES), 0.0, description]
        for video, start, end, text, shares, description in rows
    ]
    _write_csv(path, columns, cells)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def build(folder: Path) -> None:
    """Write the tree below `folder`: the official layout, then what is wrong with it."""
    shifted = replace(LINES[12], start=8.5, end=11.5)  # shares 2.5 of 3.5 seconds with its line
    almost = replace(LINES[11], start=4.04, end=7.96)
    rows = [
        LINES[3],
        LINES[1],
        LINES[0],
        LINES[2],
        *LINES[4:7],
        _BARE,
        *LINES[7:8],
        LINES[9],
        shifted,
        LINES[10],
        almost,
    ]
    write_csd(folder, [*rows, *LINES[13:]])
    write_transcripts(folder, LINES)
    write_folds(folder, LINES[:13])
    folds = json.loads((folder / "standard_folds.json").read_text(encoding="utf-8"))
    folds["train"].append("ghostVideo1")
    (folder / "standard_folds.json").write_text(json.dumps(folds), encoding="utf-8")
    with h5py.File(folder / CSD, "r+") as file:
        group = file[f"All Labels/data/{LONG}"]
        again = {name: np.concatenate([group[name][()], group[name][:1]]) for name in ("features", "intervals")}
        for name, values in again.items():  # the first row once more
            del group[name]
            group[name] = values
    transcript = folder / "Raw/Transcript/Segmented/Combined" / f"{DASH}.txt"
    with transcript.open("a", encoding="utf-8", newline="") as file:
        file.write(f"{DASH}___2___10.0___16.0___The lid.\n\n{DASH}___1___5.0___9.0___Other.\nstray words\n")

    videos = list(dict.fromkeys(line.video for line in LINES))
    media = [mosei_path(line.video, line.clip) for line in LINES]
    media += [full_path(video) for video in videos if video != UNDER]
    media += [sound_path(video) for video in videos if video != SHORT]
    media += [mosei_path(LONG, 7)]
    for path in media:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"\x00")
        (folder / path).with_name(f"._{path.name}").touch()
    (folder / mosei_path(LONG, 2)).write_bytes(b"")
    (folder / mosei_path(LONG, 3)).unlink()
    (folder / mosei_path(UNDER, 1)).write_bytes(b"")
    (folder / mosei_path(UNDER, 2)).unlink()
