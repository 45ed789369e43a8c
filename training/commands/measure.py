"""The command `mmpsr measure`: face, gaze, head, hands, voice and pauses of recordings over time, as a table.

Beside the output lies a folder `<output>.work` with what is finished, a file a recording: killed and started again, the
command does only what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmpsr.errors import Interrupted
from mmpsr.extras import require_extra
from training.commands.common import announce, error_console, guarded, without_collection

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["measure"]

By = Literal["frame", "second"]
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
        import pandas as pd

        from training.predict.measures import failed_row, measured_tables
        from training.predict.windows import clips_of
    clips = clips_of(read.recordings)
    errors = error_console()
    for note in read.notes:
        errors.print(note, highlight=False, markup=False)
    try:
        frames = [failed_row(defect.id, defect.start, defect.reason) for defect in read.defects]
        frames += measured_tables(clips, Path(f"{output}.work"), by, rate, as_encoded)
    except KeyboardInterrupt:
        raise Interrupted("stopped; what is finished is kept, and the same command goes on") from None
    table = pd.concat(frames, ignore_index=True)
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


def _write(table: pd.DataFrame, output: Path) -> None:
    from mmpsr.files import write_whole

    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix.lower() == ".csv":
        write_whole(output, table.to_csv(index=False, float_format=_DIGITS))
    else:
        write_whole(output, partial(table.to_parquet, index=False))
