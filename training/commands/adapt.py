"""The command `mmpsr adapt`: personalisation of a corpus' test participants, by several methods, beside each other."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from training.commands.common import JsonOption, RunArgument, announce, error_console, guarded, out_console, run_of
from training.drafting.completion import complete_configs

__all__ = ["adapt"]

ALL = "source,mmd,subject,shot,nrc,oracle"
WIDTH = 140


@guarded("stopped; participants that are done are kept, and the same command continues")
def adapt(
    run: RunArgument,
    corpus: Annotated[str, typer.Option("--corpus", help="Whose test participants to adapt to.")] = "bah",
    by: Annotated[
        str, typer.Option("--by", help="Whom a clip shows: participant, or a column of the clip table.")
    ] = "participant",
    method: Annotated[
        list[str] | None, typer.Option("--method", help=f"Repeatable, or with commas: {ALL}; all where left out.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Task of two classes; the corpus' own where left out.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="TOML file of other corpora, such as BAH at level frame.", autocompletion=complete_configs
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="section.key=value: of protocol, shot ..., or corpora.sources.bah.level=frame of the run."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="RUN/adaptation where left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Adapt to each test participant without their labels, and compare with the network that was not adapted."""
    run = run_of(run)
    announce(f"reading {run}")
    from training.adaptation.request import AdaptationRequest, answer
    from training.adaptation.tables import tables

    request = AdaptationRequest(run, corpus, by, _names(method), task, config, tuple(set_ or ()), output)
    with redirect_stdout(sys.stderr):  # whatever reading says, stdout is for the figures
        document = answer(request, error_console())
    if as_json:
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
        return
    console = out_console(WIDTH)
    for table in tables(document):
        console.print(table, highlight=False)


def _names(methods: Sequence[str] | None) -> tuple[str, ...]:
    """Split what `--method` says at commas, each name once; the source network is always among them."""
    named = [name.strip() for text in methods or [ALL] for name in text.split(",") if name.strip()]
    return tuple(dict.fromkeys(["source", *named]))
