"""Four tiny corpora of real video files with sound, for demonstrations and tests: no licence, no download.

Each is laid out like the corpus it is named after (`layouts`) and read by the same adapter. The labels
follow from what is drawn (`face`), voiced (`voice`) and written (`text`), see `script`. A few clips
are broken on purpose; `broken.csv` lists them. A clip depends on the seed and its id only, never on how many clips
there are.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from corpora.clips import SPLITS, CorpusError
from corpora.demo.clip import CLIPS_PER_GROUP, CORPORA, SCENE_SECONDS, ClipPlan, plan, write_clip
from corpora.demo.layouts import MeldUtterance, MoseiSegment, write_bah, write_fiv2, write_meld, write_mosei
from corpora.demo.script import Performance
from corpora.fiv2.corpus import TRAIT_OF
from corpora.mosei.labels import EMOTIONS
from mmpsr.executors.base import end_executor
from mmpsr.files import write_whole

__all__ = ["DEFAULT_CLIPS", "MARKER", "build_demo", "is_built", "run_all", "write_broken"]

VERSION = 3
"""Raised whenever the same seed would give other files."""
MARKER = "demo.json"
"""File that says what the folder was built with, and whether all of it is there."""
SECONDS = 4.0
"""From one line of progress to the next where there is no terminal."""
DEFAULT_CLIPS: Mapping[str, int] = {"mosei": 180, "fiv2": 180, "bah": 280, "meld": 90}

_SPEAKERS = ("Ada", "Ben", "Cleo", "Dan", "Edda", "Finn", "Gus", "Hana")
_CUES = {
    "audio": "hesitates", "body": None, "facial": None, "inconsistencies": "face against words", "language": None
}  # fmt: skip
_Plan = TypeVar("_Plan")
_Acted = Sequence[tuple[ClipPlan, Performance]]


def build_demo(
    root: Path,
    seed: int = 0,
    clips_per_corpus: int | Mapping[str, int] | None = None,
    *,
    shuffle_labels: bool = False,
    num_workers: int | None = None,
) -> None:
    """Write the demo corpora under `root`, unless they are there already.

    A build that was killed is completed by the next call; of two processes that build at once one waits.

    Args:
        root: folder of the four corpora; created if needed.
        seed: another seed gives other people, words and labels.
        clips_per_corpus: clips of each corpus (multiples of 5, at least 15); default `DEFAULT_CLIPS`.
        shuffle_labels: permute the labels within each split and corpus, so that nothing can be learned; the media
            stay the same.
        num_workers: processes that write clips; default one per processor. 1 writes in this process.

    Raises:
        CorpusError: `root` holds something else, or a demo that was built with other settings.
    """
    from filelock import FileLock

    root = Path(root).absolute()
    asked = DEFAULT_CLIPS if clips_per_corpus is None else clips_per_corpus
    sizes = dict.fromkeys(CORPORA, asked) if isinstance(asked, int) else dict(asked)
    plans = [clip for corpus, num_clips in sizes.items() for clip in plan(corpus, num_clips, seed)]
    settings = {"version": VERSION, "seed": seed, "clips_per_corpus": sizes, "shuffle_labels": shuffle_labels}
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_name(f".{root.name}.lock")):
        if _is_complete(root, settings):
            return
        root.mkdir(exist_ok=True)
        write_whole(root / MARKER, json.dumps({**settings, "complete": False}))
        _write_media(root, plans, num_workers)
        for corpus in sizes:
            acted = _act([clip for clip in plans if clip.corpus == corpus], shuffle_labels)
            _WRITERS[corpus](root / corpus, acted)
        write_broken(root, [
            (clip.corpus, clip.clip_id, clip.split, clip.broken, f"{clip.corpus}/{clip.media}") for clip in plans
        ])  # fmt: skip
        write_whole(root / MARKER, json.dumps({**settings, "complete": True}))


def _is_complete(root: Path, settings: Mapping[str, object]) -> bool:
    """Tell whether exactly this demo is there; False where it has to be built or completed."""
    marker = root / MARKER
    if not marker.exists():
        foreign = [corpus for corpus in CORPORA if (root / corpus).exists()]
        if foreign:
            raise CorpusError(f"{root} holds {foreign[0]!r}, but no {MARKER}: it is no demo; choose another folder")
        return False
    return is_built(marker, settings, "demo")


def is_built(marker: Path, settings: Mapping[str, object], what: str) -> bool:
    """Read a marker: whether what was begun beside it is complete.

    Args:
        marker: file that says what its folder was built with.
        settings: what it is asked for with.
        what: is built, for errors.

    Raises:
        CorpusError: it was built with other settings.
    """
    stored = json.loads(marker.read_text(encoding="utf-8"))
    complete = bool(stored.pop("complete", False))
    if stored != settings:
        raise CorpusError(
            f"{marker}: the {what} there was built with {stored}, asked for is {dict(settings)}; delete "
            f"{marker.parent} or choose another folder"
        )
    return complete


def _write_media(root: Path, plans: list[ClipPlan], num_workers: int | None) -> None:
    missing = [clip for clip in plans if not (root / clip.corpus / clip.media).exists()]
    for folder in {(root / clip.corpus / clip.media).parent for clip in plans}:
        folder.mkdir(parents=True, exist_ok=True)
    run_all(partial(write_clip, root), missing, "Writing the demo corpora", num_workers)


def run_all(write: Callable[[_Plan], None], plans: Sequence[_Plan], title: str, num_workers: int | None = None) -> None:
    """Write one file after the other, or several at once.

    Args:
        write: writes one; a function that can be sent to another process.
        plans: what is to be written.
        title: what is shown beside the progress.
        num_workers: processes that write; default one per processor, 8 at most. 1 writes in this process.
    """
    import cv2

    num_workers = num_workers or min(os.cpu_count() or 1, 8)
    if num_workers == 1 or len(plans) < 2:
        for _ in _told(map(write, plans), title, len(plans)):
            pass
        return
    spawning = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, spawning, initializer=cv2.setNumThreads, initargs=(1,))
    try:
        for _ in _told(pool.map(write, plans, chunksize=8), title, len(plans)):
            pass
    finally:
        end_executor(pool)


def _told(written: Iterable[None], title: str, total: int) -> Iterator[None]:
    """Tell on stderr how many are written: a bar on a terminal, a line every few seconds elsewhere."""
    from rich.console import Console
    from rich.progress import track

    console, told = Console(stderr=True), time.monotonic()
    if console.is_terminal:
        yield from track(written, title, total, console=console, transient=True)
        return
    for number, one in enumerate(written, start=1):
        if time.monotonic() - told > SECONDS and number < total:
            told = time.monotonic()
            console.print(f"{title}: {number} of {total} clips")
        yield one


def _act(plans: list[ClipPlan], shuffle_labels: bool) -> list[tuple[ClipPlan, Performance]]:
    """Act out the clips of one corpus as they are annotated; shuffled, each has the labels of one of its split."""
    performances = [clip.perform()[1] for clip in plans]
    labels = [performance.labels for performance in performances]
    if shuffle_labels:
        rng = np.random.default_rng([plans[0].seed, CORPORA.index(plans[0].corpus)])
        for split in SPLITS:
            rows = [row for row, clip in enumerate(plans) if clip.split == split]
            for row, swapped in zip(rows, [labels[row] for row in rng.permutation(rows)], strict=True):
                labels[row] = swapped
    return [
        (clip, replace(performance, text="" if clip.broken == "no_text" else performance.text, labels=label))
        for clip, performance, label in zip(plans, performances, labels, strict=True)
    ]


def _write_mosei(folder: Path, acted: _Acted) -> None:
    """Turn the emotions' shares, which sum to 1, into intensities of at most 3; 0 stays absent."""
    segments = []
    for clip, performance in acted:
        emotions = {name: 3.0 * float(performance.labels[label]) for name, label in EMOTIONS.items()}
        unpleasant = max(emotions[name] for name in ("sadness", "anger", "disgust", "fear"))
        segments.append(MoseiSegment(
            clip.group_id, clip.position, clip.start, round(clip.start + performance.voice.seconds, 3),
            performance.text, round(emotions["happiness"] - unpleasant, 4), emotions, clip.split,
        ))  # fmt: skip
    write_mosei(folder, segments)


def _write_fiv2(folder: Path, acted: _Acted) -> None:
    clips = []
    for clip, performance in acted:
        scores = {trait: float(performance.labels[label]) for label, trait in TRAIT_OF.items()}
        scores["interview"] = round(sum(scores.values()) / len(scores), 4)
        clips.append(replace(clip.as_fiv2(), scores=scores, text=performance.text))
    write_fiv2(folder, clips)


def _write_bah(folder: Path, acted: _Acted) -> None:
    """Mark the middle half of the clips of the ambivalent; every fourth participant denies publications."""
    videos, participants = [], {}
    for clip, performance in acted:
        present, end = int(performance.labels["label"]), round(performance.voice.seconds, 3)
        video = clip.as_bah()
        videos.append(replace(
            video,
            label=present,
            text=performance.text,
            chunks=[("english", performance.text, 0.0, end)],
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


def _write_meld(folder: Path, acted: _Acted) -> None:
    utterances = []
    for clip, performance in acted:
        start = clip.group * CLIPS_PER_GROUP * SCENE_SECONDS + clip.start
        emotion, sentiment = str(performance.labels["Emotion"]), str(performance.labels["Sentiment"])
        utterances.append(MeldUtterance(
            clip.split, clip.group, clip.position, performance.text, _SPEAKERS[clip.group % len(_SPEAKERS)], emotion,
            sentiment, start, start + performance.voice.seconds, episode=1 + SPLITS.index(clip.split),
        ))  # fmt: skip
    write_meld(folder, utterances)


_WRITERS: Mapping[str, Callable[[Path, _Acted], None]] = {
    "mosei": _write_mosei, "fiv2": _write_fiv2, "bah": _write_bah, "meld": _write_meld,
}  # fmt: skip


def write_broken(folder: Path, rows: Iterable[tuple[str, str, str, str, str]]) -> None:
    """List the clips that are broken on purpose in `broken.csv`.

    Args:
        folder: of the demo.
        rows: of all clips: corpus, clip id, split, what is broken or an empty text, and the media below `folder`.
    """
    columns = ["corpus", "clip_id", "split", "broken", "media"]
    table = pd.DataFrame([row for row in rows if row[3]], columns=columns)
    write_whole(folder / "broken.csv", table.to_csv(index=False))
