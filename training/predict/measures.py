"""What is measured of recordings over time, as tables: for the command `mmpsr measure`, for cards and for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd

from encoders.cues.columns import COLUMNS
from encoders.cues.encoder import CueNarrative
from encoders.cues.measurement import Measured, by_second, measure_clip, num_frames_of
from encoders.errors import EncodingError, MissingModality
from encoders.media.clip import ClipMedia
from encoders.store.progress import ClipProgress
from mmpsr.files import sha256_of, write_whole
from training.predict.document import keys_of
from training.predict.output import PATIENCE

__all__ = ["SHOWN_RATE", "By", "failed_row", "measure_row", "measured_tables"]

By = Literal["frame", "second"]
SHOWN_RATE = 8.0
"""Frames per second that are measured for what is drawn: blinks are seen from 7 on."""


def measured_tables(
    clips: pd.DataFrame, work: Path, by: By = "frame", rate: float | None = None, as_encoded: bool = False,
    wanted: bool = True,
) -> Iterator[pd.DataFrame]:  # fmt: skip
    """Measure recordings that are not finished, and give the tables of all, in order.

    Args:
        clips: of `training.predict.windows.clips_of`, not cut into windows.
        work: folder with what is finished, a file a recording; made where it is not there.
        by: a row for each frame or each second.
        rate: frames per second; None is the file's own.
        as_encoded: only the frames that encoders look at.
        wanted: tell how far it is.

    Yields:
        Rows with the columns of `encoders.cues.columns.COLUMNS`; a recording that cannot be measured has one, with its
        reason, and is tried again the next time.
    """
    work.mkdir(parents=True, exist_ok=True)
    asked = f"{by} {rate} {as_encoded} {CueNarrative.version} {list(COLUMNS)}"
    files = [work / f"{sha256_of(f'{key} {asked}')[:16]}.parquet" for key in keys_of(clips)]
    left = [number for number, file in enumerate(files) if not file.exists()]
    counts = {number: num_frames_of(_media_of(clips.iloc[number]), rate, as_encoded) for number in left}
    failed: dict[int, pd.DataFrame] = {}
    with ClipProgress(sum(counts.values()), wanted, "measuring", "recordings lost", "frames", PATIENCE) as progress:
        num_done = 0
        for number in left:
            tell = _Told(progress, num_done, counts[number], len(failed))
            table, notes = measure_row(clips.iloc[number], by, rate, as_encoded, tell)
            for note in notes if wanted else ():
                text = f"{clips['recording'].iloc[number]}: {note}"
                progress.console.print(text, style="dim", highlight=False, markup=False)
            if table["failure"].notna().any():
                failed[number] = table
            else:
                write_whole(files[number], partial(table.to_parquet, index=False))
            num_done += counts[number]
            progress.update(progress.num_clips - num_done, len(failed))
    for number, file in enumerate(files):
        yield failed[number] if number in failed else pd.read_parquet(file)


class _Told:
    """Tells of each frame that is looked at."""

    def __init__(self, progress: ClipProgress, num_before: int, most: int, num_lost: int) -> None:
        self.progress, self.num_before, self.most, self.num_lost = progress, num_before, most, num_lost
        self.seen = 0

    def __call__(self) -> None:
        self.seen = min(self.seen + 1, self.most)
        self.progress.update(self.progress.num_clips - self.num_before - self.seen, self.num_lost)


def measure_row(
    row: pd.Series, by: By = "frame", rate: float | None = None, as_encoded: bool = False,
    on_frame: Callable[[], None] = lambda: None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:  # fmt: skip
    """Measure one recording.

    Args:
        row: of `training.predict.windows.clips_of`.
        by: see `measured_tables`, as the next two.
        rate: frames per second.
        as_encoded: only the frames that encoders look at.
        on_frame: called for each frame that is looked at.

    Returns:
        Its rows, and sentences on what could not be measured.
    """
    clip = _media_of(row)
    try:
        measured = measure_clip(clip, rate, as_encoded, on_frame)
    except (EncodingError, MissingModality) as error:
        return failed_row(str(row["recording"]), clip.start, str(error)), ()
    return _table(str(row["recording"]), clip.start or 0.0, measured, by), measured.notes


def _media_of(row: pd.Series) -> ClipMedia:
    return ClipMedia.from_row({str(name): value for name, value in row.items()})


def _table(recording: str, start: float, measured: Measured, by: By) -> pd.DataFrame:
    seconds, values = (measured.seconds, measured.values) if by == "frame" else by_second(measured)
    frame = pd.DataFrame({**values, "recording": recording, "time": (start + seconds).round(6), "failure": None})
    return _typed(frame[list(COLUMNS)])


def failed_row(recording: str, start: float | None, reason: str) -> pd.DataFrame:
    """Make the one row of a recording that could not be measured."""
    row = dict.fromkeys(COLUMNS, float("nan")) | {"recording": recording, "time": start, "failure": reason}
    return _typed(pd.DataFrame([row]))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Give all tables the same types: texts, counts, numbers."""
    kinds = {"text": "string", "count": "Int64"}
    return frame.astype({name: kinds.get(column.unit, "float64") for name, column in COLUMNS.items()})
