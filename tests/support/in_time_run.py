"""A finished run of a model in time with light encoders that read real media; importable by spawned workers."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from encoders.base import Watcher
from encoders.errors import EncodingError, MissingModality, NothingThere
from encoders.extraction.read import make_encoders, timed_specs
from encoders.media.clip import ClipMedia
from encoders.timed import MEASURED, NONE, Grid, Timed, word_at
from mmpsr.config import validate
from mmpsr.temporal.build import create_temporal
from tests.support.predicted_run import Grey, Letters, Loudness
from training.config import InTimeConfig
from training.in_time import recordings
from training.in_time.trained import features_in_time

WIDTHS = {"video": 2, "audio": 1, "text": 2}
MADE: list[str] = []
"""Ids of encoders that were made ready in this process, in the order of loading."""


class GreyInTime(Grey):
    """Mean and spread of grey of every frame, `[T, 2]`; in a clip that is all black nothing is seen."""

    id = "grey-in-time"
    timed_form = "sound"  # it reads the frames itself

    def load(self) -> None:
        MADE.append(self.id)

    def encode_timed(self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False) -> Timed:
        frames = clip.frames(grid.length)[0].astype(np.float32) / 255
        values = np.stack([frames.mean(axis=(1, 2, 3)), frames.std(axis=(1, 2, 3))], axis=1)
        return Timed.on(grid, values, np.full(grid.length, MEASURED if frames.max() > 0.1 else NONE, np.int8))


class LoudnessInTime(Loudness):
    """Root mean square of the sound within each frame, `[T, 1]`; of a clip without sound, nothing."""

    id = "loudness-in-time"
    timed_form = "sound"

    def encode_timed(self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False) -> Timed:
        try:
            samples = clip.waveform(8000)
        except NothingThere as reason:
            clip.notes[f"{self.id} in time"] = f"nothing at any frame: {reason}"
            return Timed.nothing(grid, self.width)
        edges = np.append(np.round(8000 * grid.seconds).astype(int), len(samples))
        values = [[np.sqrt(np.square(samples[first:last]).mean())] for first, last in pairwise(edges)]
        return Timed.on(grid, np.array(values), np.full(grid.length, MEASURED, np.int8))


class LettersInTime(Letters):
    """A row `[code / 100 of its first letter, 1]` while a word is spoken, `[T, 2]`, and nothing between."""

    id = "letters-in-time"
    timed_form = "words"

    def encode_timed(self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False) -> Timed:
        if not clip.text:
            raise MissingModality("no transcript")
        words = clip.words or [(clip.text, 0.0, float(grid.length / grid.rate))]
        at = word_at([(start, end) for _, start, end in words], grid)
        values = np.array([[ord(words[number][0][0]) / 100, 1.0] for number in at])
        return Timed.on(grid, values, np.where(at >= 0, MEASURED, NONE).astype(np.int8))


ENCODERS = {
    "video": "tests.support.in_time_run:GreyInTime",
    "audio": "tests.support.in_time_run:LoudnessInTime",
    "text": "tests.support.in_time_run:LettersInTime",
}


def write_run_in_time(folder: Path) -> Path:
    """A run whose model finds presence where the sound is louder than 0.092: from 2 s on in `write_video`'s."""
    tree: dict[str, Any] = {
        "corpora": {"sources": {"own": {"adapter": "table", "files": "own.csv", "id": "id", "split": "split"}}},
        "features": {"encoders": ENCODERS},
        "data": {"modalities": list(WIDTHS)},
        "model": {"kind": "frame"},
    }
    config = validate(InTimeConfig, tree, "test")
    model: Any = create_temporal(config.model, WIDTHS, 2)
    with torch.no_grad():
        model.head[1].weight.zero_()[1, WIDTHS["video"]] = 1000.0
        model.head[1].bias.copy_(torch.tensor([0.0, -92.0]))
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "best.safetensors")
    features = features_in_time(config)
    keys = {name: spec.key for name, spec in timed_specs(features, make_encoders(features)).items()}
    for name, document in (("config.json", config.model_dump(mode="json")), ("features.json", keys)):
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    return folder


def without_narrative(patch: pytest.MonkeyPatch, text: str | None = None) -> None:
    """Nobody is looked for; where a text is given, that is told of every clip."""

    class Told:
        def __init__(self) -> None:
            self.text = text

    def tell(clip: ClipMedia) -> Told:
        if text is None:
            raise EncodingError("no face found")
        return Told()

    patch.setattr(recordings, "narrative_of", tell)
