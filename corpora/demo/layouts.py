"""The official layouts of CMU-MOSEI, First Impressions V2, BAH and MELD: all files but the media, from plain data."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from corpora.clips import SPLITS, Split
from corpora.fiv2.corpus import OFFICIAL
from corpora.meld.corpus import FOLDERS
from corpora.mosei.labels import CSD, EMOTIONS

__all__ = [
    "BahVideo",
    "FirstImpressionsClip",
    "MeldUtterance",
    "MoseiSegment",
    "bah_path",
    "fiv2_path",
    "meld_path",
    "mosei_path",
    "write_bah",
    "write_csd",
    "write_fiv2",
    "write_folds",
    "write_meld",
    "write_mosei",
    "write_transcripts",
]

DIMENSIONS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")
"""Columns of MOSEI's CSD as it names them."""
ARCHIVES: Mapping[Split, str] = {"train": "train", "dev": "val", "test": "test"}
"""Split -> what the names of First Impressions' zips begin with."""
LISTS = {"train": "train", "dev": "val", "test": "test"}
"""Split -> name of BAH's list of its videos."""
COLUMNS = (
    "Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season", "Episode",
    "StartTime", "EndTime",
)  # fmt: skip
"""Columns of MELD's annotation."""


@dataclass(frozen=True)
class MoseiSegment:
    """One annotated sentence of CMU-MOSEI.

    Attributes:
        video: video id.
        clip: number of the transcript's line.
        start: seconds into the video.
        end: seconds into the video.
        text: what is said.
        sentiment: from -3 to 3.
        emotions: intensity in [0, 3] by key of `EMOTIONS`; those left out are 0.
        split: fold of the video.
    """

    video: str
    clip: int
    start: float
    end: float
    text: str
    sentiment: float
    emotions: Mapping[str, float]
    split: Split = "train"

    @property
    def intensities(self) -> list[float]:
        """Numbers in the order of `corpora.mosei.labels.NAMES`."""
        return [self.sentiment, *(self.emotions.get(name, 0.0) for name in EMOTIONS)]


def mosei_path(video: str, clip: int) -> PurePosixPath:
    """Place a segment's file, relative to the corpus' folder."""
    return PurePosixPath("Raw", "Videos", "Segmented", "Combined", f"{video}_{clip}.mp4")


def write_mosei(folder: Path, segments: Sequence[MoseiSegment]) -> None:
    """Write labels (in the order of the segments, which need not be that of their numbers), transcripts and folds."""
    write_csd(folder, segments)
    write_transcripts(folder, segments)
    write_folds(folder, segments)


def write_csd(folder: Path, segments: Iterable[MoseiSegment], dimensions: Sequence[str] | None = DIMENSIONS) -> None:
    """Write `CMU_MOSEI_Labels.csd`, rows of a video in their order.

    `dimensions` are names to note for the columns, which keep their order; None notes none.
    """
    import h5py

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
    for video, rows in _by_video(segments).items():
        rows = sorted(rows, key=lambda row: row.clip)
        lines = [f"{video}___{row.clip}___{row.start}___{row.end}___{row.text}\n" for row in rows]
        _write(folder / f"Raw/Transcript/Segmented/Combined/{video}.txt", "".join(lines))


def write_folds(folder: Path, segments: Iterable[MoseiSegment]) -> None:
    """Write `standard_folds.json`: video ids by split."""
    folds: dict[str, list[str]] = {split: [] for split in SPLITS}
    for video, rows in _by_video(segments).items():
        folds[rows[0].split].append(video)
    _write(folder / "standard_folds.json", json.dumps(folds, indent=1))


def _by_video(segments: Iterable[MoseiSegment]) -> dict[str, list[MoseiSegment]]:
    videos: dict[str, list[MoseiSegment]] = {}
    for segment in segments:
        videos.setdefault(segment.video, []).append(segment)
    return videos


@dataclass(frozen=True)
class FirstImpressionsClip:
    """One clip of First Impressions V2.

    Attributes:
        split: split of the clip.
        clip_id: YouTube id, a dot and three digits.
        scores: score in [0, 1] by trait, with `interview`; `neuroticism` is high for people who seem calm.
        text: what is said.
        ethnicity: 1 Asian, 2 Caucasian, 3 African-American.
        gender: 1 male, 2 female.
        part: which of the split's folders of 80 the file is in, counted from 1.
    """

    split: Split
    clip_id: str
    scores: Mapping[str, float]
    text: str
    ethnicity: int
    gender: int
    part: int = 1


def fiv2_path(clip: FirstImpressionsClip) -> PurePosixPath:
    """Place a clip's file, relative to the corpus' folder."""
    archive = f"{ARCHIVES[clip.split]}-{(clip.part - 1) // 13 + 1}"  # 75 folders of train in six zips
    return PurePosixPath(archive, f"{OFFICIAL[clip.split]}80_{clip.part:02d}", f"{clip.clip_id}.mp4")


def write_fiv2(folder: Path, clips: Iterable[FirstImpressionsClip]) -> None:
    """Write pickles of scores and transcripts by split, and `eth_gender_annotations_{dev,test}.csv`."""
    people: dict[str, list[Sequence[object]]] = {"dev": [], "test": []}
    scores: dict[Split, dict[str, dict[str, float]]] = {split: {} for split in SPLITS}
    texts: dict[Split, dict[str, str]] = {split: {} for split in SPLITS}
    for clip in clips:
        file = f"{clip.clip_id}.mp4"
        for trait, score in clip.scores.items():
            scores[clip.split].setdefault(trait, {})[file] = score
        texts[clip.split][file] = clip.text
        person = (file, clip.clip_id.rpartition(".")[0], clip.ethnicity, clip.gender)
        people["test" if clip.split == "test" else "dev"].append(person)
    for split in SPLITS:
        for kind, content in (("annotation", scores[split]), ("transcription", texts[split])):
            path = folder / f"{ARCHIVES[split]}-{kind}" / f"{kind}_{OFFICIAL[split]}.pkl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(content, protocol=2))  # the newest that Python 2 writes
    for name, rows in people.items():
        columns = ("VideoName", "YouTubeID", "Ethnicity", "Gender")
        _write_csv(folder / f"eth_gender_annotations_{name}.csv", [columns, *rows], ";")


@dataclass(frozen=True)
class BahVideo:
    """One video of BAH and what the corpus says about it.

    Attributes:
        participant: number of the participant.
        question: 1 to 7.
        split: `train`, `dev`, `test`, or the name of a list of its own, such as `test_private`.
        label: 1 where ambivalence is present, else 0.
        text: what is spoken.
        recorded: date and time as in the file's name, joined with a space or an underscore.
        host: what follows `_Video` in the file's name, such as `-DESKTOP-1A2B3C4`.
        chunks: language, text, start and end (or None) of each piece of the transcript.
        segments: start and end in seconds of each segment with ambivalence.
        frame_segments: first and last frame of each segment, both in it; left out, those between the seconds.
        cues: cues of each segment, by `audio, body, facial, inconsistencies, language`.
        num_frames: frames of the video.
        frame_rate: frames per second.
        annotator: initials of the annotator.
        certainty: certainty of the annotator.
    """

    participant: str
    question: int
    split: str
    label: int
    text: str
    recorded: str = "2024-03-01_10-00-00"
    host: str = ""
    chunks: Sequence[tuple[str, str, float, float | None]] = ()
    segments: Sequence[tuple[float, float]] = ()
    frame_segments: Sequence[tuple[int, int]] | None = None
    cues: Sequence[Mapping[str, str | None]] = ()
    num_frames: int = 48
    frame_rate: float = 24.0
    annotator: str = "AB"
    certainty: Sequence[int] = (1,)


def bah_path(video: BahVideo) -> PurePosixPath:
    """Place a video's file, relative to the corpus' folder."""
    name = f"{video.participant}_Question_{video.question}_{video.recorded}_Video{video.host}.mp4"
    return PurePosixPath("Videos", video.participant, "Visite_1", name)


def write_bah(folder: Path, videos: Sequence[BahVideo], participants: Mapping[str, Mapping[str, object]]) -> None:
    """Write lists (in the order of the videos), annotation, transcripts, labels and metadata as in the 2026 release.

    `participants` are the metadata by number of the participant, as they are to be written.
    """
    for split in dict.fromkeys(video.split for video in videos):
        members = [video for video in videos if video.split == split]
        name = f"{LISTS.get(split, split)}.txt"
        lines = [f"{bah_path(video)},{video.label},{video.text}\n" for video in members]
        _write(folder / "split" / name, "".join(lines))
        frames = [f"{path},{label}\n" for video in members for path, label in _frames(video)]
        _write(folder / "split-frames" / name, "".join(frames))
    annotation = {str(bah_path(video)): _annotation(video) for video in videos}
    _write_yaml(folder / "video_annotation_transcript.yaml", annotation)
    _write_yaml(folder / "meta_data.yml", {number: dict(facts) for number, facts in participants.items()})
    rows = [f"{bah_path(video)},{video.label}\n" for video in videos]
    _write(folder / "bah-video.csv", "video-path,label\n" + "".join(rows))
    for video in videos:
        path = folder / "transcription" / bah_path(video)
        _write_yaml(path / f"{path.stem}.yml", _transcript(video))


def _frames(video: BahVideo) -> list[list[Any]]:
    """List path and label of each frame."""
    spans: Sequence[tuple[float, float]] = (
        [(start * video.frame_rate, end * video.frame_rate) for start, end in video.segments]
        if video.frame_segments is None
        else video.frame_segments
    )
    path = bah_path(video)
    return [
        [f"{path}/frame-{frame}.jpg", int(any(start <= frame <= end for start, end in spans))]
        for frame in range(video.num_frames)
    ]


def _annotation(video: BahVideo) -> dict[str, Any]:
    rounded = [[round(time * video.frame_rate) for time in segment] for segment in video.segments]
    return {
        "fr_detailed_ah": rounded if video.frame_segments is None else [list(span) for span in video.frame_segments],
        "frame_annotation": _frames(video),
        "global_ah": video.label,
        "time_detailed_ah": [[_clock(time) for time in segment] for segment in video.segments],
        "all_cues": [dict(cues) for cues in video.cues],
        "annotator_id": video.annotator,
        "certainty_ah": list(video.certainty),
        "transcript": _transcript(video),
    }


def _transcript(video: BahVideo) -> dict[str, Any]:
    chunks = [
        {"language": language, "text": text, "timestamp": (start, end)} for language, text, start, end in video.chunks
    ]
    return {"chunks": chunks, "text": f" {video.text}"}


@dataclass(frozen=True)
class MeldUtterance:
    """One row of MELD's annotation.

    Attributes:
        split: which file.
        dialogue: dialogue, counted anew in each split.
        utterance: utterance of the dialogue.
        text: what is said.
        speaker: who says it.
        emotion: a key of `corpora.meld.corpus.CLASSES`.
        sentiment: negative, neutral or positive.
        start: seconds into the episode.
        end: seconds into the episode.
        season: season of the series.
        episode: episode of the season.
    """

    split: Split
    dialogue: int
    utterance: int
    text: str
    speaker: str
    emotion: str
    sentiment: str
    start: float
    end: float
    season: int = 1
    episode: int = 1


def meld_path(split: Split, dialogue: int, utterance: int) -> PurePosixPath:
    """Place a clip's file, relative to the corpus' folder."""
    return PurePosixPath("MELD.Raw", FOLDERS[split], f"dia{dialogue}_utt{utterance}.mp4")


def write_meld(folder: Path, utterances: Iterable[MeldUtterance]) -> None:
    """Write `MELD.Raw/{train,dev,test}_sent_emo.csv`, rows of a split in their order."""
    rows: dict[Split, list[Sequence[object]]] = {split: [COLUMNS] for split in SPLITS}
    for row in utterances:
        times = (_clock(time).replace(".", ",") for time in (row.start, row.end))
        rows[row.split].append((
            len(rows[row.split]), row.text, row.speaker, row.emotion, row.sentiment, row.dialogue, row.utterance,
            row.season, row.episode, *times,
        ))  # fmt: skip
    for split, rows_of_split in rows.items():
        _write_csv(folder / "MELD.Raw" / f"{split}_sent_emo.csv", rows_of_split)


def _clock(seconds: float) -> str:
    """Write seconds as hours, minutes and seconds.

    Example:
        >>> _clock(83.25)
        '00:01:23.250'
    """
    return (datetime.min + timedelta(milliseconds=round(seconds * 1000))).time().isoformat("milliseconds")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _write_csv(path: Path, rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
    """Write a table whose lines end in CR LF, as in the published files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def _write_yaml(path: Path, content: object) -> None:
    import yaml

    _write(path, yaml.dump(content, Dumper=yaml.CDumper, default_flow_style=False))
