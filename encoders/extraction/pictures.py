"""Pictures as an image encoder is given them, in a file that is mapped into memory: for training the encoder itself.

They are made clip by clip as for the encoder's vectors, by `ImageEncoder.prepare` or, in time, `prepare_timed`; so one
clip's pictures are in memory. What was written is not made again.

```
<folder>/pictures-<key>/pixels.uint8     one picture after the other, [P, C, S, S]
<folder>/pictures-<key>/clips.jsonl      a line for each clip whose pictures are there, written after them
```
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from encoders.config import FeaturesConfig
from encoders.device import Prepared
from encoders.errors import Failure
from encoders.extraction.in_time import encode_in_time
from encoders.extraction.jobs import prepare_clip
from encoders.extraction.read import clip_records, timed_source, timed_specs
from encoders.media.clip import ClipMedia
from encoders.models.image import ImageEncoder
from encoders.timed import MEASURED, NONE, TimedSequences
from mmpsr.files import sha256_of

__all__ = ["PictureNumbers", "StoredPictures", "store_pictures"]

VERSION = 1
"""Part of the key; rises whenever the same clip would give other pictures or lines."""


class PictureNumbers(TimedSequences):
    """For each frame of clips the number of its picture, in place of a vector.

    Args:
        numbers: of each clip, int64 `[T]`, -1 where a frame has no picture; empty of clips without any.
        rates: frames per second of each clip, None where it has nothing.
        starts: float64 `[n]`, second of frame 0 of each clip's media.
    """

    def __init__(
        self, numbers: Sequence[NDArray[np.int64]], rates: Sequence[Fraction | None], starts: NDArray[np.float64]
    ) -> None:
        lengths = np.array([len(each) for each in numbers], dtype=np.int64)
        nowhere = np.full(len(numbers), -1, dtype=np.int64)
        states = [np.where(each < 0, NONE, MEASURED).astype(np.int8).tobytes() for each in numbers]
        super().__init__(1, (), nowhere, nowhere, lengths, rates, starts, states)
        self._numbers = tuple(numbers)

    def frames(self, clip: int, begin: int = 0, end: int | None = None) -> NDArray[Any]:
        """Number the pictures of a clip's frames, int64 `[end - begin, 1]`."""
        return self._numbers[clip][begin:end, None]

    def all(self) -> tuple[NDArray[np.int64], ...]:
        """Number the pictures of all clips, `[T]` each."""
        return self._numbers


@dataclass(frozen=True)
class StoredPictures:
    """Pictures of clips.

    Attributes:
        pixels: uint8 `[P, C, S, S]`, mapped.
        numbers: picture of each frame of each clip.
        failures: why a clip has none, by its row.
        num_several: frames with several faces, of which the surest is taken.
    """

    pixels: NDArray[np.uint8]
    numbers: PictureNumbers
    failures: Mapping[int, str]
    num_several: int


def store_pictures(
    clips: pd.DataFrame,
    encoder: ImageEncoder,
    features: FeaturesConfig,
    folder: Path,
    in_time: bool,
    step: int = 1,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> StoredPictures:
    """Write the pictures of clips that are not there yet, and map all of them.

    Args:
        clips: clip table.
        encoder: whose pictures; its weights need not be loaded.
        features: how many frames a second, and how faces are cut out.
        folder: below which they lie; two processes take turns.
        in_time: a picture for every frame of a clip, in place of those that its vector is made of.
        step: every how manieth frame is kept, from the first on.
        advance: told how many clips are done, of how many.
    """
    from filelock import FileLock

    spec = timed_specs(features.model_copy(update={"timed": (encoder.modality,)}), {encoder.modality: encoder})
    asked = [VERSION, spec[encoder.modality].key, in_time, step]
    place = folder / f"pictures-{sha256_of(json.dumps(asked))[:10]}"
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / ".lock"):
        return _stored(clip_records(clips, features), encoder, features, place, in_time, step, advance)


def _stored(
    records: Sequence[Mapping[str, Any]],
    encoder: ImageEncoder,
    features: FeaturesConfig,
    place: Path,
    in_time: bool,
    step: int,
    advance: Callable[[int, int], None],
) -> StoredPictures:
    pixels, journal = place / "pixels.uint8", place / "clips.jsonl"
    lines = _whole_lines(journal)
    known = {(line["corpus"], line["clip"], line["source"]): line for line in lines}
    shape: tuple[int, ...] = tuple(lines[0]["shape"]) if lines else (3, 1, 1)
    end = lines[-1]["first"] + lines[-1]["num"] if lines else 0
    found: list[dict[str, Any] | None] = []
    failures = dict[int, str]()
    with pixels.open("ab") as bytes_file, journal.open("a", encoding="utf-8") as lines_file:
        bytes_file.truncate(end * math.prod(shape))  # of a clip that a kill cut short
        for row, record in enumerate(records):
            advance(row, len(records))
            key = str(record["corpus"]), str(record["clip_id"]), timed_source(encoder, record)
            line = known.get(key)
            if line is None:
                made = _pictures(encoder, ClipMedia.from_row(record), features, in_time, step)
                if isinstance(made, str):
                    failures[row] = made
                else:
                    pictures, facts = made
                    line = {"corpus": key[0], "clip": key[1], "source": key[2], "first": end, "num": len(pictures),
                            "shape": pictures.shape[1:], **facts}  # fmt: skip
                    bytes_file.write(pictures.tobytes())
                    bytes_file.flush()
                    lines_file.write(json.dumps(line) + "\n")
                    lines_file.flush()
                    end, shape = end + len(pictures), pictures.shape[1:]
            found.append(line)
    advance(len(records), len(records))
    numbers = [_numbers(line) for line in found]
    rates = [None if line is None else Fraction(line["rate"]) for line in found]
    starts = np.array([0.0 if line is None else line["start"] for line in found])
    mapped = np.memmap(pixels, np.uint8, "r", shape=(end, *shape)) if end else np.zeros((0, *shape), np.uint8)
    return StoredPictures(
        mapped, PictureNumbers(numbers, rates, starts), failures, sum(line["several"] for line in found if line)
    )


def _whole_lines(journal: Path) -> list[dict[str, Any]]:
    """Read the lines that were written to their end, and cut off what was not."""
    if not journal.exists():
        return []
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        journal.write_bytes(whole)
    return [json.loads(line) for line in whole.splitlines()]


def _numbers(line: Mapping[str, Any] | None) -> NDArray[np.int64]:
    """Number the picture of each frame, -1 where there is none, also between those that are kept."""
    if line is None:
        return np.zeros(0, dtype=np.int64)
    shown = np.array(line["shown"], dtype=np.int64)
    numbers = np.full(line["length"], -1, dtype=np.int64)
    numbers[:: line["step"]] = np.where(shown < 0, -1, shown + line["first"])
    return numbers


def _pictures(
    encoder: ImageEncoder, clip: ClipMedia, features: FeaturesConfig, in_time: bool, step: int
) -> tuple[NDArray[np.uint8], dict[str, Any]] | str:
    """Make a clip's pictures `[K, C, S, S]` and the facts of its line, or say why there are none."""
    modality = encoder.modality
    made = encode_in_time({modality: encoder}, clip, features)[modality][0] if in_time else prepare_clip(encoder, clip)
    clip.release()
    if isinstance(made, Failure):
        return made.reason
    assert isinstance(made, Prepared)
    if not made.length:
        return made.note or "no frame has a picture"
    owners, first, counts = np.unique(made.arrays["frames"], return_index=True, return_counts=True)
    places = np.searchsorted(owners, made.arrays["shown"])
    kept = np.where(made.arrays["state"] == NONE, -1, places)[::step] if in_time else places[::step]
    used, shown = np.unique(kept[kept >= 0], return_inverse=True)
    if not len(used):
        return made.note or "no frame that is kept has a picture"
    kept[kept >= 0] = shown
    grid = made.grid
    facts = {
        "shown": kept.tolist(), "step": step, "length": len(places), "several": int((counts[used] > 1).sum()),
        "rate": "1" if grid is None else str(grid.rate), "start": 0.0 if grid is None else grid.start,
    }  # fmt: skip
    return np.ascontiguousarray(made.arrays["pixels"][first[used]], dtype=np.uint8), facts
