"""Lines that say where training stands while it goes on, with its learning curve."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from time import monotonic

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

__all__ = ["PAUSE", "LiveLines", "Show", "Stand", "Watch", "curve", "mean_stand", "showing", "watching"]

PAUSE = 5.0
"""Seconds between plain lines of one training, where there are many trainings."""
QUIET = 10.0
"""Seconds after which a plain line follows though no epoch has ended."""
CURVE_WIDTH = 24
BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Stand:
    """Where a run stands in its training, or the mean of several that are trained together.

    Attributes:
        epoch: epochs that are over, with the part of the present one that is.
        num_epochs: the most that there can be.
        name: what the dev figure is called.
        value: the dev figure of the last epoch, percent; NaN before the first is over.
        best: the best of all; NaN before.
        best_epoch: whose it is, from 1; 0 where there is none, or of several runs.
        num_runs: how many are trained together.
    """

    epoch: float
    num_epochs: int
    name: str = "dev mean"
    value: float = math.nan
    best: float = math.nan
    best_epoch: int = 0
    num_runs: int = 1


Watch = Callable[[Stand], None]
"""Called before the first step, after every step, and at the end of every epoch."""
Show = Callable[[str, Stand | None], None]
"""Called with the name of a training, and where it stands; None when it is over."""


@contextmanager
def showing(show: Show, name: str) -> Iterator[Watch]:
    """Give what the training of a name tells where it stands, for as long as it goes on."""
    try:
        yield partial(show, name)
    finally:
        show(name, None)


def mean_stand(stands: Sequence[Stand]) -> Stand:
    """Take the mean of runs that are trained together; figures of those that have some."""
    if len(stands) == 1:
        return stands[0]
    values, bests = ([value for value in each if math.isfinite(value)] for each in (
        (stand.value for stand in stands), (stand.best for stand in stands)
    ))  # fmt: skip
    return Stand(
        sum(stand.epoch for stand in stands) / len(stands),
        max(stand.num_epochs for stand in stands),
        stands[0].name,
        sum(values) / len(values) if values else math.nan,
        sum(bests) / len(bests) if bests else math.nan,
        num_runs=len(stands),
    )


@dataclass
class _Line:
    """A training that goes on: where it stood first and stands now, and when a plain line was last printed."""

    first: Stand
    started: float
    stand: Stand
    told: float
    left: float | None = None
    values: list[float] = field(default_factory=list)

    def move(self, stand: Stand, now: float) -> bool:
        """Take where it stands now; whether an epoch has ended."""
        ended, self.stand = int(stand.epoch) > int(self.stand.epoch), stand
        trained = stand.epoch - self.first.epoch
        if trained > 0:
            self.left = (now - self.started) / trained * (stand.num_epochs - stand.epoch)
        if ended and math.isfinite(stand.value):
            self.values.append(stand.value)
        return ended


class LiveLines:
    """A line for each training that goes on; in a terminal it moves, elsewhere new ones follow.

    Args:
        console: where to; what else is printed there stands above lines that move.
        pause: seconds between plain lines of one training at least.
    """

    def __init__(self, console: Console, pause: float = 0.0) -> None:
        self._console, self._pause = console, pause
        self._lines: dict[str, _Line] = {}
        self._moves = console.is_terminal and not console.is_dumb_terminal
        self._display: Live | None = None  # while there are lines that move: others may draw on the terminal before

    def __enter__(self) -> LiveLines:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the last of lines that moved stay."""
        self._stop()
        for name, line in self._lines.items() if self._moves else ():
            self._print(name, line.stand, None)

    def show(self, name: str, stand: Stand | None) -> None:
        """Say where the training of a name stands; None where it is over, and its line goes."""
        now = monotonic()
        if stand is None:
            self._lines.pop(name, None)
            if not self._lines:
                self._stop()
            return
        if name not in self._lines:
            self._lines[name] = _Line(stand, now, stand, now)
        line = self._lines[name]
        ended = line.move(stand, now)
        if self._moves:
            self._start()
            if ended and self._display is not None:
                self._display.refresh()  # it does so by itself four times a second
        elif now - line.told >= (self._pause if ended else max(self._pause, QUIET)):
            self._print(name, stand, line.left)
            line.told = now

    def _start(self) -> None:
        if self._display is None:
            self._display = Live(
                console=self._console, transient=True, get_renderable=self._group, redirect_stderr=sys.stderr.isatty()
            )
            self._display.start(refresh=True)

    def _stop(self) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None

    def _print(self, name: str, stand: Stand, left: float | None) -> None:
        text = f"{name}: {_text(stand, left)}" if name else _text(stand, left)
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _group(self) -> Group:
        lines = []
        for name, line in list(self._lines.items()):
            text = "  ".join(part for part in (_text(line.stand, line.left), name) if part)
            width = min(CURVE_WIDTH, self._console.width - len(text) - 2)
            if width > 0 and not self._console.options.ascii_only:
                text += f"  {curve(line.values, width)}"
            lines.append(Text(text.rstrip(), no_wrap=True, overflow="ellipsis"))
        return Group(*lines)


def _text(stand: Stand, left: float | None) -> str:
    """Word where a training stands.

    Example:
        >>> _text(Stand(3, 50, value=71.234, best=72.0, best_epoch=2), 75.4)
        'epoch 3 of 50  dev mean 71.23  best 72.00 (epoch 2)  at most 0:01:15 left'
    """
    epoch = f"{stand.epoch:.0f}" if stand.epoch == int(stand.epoch) else f"{stand.epoch:.1f}"
    parts = [f"epoch {epoch} of {stand.num_epochs}"]
    if stand.num_runs > 1:
        parts[0] += f", mean of {stand.num_runs} runs"
    if math.isfinite(stand.value):
        parts.append(f"{stand.name} {stand.value:.2f}")
    if math.isfinite(stand.best):
        parts.append(f"best {stand.best:.2f}" + (f" (epoch {stand.best_epoch})" if stand.best_epoch else ""))
    if left is not None:
        parts.append(f"at most {timedelta(seconds=round(left))} left")
    return "  ".join(parts)


def curve(values: Sequence[float], width: int = CURVE_WIDTH) -> str:
    """Draw the last values as blocks between the least and the greatest of them.

    Example:
        >>> curve([50.0, 60.0, 70.0, 65.0])
        '▁▅█▆'
    """
    shown = values[-width:]
    if not shown:
        return ""
    least, reach = min(shown), max(shown) - min(shown)
    return "".join(BLOCKS[round((value - least) / reach * (len(BLOCKS) - 1)) if reach else 0] for value in shown)


@contextmanager
def watching(console: Console, is_live: bool) -> Iterator[Watch | None]:
    """Give what one training tells where it stands, for as long as it goes on; None where nothing is to be shown."""
    if not is_live:
        yield None
        return
    with LiveLines(console) as lines:
        yield partial(lines.show, "")
