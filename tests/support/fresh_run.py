"""A run trained in a moment on a table of texts and precomputed sounds, and tables to evaluate it on.

Vectors are read in this process where `without_workers` is used, since starting workers takes seconds.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from rich.console import Console

from encoders.config import FeaturesConfig
from mmpsr.config import validate
from training.config import RunConfig
from training.data import joined as data
from training.data import load
from training.evaluation import correlations
from training.evaluation import cross_corpus as fresh_evaluation
from training.evaluation import figures as detailed_evaluation
from training.pipeline import run_training

MOODS = ("Neutral", "Anger", "Happiness")


def rows(name: str, splits: dict[str, int], seed: int = 0) -> pd.DataFrame:
    """Clips with unlike texts and a mood that the first number of their sound says."""
    names = [f"{name}{split}{index}" for split, count in splits.items() for index in range(count)]
    generator = np.random.default_rng(seed)
    table = pd.DataFrame({"id": names, "part": [split for split, count in splits.items() for _ in range(count)]})
    table["film"] = [f"{each[:-1]}film{index // 2}" for index, each in enumerate(names)]
    table["who"] = [f"who{each}" for each in names]
    table["said"] = [" ".join([each] * (3 + index % 9)) for index, each in enumerate(names)]
    table["mood"] = generator.integers(3, size=len(names))
    table["sound"] = [generator.normal(size=3) + np.eye(3)[mood] * 3 for mood in table["mood"]]
    return table


def write(folder: Path, name: str, table: pd.DataFrame) -> None:
    """`<name>.csv`, and the sounds of the clips that have one."""
    (folder / "sounds").mkdir(exist_ok=True)
    for clip, sound in zip(table["id"], table["sound"], strict=True):
        if sound is not None:
            np.save(folder / "sounds" / f"{clip}.npy", sound.astype(np.float32))
    names = np.array(MOODS)
    table.assign(mood=names[table["mood"]], angry=table["mood"].eq(1) * 1.0, happy=table["mood"].eq(2) * 0.5).drop(
        columns="sound"
    ).to_csv(folder / f"{name}.csv", index=False)


@contextmanager
def quickly() -> Iterator[None]:
    """Few resamples, and no worker processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detailed_evaluation, "NUM_RESAMPLES", 50)
        patch.setattr(correlations, "NUM_RESAMPLES", 20)
        without_workers(patch)
        yield


def without_workers(patch: pytest.MonkeyPatch) -> None:
    """Make vectors where they are read; all else is as it is."""

    def vectors(clips: pd.DataFrame, features: FeaturesConfig) -> dict[str, Any]:
        texts = clips["text"].fillna("").str.len().to_numpy(np.float32)[:, None]
        files = [Path(features.precomputed["sounds"].path.format(clip_id=each)) for each in clips["clip_id"]]
        sounds = [np.load(file) if file.exists() else np.zeros(3, np.float32) for file in files]
        present = np.array([file.exists() for file in files])
        return {"audio": (present, np.stack(sounds)), "text": (texts[:, 0] > 0, texts)}

    for module in (load, fresh_evaluation):
        patch.setattr(module, "extract_features", lambda clips, *_: (clips, pd.DataFrame(), pd.DataFrame()))
    patch.setattr(data, "read_vectors", vectors)


def source(name: str, **changes: Any) -> dict[str, Any]:
    """A corpus entry for such a table."""
    return {
        "adapter": "table", "files": f"{name}.csv", "id": "id", "text": "said", "group": "film", "speaker": "who",
        "split": "part", "labels": {"emotion": {"column": "mood"}}, "metrics": {"emotion": ["macro_f1", "uar"]},
        **changes,
    }  # fmt: skip


def config(folder: Path, name: str = "own", seed: int = 0) -> RunConfig:
    """Of a run on `<name>.csv`."""
    tree: dict[str, Any] = {
        "corpora": {"root": str(folder), "sources": {"own": source(name)}},
        "features": {
            "store": str(folder / "store"), "num_workers": 1,
            "encoders": {"text": "tests.support.fake_writers:Letters", "audio": "sounds"},
            "precomputed": {"sounds": {"path": f"{folder}/sounds/{{clip_id}}.npy", "pooling": "none"}},
        },
        "data": {"modalities": ["audio", "text"]},
        "tasks": {"active": ["emotion"]},
        "model": {"hidden_width": 8, "head_width": 8, "num_heads": 2},
        "training": {"num_epochs": 2, "seed": seed},
        "output": {"directory": str(folder / "runs")},
    }  # fmt: skip
    return validate(RunConfig, tree, "test")


def train(folder: Path, name: str = "own", seed: int = 0) -> Path:
    """Train on `<name>.csv`; the run's folder."""
    settings = config(folder, name, seed)
    project = ProjectConfiguration(project_dir=str(folder))
    accelerator = Accelerator(cpu=True, log_with="tensorboard", project_config=project)
    return run_training(settings, name, False, accelerator, Console(file=io.StringIO()))
