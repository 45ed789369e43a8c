"""Writes CMU-MOSEI's official layout: the labels as a CSD, transcripts, standard folds, and the places of its media.

The flat table that others published it in is written here too.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from corpora.clips import SPLITS, Split
from corpora.mosei.labels import CSD, EMOTIONS
from corpora.mosei.tables import CLASSES

__all__ = [
    "DIMENSIONS",
    "MoseiSegment",
    "segment_path",
    "write_csd",
    "write_folds",
    "write_mosei",
    "write_table",
    "write_transcripts",
]

DIMENSIONS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")
"""Columns of the CSD as it names them."""
_TRANSCRIPTS = PurePosixPath("Raw", "Transcript", "Segmented", "Combined")


@dataclass(frozen=True)
class MoseiSegment:
    """One annotated sentence."""

    video: str
    """Video id."""
    clip: int
    """Number of the transcript's line."""
    start: float
    """Seconds into the video."""
    end: float
    """Seconds into the video."""
    text: str
    """What is said."""
    sentiment: float
    """From -3 to 3."""
    emotions: Mapping[str, float]
    """Intensity in [0, 3] by key of `EMOTIONS`; those left out are 0."""
    split: Split = "train"
    """Fold of the video."""

    @property
    def intensities(self) -> list[float]:
        """Numbers in the order of `NAMES`."""
        return [self.sentiment, *(self.emotions.get(name, 0.0) for name in EMOTIONS)]


def segment_path(video: str, clip: int) -> PurePosixPath:
    """Path of a segment's file, relative to the corpus' folder."""
    return PurePosixPath("Raw", "Videos", "Segmented", "Combined", f"{video}_{clip}.mp4")


def write_mosei(folder: Path, segments: Sequence[MoseiSegment]) -> None:
    """Write labels, transcripts and folds below the corpus' folder.

    Args:
        folder: the corpus' folder.
        segments: in the order that the CSD has them, which need not be that of their clip numbers.
    """
    write_csd(folder, segments)
    write_transcripts(folder, segments)
    write_folds(folder, segments)


def write_csd(folder: Path, segments: Iterable[MoseiSegment], dimensions: Sequence[str] | None = DIMENSIONS) -> None:
    """Write `CMU_MOSEI_Labels.csd`.

    Args:
        folder: the corpus' folder.
        segments: rows, those of a video in their order.
        dimensions: names to note for the columns, which keep their order; None notes none.
    """
    import h5py
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / CSD, "w") as file:
        for video, rows in _by_video(segments).items():
            group = file.create_group(f"All Labels/data/{video}")
            group["features"] = np.array([row.intensities for row in rows], dtype=np.float32)
            group["intervals"] = np.array([(row.start, row.end) for row in rows], dtype=np.float64)
        metadata = {"root name": "All Labels", "computational sequence version": "1.0"}
        for key, value in {**metadata, **({} if dimensions is None else {"dimension names": dimensions})}.items():
            text = file.create_dataset(f"All Labels/metadata/{key}", (1,), dtype=h5py.string_dtype())
            text[0] = json.dumps(value)


def write_transcripts(folder: Path, segments: Iterable[MoseiSegment]) -> None:
    """Write `Raw/Transcript/Segmented/Combined/<video>.txt`, lines in the order of their clip numbers."""
    (folder / _TRANSCRIPTS).mkdir(parents=True, exist_ok=True)
    for video, rows in _by_video(segments).items():
        rows = sorted(rows, key=lambda row: row.clip)
        lines = [f"{video}___{row.clip}___{row.start}___{row.end}___{row.text}\n" for row in rows]
        (folder / _TRANSCRIPTS / f"{video}.txt").write_text("".join(lines), encoding="utf-8", newline="")


def write_folds(folder: Path, segments: Iterable[MoseiSegment]) -> None:
    """Write `standard_folds.json`: video ids by split."""
    folds: dict[str, list[str]] = {split: [] for split in SPLITS}
    for video, rows in _by_video(segments).items():
        folds[rows[0].split].append(video)
    (folder / "standard_folds.json").write_text(json.dumps(folds, indent=1), encoding="utf-8")


def write_table(path: Path, rows: Iterable[tuple[str, float, float, str, Mapping[str, float], str]]) -> None:
    """Write a flat table from rows: video, start, end, text, share by class, description."""
    columns = ["video_name", "text", *CLASSES, "Other", "text_llm"]
    cells = [
        [f"{video}_{start:.4f}_{end:.4f}", text, *(shares.get(name, 0.0) for name in CLASSES), 0.0, description]
        for video, start, end, text, shares, description in rows
    ]
    _write_csv(path, columns, cells)


def _by_video(segments: Iterable[MoseiSegment]) -> dict[str, list[MoseiSegment]]:
    videos: dict[str, list[MoseiSegment]] = {}
    for segment in segments:
        videos.setdefault(segment.video, []).append(segment)
    return videos


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
