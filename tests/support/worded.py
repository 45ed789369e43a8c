"""A text encoder whose vectors can be worked out by hand, and tasks of texts in its words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomlkit
from numpy.typing import NDArray

from encoders.base import Encoder
from encoders.config import FeaturesConfig
from encoders.errors import EncodingError, MissingModality
from encoders.extraction.extract import extract
from encoders.extraction.workers import WarmEncoders
from encoders.media.clip import ClipMedia
from training.evaluation import cross_corpus

WORDS = ("joy", "grief", "calm", "smile", "tears")
READ: list[str] = []
"""Texts that were encoded in this process."""
ENCODER = "tests.support.worded:Worded"

MOOD = """
templates = ["{name}"]
[texts.good]
name = "joy"
phrases = ["joy joy", "joy calm"]
behaviors = ["smile"]
[texts.bad]
name = "grief"
phrases = ["grief", "grief grief"]
behaviors = ["tears"]
"""

SAID = ("joy joy", "grief", "joy", "calm", "", "")
DESCRIBED = ("smile", "tears", "", "", "smile", "")
MOODS = ("good", "bad", "bad", "good", "good", "bad")


class Worded(Encoder):
    """A row for each word that is known, 1 at its place; what is said, or the description."""

    id = "worded"

    @property
    def width(self) -> int:
        return len(WORDS)

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | MissingModality]:
        results: list[NDArray[np.float32] | EncodingError | MissingModality] = []
        for clip in clips:
            text = clip.text if self.modality == "text" else clip.description
            if not text:
                results.append(MissingModality("no words"))
                continue
            READ.append(text)
            places = [WORDS.index(word) for word in text.lower().replace(".", "").split() if word in WORDS]
            results.append(np.eye(len(WORDS), dtype=np.float32)[places] if places else EncodingError("no known word"))
        return results


def worded_features(**changes: object) -> FeaturesConfig:
    """Both modalities read by `Worded`."""
    return FeaturesConfig(encoders={"text": ENCODER, "behavior": ENCODER}).model_copy(update=changes)


def write_mood(folder: Path, head: str = "") -> str:
    """Write `mood.toml`; returns its path."""
    file = folder / "mood.toml"
    file.write_text(head + MOOD, encoding="utf-8")
    return str(file)


def without_workers(patch: pytest.MonkeyPatch) -> None:
    """Make vectors that are to be evaluated in this process, since starting workers takes seconds."""

    def made(clips: pd.DataFrame, features: FeaturesConfig, *_: Any) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        with WarmEncoders(features) as warm:
            extract(clips, features, show_progress=False, warm=warm)
        return clips, pd.DataFrame(), pd.DataFrame()

    patch.setattr(cross_corpus, "extract_features", made)


def write_corpus(folder: Path, moods: tuple[str, ...] = MOODS, **tasks: Any) -> Path:
    """Six clips of three films, and the configuration of them."""
    table = pd.DataFrame({"id": list("abcdef"), "said": SAID, "seen": DESCRIBED, "mood": moods, "film": list("xxyyzz")})
    table.assign(part="test").to_csv(folder / "own.csv", index=False)
    source = {
        "adapter": "table", "files": "own.csv", "id": "id", "text": "said", "description": "seen", "group": "film",
        "split": "part", "labels": {"mood": {"column": "mood"}, "other": {"column": "mood"}},
    }  # fmt: skip
    spec = {"kind": "single_label", "classes": ["good", "bad"], "loss": "cross_entropy", "metrics": ["uar"]}
    tree = {
        "corpora": {"root": str(folder), "sources": {"own": source}},
        "features": {"store": str(folder / "store"), "encoders": {"text": ENCODER}},
        "tasks": {"active": ["mood", "other"], "specs": {"mood": {**spec, **tasks}, "other": spec}},
    }
    file = folder / "own.toml"
    file.write_text(tomlkit.dumps(tree), encoding="utf-8")
    return file
