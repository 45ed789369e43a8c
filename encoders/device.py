"""Encoders whose weights live on one device: workers prepare clips without them, the launched process embeds."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.base import Embeddings, Encoder, Watcher, embed_together, read_each
from encoders.config import FeaturesConfig
from encoders.media.clip import ClipMedia
from encoders.timed import Grid, Timed
from mmpsr.config import ConfigError

__all__ = ["DeviceEncoder", "Prepared", "choose_device", "one_thread"]


@dataclass(frozen=True)
class Prepared:
    """What a worker makes of one clip for a device encoder.

    Attributes:
        arrays: inputs of the model, by name.
        length: what batches are sorted by: frames, samples or tokens.
        note: a sentence for the store, or None.
        grid: of the clip, where its values in time are wanted.
    """

    arrays: dict[str, NDArray[Any]]
    length: int
    note: str | None = None
    grid: Grid | None = None

    @property
    def num_bytes(self) -> int:
        """Size of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())


class DeviceEncoder(Encoder):
    """An encoder in two steps: `prepare` in workers without weights, `embed` in batches on one device.

    `load` is called in the launched process only, after `device` and `dtype` are set.
    """

    on_device: ClassVar[bool] = True
    """Whether it follows the configured device; else it stays on the CPU, in float32."""
    device: str = "cpu"
    """Where the weights are."""
    dtype: str = "float32"
    """`float32`, `float16` or `bfloat16`."""
    is_loaded: bool = False
    """Whether this instance has its weights."""

    @abstractmethod
    def prepare(self, clip: ClipMedia) -> Prepared:
        """Tell what the model reads of a clip; raises `MissingModality` or `EncodingError`."""

    @abstractmethod
    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        """Compute embeddings `[T, width]` of prepared clips, in their order.

        Args:
            inputs: at least one; a clip's result must not depend on its neighbours.
        """

    def prepare_timed(
        self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False
    ) -> Prepared:
        """Tell what the model reads of a clip for its values in time; arguments and errors as of `encode_timed`."""
        raise NotImplementedError(f"encoder {self.id!r} gives nothing in time")

    def embed_timed(self, inputs: Sequence[Prepared], grids: Sequence[Grid]) -> list[Timed]:
        """Compute the values in time of clips that `prepare_timed` prepared.

        Args:
            inputs: at least one; a clip's result must not depend on its neighbours.
            grids: the frames of each.
        """
        raise NotImplementedError(f"encoder {self.id!r} gives nothing in time")

    def encode_timed(self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False) -> Timed:
        """Prepare and embed a clip in this process."""
        return self.embed_timed([self.prepare_timed(clip, grid, watcher, spread_words)], [grid])[0]

    def encode(self, clips: Sequence[ClipMedia]) -> list[Embeddings]:
        """Prepare and embed clips in this process."""
        return embed_together(read_each(clips, self.prepare_with_note), self.embed)

    def prepare_with_note(self, clip: ClipMedia) -> Prepared:
        """Prepare a clip, and leave the note with it."""
        prepared = self.prepare(clip)
        if prepared.note is not None:
            clip.notes[self.id] = prepared.note
        return prepared


class _Threads:
    """How many threads torch has, for all threads of this process, while some of them let it have one."""

    def __init__(self) -> None:
        self.lock, self.users, self.before = threading.Lock(), 0, 1


_threads = _Threads()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread, for what runs beside worker processes that have the other cores.

    torch keeps a number for the process, which each thread takes over when it first asks; so the last to leave sets
    back what the first to enter found.
    """
    import torch

    with _threads.lock:
        if not _threads.users:
            _threads.before = torch.get_num_threads()
        _threads.users += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _threads.lock:
            _threads.users -= 1
            if not _threads.users:
                torch.set_num_threads(_threads.before)


def choose_device(config: FeaturesConfig) -> tuple[str, str]:
    """Choose device and precision of this process' encoders, such as `("cuda:1", "float16")`.

    Of several launched processes each takes the device of its local rank; more processes than devices share them.

    Raises:
        ConfigError: the configuration asks for a CUDA device and there is none.
    """
    import torch

    num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "cuda" and not num_devices:
        raise ConfigError(
            'features.device = "cuda": torch finds no CUDA device here; "auto" takes the CPU where there is none'
        )
    if config.device == "cpu" or not num_devices:
        return "cpu", "float32" if config.precision == "auto" else config.precision
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    return f"cuda:{rank % num_devices}", "float16" if config.precision == "auto" else config.precision
