"""Small clips with features in time: spells of presence that three modalities show, each only in part."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from corpora.clips import ClipTable, conform
from corpora.timeline import Segment, Timeline
from encoders.timed import MEASURED, NONE, TimedSequences
from mmpsr.tasks import AMBIVALENCE
from training.in_time.data import FrameData, gather_frames

RATE = Fraction(10)
WIDTHS = {"video": 6, "audio": 4, "text": 5}
SPLITS = {"train": 12, "dev": 6, "test": 6}


def sequences_of(
    folder: Path, name: str, arrays: list[np.ndarray], states: list[np.ndarray] | None = None
) -> TimedSequences:
    """Write arrays `[T, D]` to one file and map it; empty arrays are clips without the modality."""
    path = folder / f"{name}.npy"
    np.save(path, np.concatenate(arrays).astype(np.float16))
    lengths = np.array([len(array) for array in arrays])
    offsets = np.cumsum(lengths) - lengths
    parts = np.where(lengths > 0, 0, -1)
    if states is None:
        states = [np.full(length, MEASURED, np.int8) for length in lengths]
    rates = [RATE if length else None for length in lengths]
    return TimedSequences(
        arrays[0].shape[1], [path], parts, offsets, lengths, rates, np.zeros(len(arrays)),
        [state.astype(np.int8).tobytes() for state in states],
    )  # fmt: skip


def planted(folder: Path, seed: int = 0, length: int = 60) -> tuple[ClipTable, FrameData]:
    """24 clips of 12 participants at 10 frames a second; half of them with a spell of 2 s.

    In a spell one component of each modality rises by about the size of its noise, and outside it rises for single
    frames: only several frames, and several modalities, tell the two apart. The last clip has no audio.
    """
    generator = np.random.default_rng(seed)
    rows, timelines, arrays = [], {}, {name: [] for name in WIDTHS}
    for number, split in enumerate(split for split, count in SPLITS.items() for _ in range(count)):
        spells = (Segment(1.0 + (number % 3), 3.0 + (number % 3), 1),) if number % 2 == 0 else ()
        timeline = Timeline(None, spells)
        labels = timeline.labels(length, RATE)
        clip_id = f"clip{number:02d}"
        timelines["own", clip_id] = {"ambivalence": timeline}
        rows.append({
            "corpus": "own", "split": split, "clip_id": clip_id, "media": f"{clip_id}.mp4", "group": f"p{number // 2}",
            "group_kind": "participant", "ambivalence.absent": float(not spells),
            "ambivalence.present": float(bool(spells)),
        })  # fmt: skip
        for name, width in WIDTHS.items():
            values = generator.normal(0.0, 1.0, (length, width))
            values[:, 0] += 1.2 * labels + 1.5 * (generator.random(length) < 0.15)
            arrays[name].append(5.0 + 3.0 * values)
    arrays["audio"][-1] = arrays["audio"][-1][:0]
    table = ClipTable(conform(pd.DataFrame(rows)), timelines=timelines)
    features = {name: sequences_of(folder, name, values) for name, values in arrays.items()}
    return table, gather_frames(table, features, "ambivalence", AMBIVALENCE, list(WIDTHS))


__all__ = ["NONE", "RATE", "SPLITS", "WIDTHS", "planted", "sequences_of"]
