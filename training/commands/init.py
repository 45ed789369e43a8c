"""The command `mmpsr init`: a first configuration of a table or of a folder of recordings."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from training.commands.common import announce, error_console, guarded, out_console, without_collection

__all__ = ["init"]


@guarded("stopped; the same command begins again")
@without_collection()
def init(
    source: Annotated[
        Path, typer.Argument(metavar="TABLE_OR_FOLDER", help="Table with a row for each clip, or folder of recordings.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="TOML file to write; else <name>.toml here.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="COLUMN", help="Column of labels; repeatable, then only these."),
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", metavar="COLUMN", help="What tells clips apart.")] = None,
    media: Annotated[str | None, typer.Option("--media", metavar="COLUMN", help="Files of the recordings.")] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="COLUMN", help="What is said.")] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="COLUMN", help="Who is seen; no split divides one's clips.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="COLUMN", help="Which clip is in which split.")
    ] = None,
) -> int:
    """Draft a configuration from a table's columns or a folder's recordings, and examine it; nothing is overwritten."""
    announce(f"reading {source}")
    from rich.table import Table
    from rich.text import Text

    from corpora.clips import CorpusError
    from mmpsr.config import ConfigError
    from mmpsr.files import write_whole
    from training.doctor.doctor import examine
    from training.doctor.report import render
    from training.drafting.columns import Choices
    from training.drafting.draft import draft_of, find_tables, name_of, table_of_recordings
    from training.published_config import load_any_config

    file = output or Path(f"{name_of(source)}.toml")
    _require_new(file, "--output names another")
    if not file.parent.is_dir():
        raise ConfigError(f"--output: there is no folder {file.parent}; make it first")
    console = out_console()

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    _, tables, recordings = find_tables(source)
    table = None
    if tables is None and recordings is not None:
        table = file.with_suffix(".csv")
        _require_new(table, f"if it is the table of these recordings: mmpsr init {table}")
        frame, is_labelled = table_of_recordings(recordings)
        write_whole(table, frame.to_csv(index=False))
        names = ", ".join(map(str, frame))
        say(f"{source} holds {len(frame):,} recordings and no table; {table} has a row for each: {names}")
        if not is_labelled:
            say(f"No name says what is to be predicted. Fill in the column label of {table}, then type")
            say(f"  mmpsr init {table}")
            return 0
        source = table
    try:
        draft = draft_of(source, Choices(tuple(label or ()), id_, media, text, group, split))
    except CorpusError:
        if table is not None:  # the same command with what it asks for writes it
            table.unlink()
        raise
    command = shlex.join(["mmpsr", *sys.argv[1:]]) if len(sys.argv) > 1 else f"mmpsr init {source}"
    write_whole(file, draft.toml(command, file))
    guesses = Table("setting", "value", "how it was told")
    for row in draft.rows():
        guesses.add_row(*map(Text, row))
    console.print(guesses)
    for note in draft.notes:
        console.print(f"check: {note}", style="yellow", highlight=False, markup=False)
    with redirect_stdout(sys.stderr):
        resolved, notes = load_any_config(file, [])
        diagnosis = examine(resolved, str(file), False)
    for note in notes:
        error_console().print(note, highlight=False, markup=False)
    console.print(render(diagnosis), highlight=False)
    say(f"\nwrote {file}: change there what was told wrong. Next, type")
    say(f"  mmpsr {'doctor' if diagnosis.exit_status else 'train'} --config {file}")
    return diagnosis.exit_status


def _require_new(file: Path, way: str) -> None:
    from mmpsr.config import ConfigError

    if file.exists():
        raise ConfigError(f"{file} exists, and is not overwritten; {way}, or remove it")
