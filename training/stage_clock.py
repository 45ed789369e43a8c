"""Seconds by stage of a prediction."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["StageClock"]


class StageClock:
    """How long each stage took.

    Args:
        on_stage: told the name of each stage as it begins.

    Example:
        >>> clock = StageClock(print)
        >>> clock.enter("inputs")
        inputs
        >>> list(clock.leave())
        ['inputs']
    """

    def __init__(self, on_stage: Callable[[str], None] | None = None) -> None:
        self.on_stage = on_stage
        self.seconds: dict[str, float] = {}
        self.stage, self.began = "", time.perf_counter()

    def enter(self, stage: str) -> None:
        """Begin a stage, which ends the one before."""
        self.leave()
        self.stage = stage
        if self.on_stage is not None:
            self.on_stage(stage)

    def leave(self) -> dict[str, float]:
        """End the stage; seconds of all so far."""
        now = time.perf_counter()
        if self.stage:
            self.seconds[self.stage] = now - self.began
        self.began = now
        return self.seconds
