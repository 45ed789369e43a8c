"""Media looked at before anything is trained on them: what cannot be decoded, is silent, black, faceless or mis-cut.

Files are read by the very functions that encoders read them with, in worker processes, and each clip once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from encoders.errors import EncodingError
from encoders.extraction.workers import start_engine
from encoders.face.landmarks import largest_face
from encoders.media.audio import SILENCE, is_silent, read_audio
from encoders.media.clip import BLACK_LUMA, ClipMedia, is_black
from encoders.media.decoding import duration_of, opened, stream_of
from encoders.media.frames import read_frames
from encoders.store.progress import ClipProgress
from encoders.store.queue import records_of
from encoders.workers import Workers, files_of, require_files
from mmpsr.executors.base import LOCAL

__all__ = [
    "ANNOTATED_SECONDS",
    "MEDIA_KINDS",
    "MIN_FRAMES",
    "MIN_SECONDS",
    "NUM_FRAMES",
    "SPAN_TOLERANCE",
    "inspect_clip",
    "inspect_media",
]

ANNOTATED_SECONDS = "raw.annotated_seconds"
"""Optional column of the clip table: how long the annotation says a clip is that has a file of its own."""
NUM_FRAMES = 5
"""Frames looked at per clip, uniformly spaced."""
MIN_SECONDS = 0.5
"""A clip lasts at least this long."""
MIN_FRAMES = 3
"""A video clip holds at least this many frames."""
SPAN_TOLERANCE = 0.5
"""Seconds that a span may reach beyond the end of its file."""
LENGTH_TOLERANCE = (1.0, 0.2)
"""A file's own and its annotated length may differ by this many seconds, or this part of the annotated length."""

MEDIA_KINDS: Mapping[str, str] = {
    "unreadable": "cannot be opened or decoded, or ends before it should (truncated)",
    "no_audio": "a video without a sound stream",
    "silent": f"no sample reaches {SILENCE:g} of full scale (60 dB below it)",
    "black": f"every frame is black: mean luma below {BLACK_LUMA:g} of 255 and the same everywhere",
    "no_face": f"no face in any of {NUM_FRAMES} frames, as face-mesh looks for them",
    "too_short": f"lasts less than {MIN_SECONDS:g} s or holds fewer than {MIN_FRAMES} frames",
    "span_outside": f"the span reaches more than {SPAN_TOLERANCE:g} s beyond the end of the file",
    "span_disagrees": "the file's own length differs from the annotated one by more than the larger of "
    f"{LENGTH_TOLERANCE[0]:g} s and {LENGTH_TOLERANCE[1]:.0%}",
}
"""What can be wrong with a clip's media -> what it means."""

_UNUSABLE = frozenset({"unreadable", "no_audio", "silent", "black", "span_outside"})  # the next file is looked at too
_FILES = ("media", "fallback_media", "audio_media")
_COLUMNS = (
    "corpus", "clip_id", "media", "start", "end", "audio_media", "audio_start", "audio_end", "fallback_media",
    "fallback_start", "fallback_end", ANNOTATED_SECONDS,
)  # fmt: skip
_CHUNK_SIZE = 16  # clips that a worker takes at a time
_RATE = 16_000

_Finding = tuple[str, str]  # kind, reason


@dataclass(frozen=True)
class _Chunk:
    """Clips that a worker looks at."""

    rows: list[int]
    records: list[dict[str, Any]]
    seen: list[str]

    @property
    def names(self) -> list[str]:
        return [f"{record['corpus']}/{record['clip_id']}" for record in self.records]

    @property
    def culprits(self) -> tuple[()]:
        return ()  # whatever number of files a decoder dies of, the next may be in order

    def parts(self) -> list[_Chunk]:
        return [_Chunk([row], [record], self.seen) for row, record in zip(self.rows, self.records, strict=True)]

    def dead(self) -> list[list[_Finding] | None]:
        (record,) = self.records
        path = next(record[name] for name in _FILES if record[name] is not None)
        return [[("unreadable", f"{path}: its decoder crashed")]]


def inspect_media(clips: pd.DataFrame, num_workers: int, show_progress: bool, executor: str = LOCAL) -> pd.DataFrame:
    """Look at the media of a clip table; Ctrl-C stops at once.

    A file that does not exist is passed over: that is the adapters' to report. Where the first choice cannot be used
    (`unreadable`, `no_audio`, `silent`, `black`, `span_outside`), that is reported and the clip's next file is looked
    at too, as encoders would.

    Args:
        clips: clip table of any number of corpora; columns it lacks are missing.
        num_workers: worker processes.
        show_progress: show a progress bar (on a terminal) or lines, soon one a minute (elsewhere).
        executor: who looks at them, see `mmpsr.executors`.

    Returns:
        One row per clip and kind, in the order of the table and of `MEDIA_KINDS`: columns `corpus`, `clip_id`, `kind`
        and `reason`. Its `attrs` say `num_inspected`, the clips of which a file was looked at, and `seconds`.

    Raises:
        ExecutorError: nobody answers at `executor`.
        ExtractionError: a worker does not see the media.
    """
    began = time.perf_counter()
    table = clips.reindex(columns=list(_COLUMNS))
    table[ANNOTATED_SECONDS] = pd.to_numeric(table[ANNOTATED_SECONDS], errors="coerce")  # `raw.` columns are text
    records = records_of(table, _COLUMNS)
    given = [row for row, record in enumerate(records) if any(record[name] is not None for name in _FILES)]
    results: dict[int, list[_Finding] | None] = {}
    with ClipProgress(len(given), show_progress, "media", "with defects") as progress:
        if given:
            waiting = deque(
                _chunk(given[first : first + _CHUNK_SIZE], records, executor)
                for first in range(0, len(given), _CHUNK_SIZE)
            )
            with start_engine(executor, num_workers) as engine, Workers(engine, inspect_there) as workers:
                _work_off(waiting, workers, results, progress)
    defects = [
        (records[row]["corpus"], records[row]["clip_id"], *finding) for row in given for finding in results[row] or ()
    ]
    table = pd.DataFrame(defects, columns=["corpus", "clip_id", "kind", "reason"], dtype="string")
    table.attrs["num_inspected"] = sum(findings is not None for findings in results.values())
    table.attrs["seconds"] = time.perf_counter() - began
    return table


def _chunk(rows: list[int], records: Sequence[dict[str, Any]], executor: str) -> _Chunk:
    own = [records[row] for row in rows]
    return _Chunk(rows, own, [] if executor == LOCAL else files_of(own, _FILES))


def _work_off(
    waiting: deque[_Chunk],
    workers: Workers[_Chunk, list[list[_Finding] | None]],
    results: dict[int, list[_Finding] | None],
    progress: ClipProgress,
) -> None:
    """Inspect chunks of clips until none waits."""
    while waiting or workers.in_flight:
        while waiting and len(workers.jobs) < workers.limit:
            workers.submit(waiting.popleft())
        for chunk, findings in workers.completed(1.0):
            results.update(zip(chunk.rows, findings, strict=True))
        progress.update(progress.num_clips - len(results), sum(map(bool, results.values())), set())


# What follows runs in the worker processes.


def inspect_there(chunk: _Chunk) -> list[list[_Finding] | None]:
    """Inspect the clips of a chunk, on a machine that sees the files which the launched process sees."""
    require_files(chunk.seen)
    return inspect_clips(chunk.records)


def inspect_clips(rows: Sequence[Mapping[str, Any]]) -> list[list[_Finding] | None]:
    """Run `inspect_clip` for each row."""
    return [inspect_clip(row) for row in rows]


def inspect_clip(row: Mapping[str, Any]) -> list[_Finding] | None:
    """List (kind, reason) of what is wrong with a clip's media, as `MEDIA_KINDS` are ordered; None without any file."""
    clip = ClipMedia.from_row(row)
    annotated = row.get(ANNOTATED_SECONDS)
    reasons: dict[str, dict[str, None]] = {}
    exists = False
    for examine, spans in ((_look, clip.videos), (_listen, clip.sounds)):
        for path, start, end in spans:
            if not path.exists():
                continue
            exists = True
            findings = _examine(examine, path, start, end, annotated)
            for kind, reason in findings.items():
                reasons.setdefault(kind, {})[f"{path}: {reason.removeprefix(f'{path}: ')}"] = None
            if not _UNUSABLE & findings.keys():
                break
    return [(kind, "; ".join(reasons[kind])) for kind in MEDIA_KINDS if kind in reasons] if exists else None


def _examine(
    examine: Callable[[Path, float | None, float | None, Mapping[str, float]], dict[str, str]],
    path: Path, start: float | None, end: float | None, annotated: float | None,
) -> dict[str, str]:  # fmt: skip
    """List findings on the pictures or the sound of one file's span."""
    findings: dict[str, str] = {}
    try:
        seconds = _stream_seconds(path)
        findings |= _compare_lengths(start, end, max(seconds.values()), annotated)
        if end is None or end > (start or 0.0):
            findings |= examine(path, start, end, seconds)
    except EncodingError as reason:
        if "span_outside" not in findings:  # which says it better
            findings["unreadable"] = str(reason)
    except ImportError:
        raise
    except Exception as error:
        findings["unreadable"] = f"{type(error).__name__}: {error}"
    return findings


def _stream_seconds(path: Path) -> dict[str, float]:
    """Return seconds from the file's beginning to the end of its video and its audio, of those that it has."""
    seconds: dict[str, float] = {}
    with opened(path) as container:
        kinds: tuple[Literal["video", "audio"], ...] = ("video", "audio")
        for kind in kinds:
            with suppress(EncodingError):
                seconds[kind] = duration_of(container, stream_of(container, path, kind), path)
    if not seconds:
        raise EncodingError(f"{path}: neither a video nor an audio stream")
    return seconds


def _compare_lengths(start: float | None, end: float | None, length: float, annotated: float | None) -> dict[str, str]:
    """List findings on the span of a file that lasts `length` seconds."""
    first = 0.0 if start is None else start
    last = length if end is None else min(end, length)
    if first >= length or (end is not None and end > length + SPAN_TOLERANCE):
        until = "its end" if end is None else f"{end:g} s"
        return {"span_outside": f"the file lasts {length:.2f} s, the clip runs from {first:g} s to {until}"}
    findings = {}
    if last - first < MIN_SECONDS:
        findings["too_short"] = f"lasts {max(last - first, 0.0):.2f} s"
    if start is None and end is None and annotated is not None:
        seconds, part = LENGTH_TOLERANCE
        if abs(length - annotated) > max(seconds, part * annotated):
            findings["span_disagrees"] = f"the file lasts {length:.2f} s, the annotation says {annotated:.2f} s"
    return findings


def _look(path: Path, start: float | None, end: float | None, seconds: Mapping[str, float]) -> dict[str, str]:
    if "video" not in seconds:
        return {}
    frames, _ = read_frames(path, start, end, NUM_FRAMES)
    if is_black(frames):
        return {"black": f"all of {len(frames)} frames are black"}
    findings = {}
    if len(frames) < MIN_FRAMES:
        findings["too_short"] = f"holds {len(frames)} frames"
    from_the_middle = sorted(range(len(frames)), key=lambda index: abs(index - len(frames) // 2))
    if all(largest_face(frames[index]) is None for index in from_the_middle):
        findings["no_face"] = f"no face found in {len(frames)} frames"
    return findings


def _listen(path: Path, start: float | None, end: float | None, seconds: Mapping[str, float]) -> dict[str, str]:
    if "audio" not in seconds:
        return {"no_audio": "no sound stream"}
    samples = read_audio(path, start, end, _RATE)
    if is_silent(samples):
        peak = float(np.abs(samples).max(initial=0.0))
        return {"silent": f"no sample of {len(samples) / _RATE:.1f} s reaches {SILENCE:g} (peak {peak:.1e})"}
    return {}
