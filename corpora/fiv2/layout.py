"""Writes First Impressions V2's official layout: pickles by split, the table of people, and the places of the clips."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from corpora.clips import SPLITS, Split
from corpora.fiv2.corpus import OFFICIAL

__all__ = ["FirstImpressionsClip", "media_path", "write_fiv2"]

ARCHIVES: Mapping[Split, str] = {"train": "train", "dev": "val", "test": "test"}
"""Split -> what the names of its zips begin with."""


@dataclass(frozen=True)
class FirstImpressionsClip:
    """One clip."""

    split: Split
    """Split of the clip."""
    clip_id: str
    """YouTube id, a dot and three digits."""
    scores: Mapping[str, float]
    """Score in [0, 1] by trait, with `interview`; `neuroticism` is high for people who seem calm."""
    text: str
    """What is said."""
    ethnicity: int
    """1 Asian, 2 Caucasian, 3 African-American."""
    gender: int
    """1 male, 2 female."""
    part: int = 1
    """Which of the split's folders of 80 the file is in, counted from 1."""


def media_path(clip: FirstImpressionsClip) -> PurePosixPath:
    """Path of a clip's file, relative to the corpus' folder."""
    archive = f"{ARCHIVES[clip.split]}-{(clip.part - 1) // 13 + 1}"  # 75 folders of train in six zips
    return PurePosixPath(archive, f"{OFFICIAL[clip.split]}80_{clip.part:02d}", f"{clip.clip_id}.mp4")


def write_fiv2(folder: Path, clips: Iterable[FirstImpressionsClip]) -> None:
    """Write pickles of scores and transcripts, and `eth_gender_annotations_{dev,test}.csv`.

    Args:
        folder: the corpus' folder.
        clips: clips of all splits.
    """
    people: dict[str, list[tuple[object, ...]]] = {"dev": [], "test": []}
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
        with (folder / f"eth_gender_annotations_{name}.csv").open("w", encoding="utf-8", newline="") as table:
            csv.writer(table, delimiter=";").writerows([("VideoName", "YouTubeID", "Ethnicity", "Gender"), *rows])
