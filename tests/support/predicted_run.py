"""A finished run of light encoders that read real media, and media for it; importable by spawned workers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from encoders.base import Encoder
from encoders.errors import EncodingError, MissingModality
from encoders.extraction.read import encoder_specs
from encoders.media.clip import ClipMedia
from mmpsr.calibration.calibration import Calibration, TaskCalibration
from mmpsr.config import validate
from mmpsr.models.build import create_model
from tests.support import media_files
from training.config import RunConfig
from training.data.selection import active_features

SCALE = 255.0
"""What grey levels are divided by; not part of the fingerprint, so that changing it is noticed by predictions alone."""
ENCODED: list[str] = []
"""Ids of the clips whose pictures were looked at in this process."""


class Grey(Encoder):
    """Mean and spread of grey of eight frames, `[T, 2]`; a loud clip has a note."""

    id = "grey"

    @property
    def width(self) -> int:
        return 2

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | MissingModality]:
        results: list[NDArray[np.float32] | EncodingError | MissingModality] = []
        for clip in clips:
            ENCODED.append(clip.clip_id)
            try:
                frames, _ = clip.frames(8)
            except (EncodingError, MissingModality) as reason:
                results.append(reason)
                continue
            scaled = frames.astype(np.float32) / SCALE
            clip.notes[self.id] = f"{len(frames)} frames"
            results.append(np.stack([scaled.mean(axis=(1, 2, 3)), scaled.std(axis=(1, 2, 3))], axis=1))
        return results


class Loudness(Encoder):
    """Root mean square of tenths of the sound, `[10, 1]`."""

    id = "loudness"

    @property
    def width(self) -> int:
        return 1

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | MissingModality]:
        results: list[NDArray[np.float32] | EncodingError | MissingModality] = []
        for clip in clips:
            try:
                parts = np.array_split(clip.waveform(8000), 10)
            except (EncodingError, MissingModality) as reason:
                results.append(reason)
                continue
            results.append(np.array([[np.sqrt(np.square(part).mean())] for part in parts], dtype=np.float32))
        return results


class Letters(Encoder):
    """A row `[code / 100, 1]` per letter of the transcript."""

    id = "letters"

    @property
    def width(self) -> int:
        return 2

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | MissingModality]:
        return [
            np.array([[ord(letter) / 100, 1.0] for letter in clip.text], dtype=np.float32)
            if clip.text
            else MissingModality("no transcript")
            for clip in clips
        ]


ENCODERS = {
    "video": "tests.support.predicted_run:Grey",
    "audio": "tests.support.predicted_run:Loudness",
    "text": "tests.support.predicted_run:Letters",
}


def write_run(folder: Path, **sections: Mapping[str, Any]) -> Path:
    """A run directory with a random model that is far from undecided, a temperature, and residuals of two traits."""
    tree: dict[str, Any] = {
        "features": {"encoders": ENCODERS},
        "data": {"modalities": ["video", "audio", "text"]},
        "model": {"hidden_width": 16, "head_width": 16, "num_heads": 2},
        "tasks": {"specs": {"emotion": {"loss": "binary_cross_entropy"}}},
    }
    for name, section in sections.items():
        tree[name] = dict(section) if name == "model" else {**tree.get(name, {}), **section}
    config = validate(RunConfig, tree, "test")
    tasks, specs = config.tasks.resolve(), encoder_specs(active_features(config.features, config.data.modalities))
    torch.manual_seed(0)
    sequences = {name: specs[name].width for name in config.features.sequences}
    widths = {name: spec.vector_width for name, spec in specs.items()}
    model = create_model(config.model, widths, tasks, sequences)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    fitted = {
        "emotion": TaskCalibration(form="sigmoid", num_clips=9, temperature=2.0),
        "personality": TaskCalibration(form="score", num_clips=9, deviations=(0.1, 0.2, None, None, None)),
        "ambivalence": TaskCalibration(form="softmax", num_clips=9, temperature=0.5),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "best.safetensors")
    keys = {name: spec.key for name, spec in specs.items()}
    documents = {
        "config.json": config.model_dump(mode="json"), "features.json": keys,
        "calibration.json": Calibration(tasks=fitted).to_dict(),
    }  # fmt: skip
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    return folder


def write_video(path: Path, seconds: float = 2.0, first: int = 5, loud: bool = True, **given: Any) -> Path:
    """A video whose grey and tone tell seconds apart: the level rises by one step of `media_files.grey` each second."""
    frames = [media_files.grey(first + number // 5) for number in range(round(5 * seconds))]
    sound = np.concatenate([media_files.tone(200, 1.0, amplitude=0.1 + 0.02 * k) for k in range(int(seconds))])
    return media_files.write_media(path, frames, sound if loud else None, fps=5, key_frame_every=5, **given)
