"""BAH as its authors lay it out: everything but the media, from plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

__all__ = ["BahVideo", "media_path", "write_bah"]

SPLIT_FILES = {"train": "train", "dev": "val", "test": "test"}


@dataclass(frozen=True)
class BahVideo:
    """One video and what the corpus says about it.

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
    cues: Sequence[Mapping[str, str | None]] = ()
    num_frames: int = 48
    frame_rate: float = 24.0
    annotator: str = "AB"
    certainty: Sequence[int] = field(default=(1,))


def media_path(video: BahVideo, release: Literal["2026", "2025"] = "2026") -> PurePosixPath:
    """Where the video's file lies below the corpus' folder."""
    name = f"{video.participant}_Question_{video.question}_{video.recorded}_Video{video.host}.mp4"
    above = ("Videos", video.participant, "Visite_1") if release == "2026" else (video.participant, "Visite 1")
    return PurePosixPath(*above, name)


def write_bah(
    folder: Path,
    videos: Sequence[BahVideo],
    participants: Mapping[str, Mapping[str, object]],
    release: Literal["2026", "2025"] = "2026",
) -> None:
    """Write the lists, the annotation and, of the 2026 release, transcripts, metadata and the table of labels.

    Args:
        folder: the corpus' folder.
        videos: all videos, each written to the list of its split in this order.
        participants: metadata by number of the participant, as they are to be written.
        release: whose layout to write.
    """
    for split in dict.fromkeys(video.split for video in videos):
        own = [video for video in videos if video.split == split]
        name = f"{SPLIT_FILES.get(split, split)}.txt"
        lines = [f"{media_path(video, release)},{video.label},{video.text}" for video in own]
        _write(folder / "split" / name, "".join(f"{line}\n" for line in lines))
        frames = [f"{path},{label}\n" for video in own for path, label in _frames(video, release)]
        _write(folder / "split-frames" / name, "".join(frames))
    annotation = {str(media_path(video, release)): _annotation(video, release) for video in videos}
    if release == "2025":
        _dump(folder / "annotation.yml", annotation)
        return
    _dump(folder / "video_annotation_transcript.yaml", annotation)
    _dump(folder / "meta_data.yml", {number: dict(facts) for number, facts in participants.items()})
    rows = [f"{media_path(video)},{video.label}\n" for video in videos]
    _write(folder / "bah-video.csv", "video-path,label\n" + "".join(rows))
    for video in videos:
        path = folder / "transcription" / media_path(video)
        _dump(path / f"{path.stem}.yml", _transcript(video))


def _frames(video: BahVideo, release: Literal["2026", "2025"]) -> list[list[Any]]:
    """Path and label of each frame."""
    spans = [(start * video.frame_rate, end * video.frame_rate) for start, end in video.segments]
    path = media_path(video, release)
    return [
        [f"{path}/frame-{frame}.jpg", int(any(start <= frame <= end for start, end in spans))]
        for frame in range(video.num_frames)
    ]


def _annotation(video: BahVideo, release: Literal["2026", "2025"]) -> dict[str, Any]:
    said = {
        "fr_detailed_ah": [[round(time * video.frame_rate) for time in segment] for segment in video.segments],
        "frame_annotation": _frames(video, release),
        "global_ah": video.label,
        "time_detailed_ah": [[_clock(time) for time in segment] for segment in video.segments],
    }
    if release == "2025":
        return said
    return {
        **said,
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


def _clock(seconds: float) -> str:
    """`HH:MM:SS.mmm`."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _dump(path: Path, content: object) -> None:
    import yaml

    _write(path, yaml.dump(content, Dumper=yaml.CDumper, default_flow_style=False))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
