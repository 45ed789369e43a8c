"""The annotation of the demo corpora: what happens in their clips, written in the layouts of the real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corpora.bah.layout import write_bah
from corpora.clips import SPLITS
from corpora.demo.clip import CLIPS_PER_GROUP, ClipPlan
from corpora.fiv2.corpus import TRAIT_OF
from corpora.fiv2.layout import write_fiv2
from corpora.meld.layout import MeldUtterance, write_meld
from corpora.mosei.labels import EMOTIONS
from corpora.mosei.layout import MoseiSegment, write_mosei

__all__ = ["Acted", "write_annotation"]

_SPEAKERS = ("Ada", "Ben", "Cleo", "Dan", "Edda", "Finn", "Gus", "Hana")
_SCENE_SECONDS = 4.0  # from the start of one clip of a group to that of the next
_CUES = {
    "audio": "hesitates", "body": None, "facial": None, "inconsistencies": "face against words", "language": None
}  # fmt: skip


@dataclass(frozen=True)
class Acted:
    """A clip as its corpus annotates it."""

    clip: ClipPlan
    """Which clip."""
    text: str
    """What is said."""
    seconds: float
    """How long it takes."""
    labels: Mapping[str, float | str]
    """Labels as `script` names them."""

    @property
    def start(self) -> float:
        """Seconds into the video or episode that the clip would be cut from."""
        return self.clip.position * _SCENE_SECONDS + 1.0


def write_annotation(folder: Path, corpus: str, acted: Sequence[Acted]) -> None:
    """Write all annotation files of one corpus below its folder."""
    _WRITERS[corpus](folder, acted)


def _write_mosei(folder: Path, acted: Sequence[Acted]) -> None:
    """The emotions' shares, which sum to 1, become intensities of at most 3; 0 stays absent."""
    segments = []
    for part in acted:
        emotions = {name: 3.0 * float(part.labels[label]) for name, label in EMOTIONS.items()}
        unpleasant = max(emotions[name] for name in ("sadness", "anger", "disgust", "fear"))
        segments.append(MoseiSegment(
            part.clip.group_id, part.clip.position, part.start, round(part.start + part.seconds, 3), part.text,
            round(emotions["happiness"] - unpleasant, 4), emotions, part.clip.split,
        ))  # fmt: skip
    write_mosei(folder, segments)


def _write_fiv2(folder: Path, acted: Sequence[Acted]) -> None:
    clips = []
    for part in acted:
        scores = {trait: float(part.labels[label]) for label, trait in TRAIT_OF.items()}
        scores["interview"] = round(sum(scores.values()) / len(scores), 4)
        clips.append(replace(part.clip.as_fiv2(), scores=scores, text=part.text))
    write_fiv2(folder, clips)


def _write_bah(folder: Path, acted: Sequence[Acted]) -> None:
    """Who is ambivalent is so in the middle half of the clip; every fourth participant denies publications."""
    videos, participants = [], {}
    for part in acted:
        present, end = int(part.labels["label"]), round(part.seconds, 3)
        video = part.clip.as_bah()
        videos.append(replace(
            video,
            label=present,
            text=part.text,
            chunks=[("english", part.text, 0.0, end)],
            segments=[(round(0.25 * end, 3), round(0.75 * end, 3))] * present,
            cues=[_CUES] * present,
            num_frames=round(end * video.frame_rate),
        ))  # fmt: skip
        number = int(video.participant)
        participants[video.participant] = {
            "age": 20 + number % 50, "gender": "female", "student": number % 3 == 0, "use in challenges": True,
            "use in publications": number % 4 != 3,
        }  # fmt: skip
    write_bah(folder, videos, participants)


def _write_meld(folder: Path, acted: Sequence[Acted]) -> None:
    utterances = []
    for part in acted:
        clip, start = part.clip, part.clip.group * CLIPS_PER_GROUP * _SCENE_SECONDS + part.start
        utterances.append(MeldUtterance(
            clip.split, clip.group, clip.position, part.text, _SPEAKERS[clip.group % len(_SPEAKERS)],
            str(part.labels["Emotion"]), str(part.labels["Sentiment"]), start, start + part.seconds,
            episode=1 + SPLITS.index(clip.split),
        ))  # fmt: skip
    write_meld(folder, utterances)


_WRITERS: Mapping[str, Callable[[Path, Sequence[Acted]], None]] = {
    "mosei": _write_mosei, "fiv2": _write_fiv2, "bah": _write_bah, "meld": _write_meld,
}  # fmt: skip
