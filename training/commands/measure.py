"""The command `mmpsr measure`: face, gaze, head, hands, voice and pauses of recordings over time, as a table.

Beside the output lies a folder `<output>.work` with what is finished, a file a recording: killed and started again, the
command does only what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmpsr.errors import Interrupted
from mmpsr.extras import require_extra
from training.commands.common import announce, error_console, guarded, without_collection

if TYPE_CHECKING:
    import pandas as pd

    from encoders.cues.measurement import Measured
    from encoders.store.progress import ClipProgress

__all__ = ["measure"]

By = Literal["frame", "second"]
_PATIENCE = 8.0  # seconds between lines on how far it is, where there is no terminal
_DIGITS = "%.7g"


@guarded("stopped")
def measure(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="CLIP...", help="Files, folders, globs or tables, as of predict.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, .csv or .parquet; a repeated command goes on.")
    ] = None,
    by: Annotated[By, typer.Option("--by", help="A row for each frame, or for each second.")] = "frame",
    rate: Annotated[float | None, typer.Option("--rate", help="Frames per second; else the file's own.")] = None,
    as_encoded: Annotated[
        bool, typer.Option("--as-encoded", help="Only the frames that encoders look at: 12 of up to 15 s.")
    ] = False,
    transcripts: Annotated[
        Path | None, typer.Option("--transcripts", help="Folder of .srt or .vtt files named like the recordings.")
    ] = None,
    columns: Annotated[bool, typer.Option("--columns", help="List the columns with their units, and end.")] = False,
) -> int:
    """Measure face, gaze, head, hands, voice and pauses over time; exit status 1 where a recording could not be."""
    if columns:
        for line in _listed():
            typer.echo(line)
        return 0
    require_extra("media")
    announce(f"reading {' '.join(names or ())}")
    from training.predict.inputs import InputError, find_inputs

    if not names:
        raise InputError("there is nothing to measure; name files, folders, globs or tables")
    if output is None or output.suffix.lower() not in (".csv", ".parquet"):
        given = "there is no output" if output is None else f"{output} ends in neither"
        raise InputError(f"{given}; name a file that ends in .csv or .parquet with -o")
    if rate is not None and (as_encoded or not 0.0 < rate <= 1000.0):
        clash = "--as-encoded measures the frames that encoders look at; leave --rate out"
        raise InputError(clash if as_encoded else f"--rate is frames per second, above 0 up to 1000, found {rate:g}")
    read = find_inputs(names, transcripts=transcripts)
    with without_collection():
        from training.predict.windows import clips_of
    clips = clips_of(read.recordings)
    errors = error_console()
    for note in read.notes:
        errors.print(note, highlight=False, markup=False)
    try:
        frames = [_failed_row(defect.id, defect.start, defect.reason) for defect in read.defects]
        frames += _tables(clips, output, by, rate, as_encoded)
    except KeyboardInterrupt:
        raise Interrupted("stopped; what is finished is kept, and the same command goes on") from None
    table = _joined(frames)
    _write(table, output)
    lost = table[table["failure"].notna()]
    for recording, reason in zip(lost["recording"], lost["failure"], strict=True):
        errors.print(f"{recording}: not measured: {reason}", style="yellow", highlight=False, markup=False)
    num_measured = table["recording"].nunique() - len(lost)
    errors.print(
        f"{output}: {len(table) - len(lost)} rows, one for each {by}; {num_measured} measured, {len(lost)} not ("
        f"mmpsr measure --columns says what is in them; {output}.work, which lets it be made again at once, can go)",
        highlight=False, markup=False,
    )  # fmt: skip
    return 1 if len(lost) else 0


def _listed() -> Iterator[str]:
    """List the columns, by group."""
    from encoders.cues.columns import COLUMNS, PARTS

    width = max(map(len, COLUMNS))
    for part, title in PARTS.items():
        yield f"{title}:"
        for column in COLUMNS.values():
            if column.part == part:
                yield f"  {column.name:<{width}}  {column.unit:<15}  {column.meaning}"


def _tables(clips: pd.DataFrame, output: Path, by: By, rate: float | None, as_encoded: bool) -> Iterator[pd.DataFrame]:
    """Measure recordings that are not finished, and give the tables of all, in order."""
    import pandas as pd

    from encoders.cues.columns import COLUMNS
    from encoders.cues.encoder import CueNarrative
    from encoders.cues.measurement import num_frames_of
    from encoders.media.clip import ClipMedia
    from encoders.store.progress import ClipProgress
    from mmpsr.files import sha256_of, write_whole
    from training.predict.document import keys_of

    work = Path(f"{output}.work")
    work.mkdir(parents=True, exist_ok=True)
    asked = f"{by} {rate} {as_encoded} {CueNarrative.version} {list(COLUMNS)}"
    files = [work / f"{sha256_of(f'{key} {asked}')[:16]}.parquet" for key in keys_of(clips)]
    left = [number for number, file in enumerate(files) if not file.exists()]
    rows = {number: {str(name): value for name, value in clips.iloc[number].items()} for number in left}
    counts = {number: num_frames_of(ClipMedia.from_row(rows[number]), rate, as_encoded) for number in left}
    failed: dict[int, pd.DataFrame] = {}  # which the same command tries again
    with ClipProgress(sum(counts.values()), True, "measuring", "recordings lost", "frames", _PATIENCE) as progress:
        num_done = 0
        for number in left:
            tell = _Told(progress, num_done, counts[number], len(failed))
            table, notes = _measured(rows[number], by, rate, as_encoded, tell)
            for note in notes:
                progress.console.print(
                    f"{rows[number]['recording']}: {note}", style="dim", highlight=False, markup=False
                )
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


def _measured(
    row: Mapping[str, Any], by: By, rate: float | None, as_encoded: bool, tell: _Told
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Measure one recording."""
    from encoders.cues.measurement import measure_clip
    from encoders.errors import EncodingError, MissingModality
    from encoders.media.clip import ClipMedia

    clip = ClipMedia.from_row(row)
    try:
        measured = measure_clip(clip, rate, as_encoded, tell)
    except (EncodingError, MissingModality) as error:
        return _failed_row(str(row["recording"]), clip.start, str(error)), ()
    return _table(str(row["recording"]), clip.start or 0.0, measured, by), measured.notes


def _table(recording: str, start: float, measured: Measured, by: By) -> pd.DataFrame:
    import pandas as pd

    from encoders.cues.columns import COLUMNS
    from encoders.cues.measurement import by_second

    seconds, values = (measured.seconds, measured.values) if by == "frame" else by_second(measured)
    frame = pd.DataFrame({**values, "recording": recording, "time": (start + seconds).round(6), "failure": None})
    return _typed(frame[list(COLUMNS)])


def _failed_row(recording: str, start: float | None, reason: str) -> pd.DataFrame:
    """Make the one row of a recording that could not be measured."""
    import pandas as pd

    from encoders.cues.columns import COLUMNS

    row = dict.fromkeys(COLUMNS, float("nan")) | {"recording": recording, "time": start, "failure": reason}
    return _typed(pd.DataFrame([row]))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Give all tables the same types: texts, counts, numbers."""
    from encoders.cues.columns import COLUMNS

    kinds = {"text": "string", "count": "Int64"}
    return frame.astype({name: kinds.get(column.unit, "float64") for name, column in COLUMNS.items()})


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def _write(table: pd.DataFrame, output: Path) -> None:
    from mmpsr.files import write_whole

    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix.lower() == ".csv":
        write_whole(output, table.to_csv(index=False, float_format=_DIGITS))
    else:
        write_whole(output, partial(table.to_parquet, index=False))
