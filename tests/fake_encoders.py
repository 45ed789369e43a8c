"""Encoders whose behaviour a clip's text commands, and clip tables for them; importable by spawned workers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from encoders.encoder import Absent, Encoder, EncodingError, FeaturesConfig
from encoders.media import ClipMedia


class Obedient(Encoder):
    """Two frames `[length of the text, number in the clip id]` and twice that, unless the text commands otherwise."""

    id = "obedient"

    def __init__(self, modality: str) -> None:
        super().__init__(modality)
        self.loaded = False

    @property
    def width(self) -> int:
        return 2

    def load(self) -> None:
        self.loaded = True

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | Absent]:
        assert self.loaded, "load() must come first"
        return [self.obey(clip) for clip in clips]

    def obey(self, clip: ClipMedia) -> NDArray[np.float32] | EncodingError | Absent:
        command, _, argument = (clip.text or "").partition(" ")
        frame = np.array([len(clip.text or ""), int(clip.clip_id.removeprefix("clip"))], dtype=np.float32)
        match command:
            case "absent":
                return Absent("no transcript")
            case "fail":
                return EncodingError("face too small")
            case "unless" if not Path(argument).exists():
                return EncodingError(f"{argument} is missing")
            case "raise":
                raise ValueError(f"cannot take {clip.clip_id}")
            case "library":
                raise ModuleNotFoundError("No module named 'opensmile'")
            case "nan":
                frame[0] = np.nan
            case "wide":
                return np.zeros((2, 5), dtype=np.float32)
            case "empty":
                return np.zeros((0, 2), dtype=np.float32)
            case "die":
                os._exit(7)
            case "sleep":
                time.sleep(float(argument))
            case "note":
                clip.notes[self.id] = f"repeated frames in {clip.clip_id}"
        return np.stack([frame, 2 * frame])


class Other(Obedient):
    id = "other"


class Unloadable(Obedient):
    id = "unloadable"

    def load(self) -> None:
        raise OSError("weights need a download of 400 MB")


class Undecided(Obedient):
    """Knows its width only when loaded, which its constructor ought to."""

    id = "undecided"

    @property
    def width(self) -> int:
        return 2 if self.loaded else 1


class Short(Obedient):
    id = "short"

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | Absent]:
        return super().encode(clips)[1:]


def expected(text: str, number: int) -> list[float]:
    """Mean of [x, 2x] is 1.5x, population standard deviation 0.5x."""
    return [1.5 * len(text), 1.5 * number, 0.5 * len(text), 0.5 * number]


def table(texts: Iterable[str], corpus: str = "fake") -> pd.DataFrame:
    rows = [{"corpus": corpus, "clip_id": f"clip{number}", "text": text} for number, text in enumerate(texts)]
    return pd.DataFrame(rows)


def features(store: Path | str, **changes: object) -> FeaturesConfig:
    values: Mapping[str, object] = {
        "store": str(store), "encoders": {"text": "fake_encoders:Obedient"}, "num_workers": 1, "chunk_size": 3,
        **changes,
    }  # fmt: skip
    return FeaturesConfig.model_validate(values)


def main(store: str, seconds: str, kill_at: str, moment: str) -> None:
    """Extract, in a process of its own, clips that take `seconds` (separated by commas).

    SIGKILL comes right before or after the `kill_at`-th rename of a store file, at no time for 0.
    """
    import signal

    from encoders.extraction import extract

    replace, count = os.replace, 0

    def deadly(source: object, target: object) -> None:
        nonlocal count
        count += 1
        if count == int(kill_at) and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)  # type: ignore[arg-type]
        if count == int(kill_at) and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = deadly  # type: ignore[assignment]
    encoders = {"text": "fake_encoders:Obedient", "behavior": "fake_encoders:Other"}
    summary = extract(table(f"sleep {each}" for each in seconds.split(",")), features(store, encoders=encoders))
    print(sum(count.done for count in summary.counts.values()))


if __name__ == "__main__":
    main(*sys.argv[1:])
