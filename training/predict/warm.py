"""What predictors keep loaded from one prediction to the next: encoders, and models that write texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Self

from encoders.config import FeaturesConfig
from encoders.extraction.workers import WarmEncoders
from encoders.writers.base import TextWriter

__all__ = ["KeepsLoaded"]


class KeepsLoaded:
    """Base of predictors: encoders and writers of texts are loaded when first needed, and stay.

    A context manager, which lets go of them; so does `close`. Whoever predicts holds `_lock`.

    Args:
        num_processes: worker processes that decode and encode; 0 does it in this process.
    """

    def __init__(self, num_processes: int = 0) -> None:
        self.num_processes = num_processes
        self._warm: WarmEncoders | None = None
        self._writers: dict[str, TextWriter] = {}
        self._lock = RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of encoders and writers of texts; a later prediction loads them again."""
        with self._lock:
            if self._warm is not None:
                self._warm.close()
            self._warm = None
            self._writers.clear()

    @contextmanager
    def _encoders(self, features: FeaturesConfig) -> Iterator[WarmEncoders]:
        """Give the loaded encoders; after an error they are let go of at once, whatever they are in the midst of."""
        self._warm = self._warm or WarmEncoders(features, self.num_processes)
        try:
            yield self._warm
        except BaseException:  # a worker that died, or is in the midst of what nobody waits for any more
            self._warm.close(at_once=True)
            self._warm = None
            raise
