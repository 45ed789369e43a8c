"""A writer of texts that clip ids command, and clip tables for it; importable by subprocesses."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from encoders.base import Encoder
from encoders.catalogue.checkpoint import Checkpoint
from encoders.config import FeaturesConfig
from encoders.errors import EncodingError, Failure, MissingModality
from encoders.media.clip import ClipMedia
from encoders.store.text_store import Written
from encoders.writers.base import TextWriter


class OutOfMemoryError(RuntimeError):
    pass


class FakeWriter(TextWriter):
    """Writes `words of <clip id>`; keeps in a file what it was given, a line per batch."""

    kind = "transcript"
    column = "text"
    modality = "audio"

    def __init__(self, log: Path, batch_size: int = 2, overwrite: bool = False, prompt: str = "plain") -> None:
        super().__init__(Checkpoint("features.transcriber", "fake/writer"), batch_size, overwrite)
        self.log, self.prompt, self.loaded = log, prompt, 0

    def settings(self) -> Mapping[str, object]:
        return {"prompt": self.prompt}

    def load(self) -> None:
        self.loaded += 1

    def load_reader(self) -> None:
        self.loaded = -1

    def prepare(self, clip: ClipMedia) -> str:
        assert self.loaded, "load() must come first"
        match clip.clip_id.split("-")[0]:
            case "here" if self.loaded < 0:
                raise EncodingError("read elsewhere, without weights")
            case "silent":
                raise MissingModality("no media file")
            case "broken":
                raise EncodingError("file is empty (0 bytes)")
            case "odd":
                raise ValueError("odd size")
        return clip.clip_id

    def write(self, prepared: Sequence[str]) -> list[Written | Failure]:
        with self.log.open("a") as file:
            file.write(" ".join(prepared) + "\n")
        if any(clip_id.startswith("stop") for clip_id in prepared):
            raise KeyboardInterrupt
        if any(clip_id.startswith("large") for clip_id in prepared):
            raise OutOfMemoryError("no memory")
        if any(clip_id.startswith("crash") for clip_id in prepared):
            raise ZeroDivisionError("in the model")
        if any(clip_id.startswith("slow") for clip_id in prepared):
            time.sleep(0.05)
        mute = Failure("absent", "no speech recognised")
        return [
            mute if clip_id.startswith("mute") else Written(f"words of {clip_id}", "de", [("words", 0.0, 0.5)])
            for clip_id in prepared
        ]


class Letters(Encoder):
    """The number of letters of a text."""

    id = "letters"
    width = 1

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | MissingModality]:
        return [
            np.array([[len(clip.text)]], np.float32) if clip.text else MissingModality("no transcript")
            for clip in clips
        ]


def batches(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def table(ids: Sequence[str], corpus: str = "fake", **columns: Sequence[object]) -> pd.DataFrame:
    frame = pd.DataFrame({"corpus": corpus, "clip_id": ids}).assign(
        media=pd.NA, start=float("nan"), end=float("nan"), text=pd.Series(pd.NA, index=range(len(ids)), dtype="string"),
        language=pd.Series(pd.NA, index=range(len(ids)), dtype="string"), description=pd.NA,
    )  # fmt: skip
    return frame.assign(**columns)


def features(store: Path | str, **changes: object) -> FeaturesConfig:
    return FeaturesConfig.model_validate({"store": str(store), "num_workers": 1, **changes})


def main(store: str, log: str, num_clips: str, kill_at: str, moment: str) -> None:
    """Fill clips in a process of its own; SIGKILL comes right before or after the `kill_at`-th rename of a part."""
    import signal

    from encoders.writers import fill as text_filling

    replace, count = os.replace, 0

    def deadly(source: object, target: object) -> None:
        nonlocal count
        is_part = Path(str(target)).suffix == ".parquet"
        count += is_part
        if is_part and count == int(kill_at) and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)  # type: ignore[arg-type]
        if is_part and count == int(kill_at) and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = deadly  # type: ignore[assignment]
    text_filling.text_writers = lambda *_: [FakeWriter(Path(log))]
    ids = [f"slow-{number}" for number in range(int(num_clips))]
    filled = text_filling.fill_texts(table(ids), features(store), show_progress=False)
    print(filled.summary.counts["fake", "transcript"].done, int(filled.clips["text"].notna().sum()))


if __name__ == "__main__":
    main(*sys.argv[1:])
