"""What an extraction tells: how far it is while it runs, and afterwards the numbers to check before trusting it."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from encoders.store.vector_store import LEDGER_COLUMNS
from encoders.visibility import FaceFigures, FaceSummary, summarize_faces

__all__ = ["ClipProgress", "Count", "ExtractionSummary"]

_REASONS_SHOWN = 8
SHORTEST, LONGEST = 8.0, 60.0
"""Seconds between lines of progress where there is no terminal; between these a tenth of the time so far."""


@dataclass
class Count:
    """Clips of one corpus and modality by what became of them; a modality's sequences are counted apart.

    Attributes:
        done: vectors, or sequences, that this process made.
        reused: those that were there before or that another process made meanwhile.
        absent: clips that have nothing of the modality.
        failed: clips that should have one and have none, now or from an earlier run.
    """

    done: int = 0
    reused: int = 0
    absent: int = 0
    failed: int = 0


@dataclass
class ExtractionSummary:
    """Result of `encoders.extraction.extract.extract`; `rich.print(summary)` shows it as a table.

    Attributes:
        counts: `Count` by (corpus, modality), and by (corpus, "<modality> sequences") where they are kept.
        ledger: one row per clip and modality without a vector, and per clip with a vector and no sequence (its
            modality is "<modality> sequences"); columns `LEDGER_COLUMNS`.
        figures: a row per clip and modality whose media were measured (see `encoders.visibility.FaceFigures`),
            with `corpus`, `clip_id`, `modality` and `encoder`.
        seconds: wall time.
        num_clips: clips for which this process made or tried at least one vector or sequence.
        media_seconds: how long these clips last, as far as known; those of which only the text was wanted not counted.
        prepare_seconds: that worker processes decoded, detected, prepared and encoded, summed over them.
        embed_seconds: that device encoders embedded.
        write_seconds: that went into writing to the store.
        waited: share of the time that the device waited for prepared clips; None without device encoders.
    """

    counts: dict[tuple[str, str], Count] = field(default_factory=dict)
    ledger: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(LEDGER_COLUMNS), dtype="string"))
    figures: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    num_clips: int = 0
    media_seconds: float = 0.0
    prepare_seconds: float = 0.0
    embed_seconds: float = 0.0
    write_seconds: float = 0.0
    waited: float | None = None

    @property
    def clips_per_second(self) -> float:
        """Clips that this process worked on per second of wall time."""
        return self.num_clips / self.seconds if self.seconds else 0.0

    @property
    def real_time_factor(self) -> float:
        """Seconds of media that this process worked off per second of wall time."""
        return self.media_seconds / self.seconds if self.seconds else 0.0

    @property
    def stages(self) -> str:
        """Where the time went, in a line."""
        stages = [f"decode and prepare {self.prepare_seconds:.1f} s (sum over the workers)"]
        if self.waited is not None:
            stages.append(f"embed {self.embed_seconds:.1f} s (the device waited {self.waited:.0%} of the time)")
        return ", ".join([*stages, f"write {self.write_seconds:.1f} s"])

    @property
    def reasons(self) -> Counter[tuple[str, str, str]]:
        """Number of clips by (modality, status, kind of reason): reasons without a leading path, numbers as `#`."""
        columns = self.ledger[["modality", "status", "reason"]]
        return Counter(
            (modality, status, _kind(reason)) for modality, status, reason in columns.itertuples(index=False)
        )

    @property
    def faces(self) -> dict[tuple[str, str], FaceSummary]:
        """What the pictures show of faces, by (corpus, modality) whose clips were measured."""
        clips: dict[tuple[str, str], list[FaceFigures]] = {}
        for row in self.figures:
            if (figures := FaceFigures.of(row)) is not None:
                clips.setdefault((row["corpus"], row["modality"]), []).append(figures)
        summaries = {place: summarize_faces(figures) for place, figures in clips.items()}
        return {place: summary for place, summary in summaries.items() if summary is not None}

    def __rich__(self) -> Group:
        """Show the counts, where the time went, and the most frequent reasons as rich tables."""
        title = f"features: {self.num_clips} clips in {self.seconds:.1f} s, {self.clips_per_second:.1f}/s"
        if self.media_seconds:
            title += f", {self.real_time_factor:.1f} times real time"
        counts = Table()
        for name in ("corpus", "modality"):
            counts.add_column(name)
        for name in ("done", "reused", "absent", "failed"):
            counts.add_column(name, justify="right")
        for (corpus, modality), count in self.counts.items():
            numbers = (count.done, count.reused, count.absent, count.failed)
            counts.add_row(corpus, modality, *map(str, numbers), style="yellow" if count.failed else None)
        parts: list[Text | Table] = [Text(title), counts]  # lines of their own: a title is as narrow as its table
        if self.num_clips:
            parts.append(Text(self.stages))
        parts += [Text(f"{corpus} {modality}: {faces.sentence}") for (corpus, modality), faces in self.faces.items()]
        reasons = self.reasons
        if not reasons:
            return Group(*parts)
        why = Table("modality", "status", "clips", "reason", title="clips without a vector or sequence")
        for (modality, status, reason), number in reasons.most_common(_REASONS_SHOWN):
            why.add_row(modality, status, str(number), Text(reason))  # a path in brackets is no markup
        if len(reasons) > _REASONS_SHOWN:
            why.add_row("", "", "", f"and {len(reasons) - _REASONS_SHOWN} other reasons, all in the ledger")
        return Group(*parts, why)


def _kind(reason: str) -> str:
    """Strip a reason to what many clips share; it may be one per file, `<path>: why; then <path>: why`.

    Example:
        >>> _kind("/corpora/a/1.mp4: no face found in 12 frames")
        'no face found in # frames'
        >>> _kind("/corpora/a/1.mp4: file does not exist; then /corpora/b/1.mp4: file is empty (0 bytes)")
        'file does not exist; then file is empty (# bytes)'
    """
    without_paths = re.sub(r"(^|; then )\S*[/\\].*?: ", r"\1", reason)
    return re.sub(r"(?<![\w.])\d+([.]\d+)?(e[+-]?\d+)?(?!\w)", "#", without_paths)


class ClipProgress:
    """Progress on a terminal, lines from time to time elsewhere, nothing when not wanted.

    Args:
        num_clips: there are.
        wanted: whether anything is told.
        name: of what is made.
        counted: what is counted beside them.
        unit: what they are.
        patience: seconds from line to line where there is no terminal; None is `SHORTEST` at first, and with the time
            that it takes up to `LONGEST`.
        at_once: lines are told there after the first two updates, too.
        console: of the progress; stderr where left out.
        tell: takes the lines; they are printed where it is left out.
    """

    def __init__(
        self, num_clips: int, wanted: bool, name: str = "features", counted: str = "failed", unit: str = "clips",
        patience: float | None = None, at_once: bool = False, console: Console | None = None,
        tell: Callable[[str], object] | None = None,
    ) -> None:  # fmt: skip
        self.num_clips, self.unit, self.patience, self.at_once = num_clips, unit, patience, at_once
        self.wanted = wanted
        self.name, self.counted = name, counted
        self.console = console or Console(stderr=True)
        self.tell = tell or self.console.print
        self.began = self.printed = time.monotonic()
        self.first: tuple[float, int] | None = None
        self.num_updates = 0
        self.waits_for: set[str] = set()
        self.progress = Progress(
            TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"),
            console=self.console, disable=not (wanted and self.console.is_terminal),
        )  # fmt: skip
        self.task = self.progress.add_task(name, total=num_clips, text="")

    def __enter__(self) -> ClipProgress:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, num_left: int, num_failed: int, waits_for: Collection[str] = frozenset()) -> None:
        """Tell how far it is, how long it will take, and for whom this process waits."""
        now, settled = time.monotonic(), self.num_clips - num_left
        self.num_updates += 1
        if self.first is None and settled > 0:
            self.first = now, settled
        text = f"{settled / max(now - self.began, 1e-9):.1f} {self.unit}/s, {num_failed} {self.counted}"
        text += self._remaining(now, settled)
        self.progress.update(self.task, completed=settled, text=text)
        pause = min(max((now - self.began) / 10.0, SHORTEST), LONGEST) if self.patience is None else self.patience
        is_due = now - self.printed > pause or (self.at_once and self.num_updates <= 2 and num_left > 0)
        if self.wanted and self.progress.disable and is_due:
            self.printed = now
            self.tell(f"{self.name}: {settled} of {self.num_clips} {self.unit}, {text}")
        if self.wanted and set(waits_for) - self.waits_for:
            self.console.print(
                f"{self.name}: waiting for {num_left} clips that {', '.join(sorted(waits_for))} works on", markup=False
            )
        self.waits_for = set(waits_for)

    def _remaining(self, now: float, settled: int) -> str:
        """Estimate the time that is left by those after the first, with which libraries and models are loaded."""
        if self.first is None or settled >= self.num_clips:
            return ""
        is_known = settled > self.first[1]
        began, before = self.first if is_known else (self.began, 0)
        left = round((now - began) / (settled - before) * (self.num_clips - settled))
        hours, rest = divmod(left, 3600)
        time_left = f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
        return f", {'about' if is_known else 'less than'} {time_left} left"
