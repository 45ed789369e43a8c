"""Encoders whose behaviour a clip's text commands, and clip tables for them; importable by spawned workers."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from encoders.base import Encoder
from encoders.config import FeaturesConfig
from encoders.device import DeviceEncoder, Prepared
from encoders.errors import EncodingError, MissingModality
from encoders.media.clip import ClipMedia


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

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | MissingModality]:
        assert self.loaded, "load() must come first"
        return [self.obey(clip) for clip in clips]

    def obey(self, clip: ClipMedia) -> NDArray[np.float32] | EncodingError | MissingModality:
        command, _, argument = (clip.text or "").partition(" ")
        frame = np.array([len(clip.text or ""), int(clip.clip_id.removeprefix("clip"))], dtype=np.float32)
        match command:
            case "absent":
                return MissingModality("no transcript")
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

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | MissingModality]:
        return super().encode(clips)[1:]


class Attentive(DeviceEncoder):
    """Letters of the text, each of which looks at all of the clip; a real torch model with a mask.

    The text commands `prepare` (absent, fail, raise, library, die, sleep, note) and `embed` (explode, sleepy, nan).
    """

    id = "attentive"
    most = 10**9
    """Most padded letters of one pass before `lacking` is raised."""
    lacking: ClassVar[Exception] = MemoryError("no room for the pass")
    passes: ClassVar[list[int]] = []
    """Clips of each pass that was tried."""
    model: Any = None

    @property
    def width(self) -> int:
        return 6

    def load(self) -> None:
        assert multiprocessing.parent_process() is None, "weights are loaded in a worker"
        import torch

        class Model(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.letters = torch.nn.Embedding(256, 6)
                self.attention = torch.nn.MultiheadAttention(6, 2, batch_first=True)

            def forward(self, ids: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
                letters = self.letters(ids)
                found: torch.Tensor = self.attention(letters, letters, letters, key_padding_mask=padding)[0]
                return found

        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = Model().to(self.device, getattr(torch, self.dtype)).eval()

    def prepare(self, clip: ClipMedia) -> Prepared:
        assert self.model is None or multiprocessing.parent_process() is None
        text = clip.text or ""
        command, _, argument = text.partition(" ")
        match command:
            case "absent":
                raise MissingModality("no transcript")
            case "fail":
                raise EncodingError("face too small")
            case "raise":
                raise ValueError(f"cannot take {clip.clip_id}")
            case "library":
                raise ModuleNotFoundError("No module named 'soundfile'")
            case "die":
                os._exit(7)
            case "sleep":
                time.sleep(float(argument))
        ids = np.frombuffer(text.encode(), dtype=np.uint8)
        return Prepared({"ids": ids}, len(ids), f"note on {clip.clip_id}" if command == "note" else None)

    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        import torch

        longest = max(clip.length for clip in inputs)
        self.passes.append(len(inputs))
        if len(inputs) * longest > self.most:
            raise self.lacking
        ids = torch.zeros(len(inputs), longest, dtype=torch.long)
        padding = torch.ones(len(inputs), longest, dtype=torch.bool)
        for row, clip in enumerate(inputs):
            text = clip.arrays["ids"].tobytes().decode()
            if text.startswith("explode"):
                raise ValueError(f"cannot embed {text}")
            if text.startswith("sleepy"):
                time.sleep(float(text.split()[1]))
            ids[row, : clip.length] = torch.from_numpy(clip.arrays["ids"].astype(np.int64))
            padding[row, : clip.length] = False
        with torch.inference_mode():
            found = self.model(ids.to(self.device), padding.to(self.device)).float().cpu().numpy()
        results = [found[row, : clip.length] for row, clip in enumerate(inputs)]
        return [
            each * np.nan if clip.arrays["ids"].tobytes() == b"nan" else each
            for clip, each in zip(inputs, results, strict=True)
        ]


class Heavy(DeviceEncoder):
    """Two megabytes a clip, prepared in 20 ms and embedded in 20 ms."""

    id = "heavy"

    @property
    def width(self) -> int:
        return 1

    def prepare(self, clip: ClipMedia) -> Prepared:
        time.sleep(0.02)
        return Prepared({"pixels": np.full(2_000_000, 3, dtype=np.uint8)}, 1)

    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        time.sleep(0.02 * len(inputs))
        return [clip.arrays["pixels"][:1, None].astype(np.float32) for clip in inputs]


class Pixels(Heavy):
    id = "pixels"

    def prepare(self, clip: ClipMedia) -> Prepared:
        frames, _ = clip.frames(4)
        return Prepared({"pixels": frames}, len(frames))


class Brightness(Encoder):
    id = "brightness"
    width = 1

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | MissingModality]:
        return [clip.frames(4)[0].mean(axis=(1, 2, 3))[:, None].astype(np.float32) for clip in clips]


class Unmakeable(Obedient):
    """Cannot be constructed in a worker; the error does not survive pickling."""

    id = "unmakeable"

    def __init__(self, modality: str) -> None:
        super().__init__(modality)
        if multiprocessing.parent_process() is not None:
            raise UnpicklableError(1, 2)


class UnpicklableError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def expected(text: str, number: int) -> list[float]:
    """Mean of [x, 2x] is 1.5x, population standard deviation 0.5x."""
    return [1.5 * len(text), 1.5 * number, 0.5 * len(text), 0.5 * number]


def table(texts: Iterable[str], corpus: str = "fake") -> pd.DataFrame:
    rows = [{"corpus": corpus, "clip_id": f"clip{number}", "text": text} for number, text in enumerate(texts)]
    return pd.DataFrame(rows)


def features(store: Path | str, **changes: object) -> FeaturesConfig:
    values: Mapping[str, object] = {
        "store": str(store), "encoders": {"text": "tests.support.fake_encoders:Obedient"},
        "num_workers": 1, "chunk_size": 3, **changes,
    }  # fmt: skip
    return FeaturesConfig.model_validate(values)


def main(store: str, seconds: str, kill_at: str, moment: str, text_encoder: str = "Obedient") -> None:
    """Extract, in a process of its own, clips that take `seconds` (separated by commas).

    SIGKILL comes right before or after the `kill_at`-th rename of a store file, at no time for 0.
    """
    import signal

    from encoders.extraction.extract import extract

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
    encoders = {"text": f"tests.support.fake_encoders:{text_encoder}", "behavior": "tests.support.fake_encoders:Other"}
    config = features(store, encoders=encoders, batch_size=4)
    summary = extract(table(f"sleep {each}" for each in seconds.split(",")), config)
    print(sum(count.done for count in summary.counts.values()))


if __name__ == "__main__":
    main(*sys.argv[1:])
