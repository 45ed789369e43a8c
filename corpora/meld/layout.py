"""Writes MELD's official layout: three annotation files below `MELD.Raw`, and the places of their clips."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from corpora.clips import SPLITS, Split
from corpora.meld.corpus import FOLDERS

__all__ = ["MeldUtterance", "media_path", "write_meld"]

COLUMNS = (
    "Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season", "Episode",
    "StartTime", "EndTime",
)  # fmt: skip


@dataclass(frozen=True)
class MeldUtterance:
    """One row of an annotation file."""

    split: Split
    """Which file."""
    dialogue: int
    """Dialogue, counted anew in each split."""
    utterance: int
    """Utterance of the dialogue."""
    text: str
    """What is said."""
    speaker: str
    """Who says it."""
    emotion: str
    """A key of `corpora.meld.corpus.CLASSES`."""
    sentiment: str
    """negative, neutral or positive."""
    start: float
    """Seconds into the episode."""
    end: float
    """Seconds into the episode."""
    season: int = 1
    """Season of the series."""
    episode: int = 1
    """Episode of the season."""


def media_path(split: Split, dialogue: int, utterance: int) -> PurePosixPath:
    """Path of a clip's file, relative to the corpus' folder."""
    return PurePosixPath("MELD.Raw", FOLDERS[split], f"dia{dialogue}_utt{utterance}.mp4")


def write_meld(folder: Path, utterances: Iterable[MeldUtterance]) -> None:
    """Write `MELD.Raw/{train,dev,test}_sent_emo.csv` below the corpus' folder.

    Args:
        folder: the corpus' folder.
        utterances: rows of all files, those of a split in their order.
    """
    rows: dict[Split, list[tuple[object, ...]]] = {split: [] for split in SPLITS}
    for said in utterances:
        rows[said.split].append((
            len(rows[said.split]) + 1, said.text, said.speaker, said.emotion, said.sentiment, said.dialogue,
            said.utterance, said.season, said.episode, _clock(said.start), _clock(said.end),
        ))  # fmt: skip
    (folder / "MELD.Raw").mkdir(parents=True, exist_ok=True)
    for split, of_split in rows.items():
        path = folder / "MELD.Raw" / f"{split}_sent_emo.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *of_split])  # lines end in CR LF, as in the published files


def _clock(seconds: float) -> str:
    """Seconds as MELD writes them.

    Example:
        >>> _clock(83.25)
        '00:01:23,250'
    """
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d},{milliseconds:03d}"
