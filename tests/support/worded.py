"""A text encoder whose vectors can be worked out by hand, and tasks of texts in its words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.base import Encoder
from encoders.config import FeaturesConfig
from encoders.errors import EncodingError, MissingModality
from encoders.media.clip import ClipMedia

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
