"""Encoders whose sequences a clip's text commands, which count their clips; importable by spawned workers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from encoders.base import Encoder
from encoders.config import FeaturesConfig
from encoders.device import DeviceEncoder, Prepared
from encoders.errors import EncodingError, MissingModality
from encoders.media.clip import ClipMedia

CALLS = "SEQUENCE_ENCODER_CALLS"
"""Environment variable with the path of a file that gets a line for each clip that is encoded."""


def ramp(text: str) -> NDArray[np.float32]:
    """`"<T> <scale>"` gives `[T, 2]`: t * scale, and 1; the scale is 1 where there is none."""
    length, _, scale = text.partition(" ")
    steps = np.arange(int(length), dtype=np.float32)
    return np.stack([steps * float(scale or 1), np.ones_like(steps)], axis=1)


def note_call(name: str) -> None:
    if CALLS in os.environ:
        with open(os.environ[CALLS], "a", encoding="utf-8") as file:
            file.write(f"{name}\n")


class Ramp(Encoder):
    """A ramp, unless the text is `absent`, or `fail` and there is no file that the rest of it names."""

    id = "ramp"
    width = 2

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | MissingModality]:
        return [self.obey(clip) for clip in clips]

    def obey(self, clip: ClipMedia) -> NDArray[np.float32] | EncodingError | MissingModality:
        note_call(clip.clip_id)
        text = clip.text or ""
        if text == "absent":
            return MissingModality("no transcript")
        if text.startswith("fail"):
            return EncodingError("no face") if not Path(text[5:]).exists() else ramp("3")
        return ramp(text)


class DeviceRamp(DeviceEncoder):
    id = "device-ramp"
    width = 2

    def prepare(self, clip: ClipMedia) -> Prepared:
        values = ramp(clip.text or "")
        return Prepared({"values": values}, len(values))

    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        for _ in inputs:
            note_call("embedded")
        return [clip.arrays["values"] for clip in inputs]


def table(texts: Sequence[str], corpus: str = "fake") -> pd.DataFrame:
    rows = [{"corpus": corpus, "clip_id": f"clip{number}", "text": text} for number, text in enumerate(texts)]
    return pd.DataFrame(rows)


def features(
    store: Path | str, cap: int | None, encoder: str = "tests.support.sequence_encoders:Ramp", **more: object
) -> FeaturesConfig:
    values = {
        "store": str(store), "encoders": {"text": encoder}, "num_workers": 1, "chunk_size": 2,
        "sequences": {} if cap is None else {"text": cap}, **more,
    }  # fmt: skip
    return FeaturesConfig.model_validate(values)


def main(store: str) -> None:
    """Extract four clips, killed right before the first part of sequences gets its name."""
    from encoders.extraction.extract import extract

    replace = os.replace

    def deadly(source: object, target: object) -> None:
        if "-sequence-" in str(target) and Path(str(target)).name.startswith("part-"):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)  # type: ignore[arg-type]

    os.replace = deadly  # type: ignore[assignment]
    extract(table(["1", "2", "3", "4"]), features(store, 3))


if __name__ == "__main__":
    main(*sys.argv[1:])
