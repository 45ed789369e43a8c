"""The command `mmpsr` with its subcommands; what one needs is imported when it is called."""

from __future__ import annotations

import atexit
import gc
import importlib.metadata
import sys
from typing import Annotated

import typer

from training.commands.adapt import adapt
from training.commands.bundle import bundle, export
from training.commands.encoders import encoders
from training.commands.evaluate import compare, evaluate, verify
from training.commands.features import features
from training.commands.init import init
from training.commands.measure import measure
from training.commands.predict import predict, serve_app
from training.commands.train import doctor, extract, train
from training.commands.zero_shot import zero_shot

__all__ = ["app"]

app = typer.Typer(name="mmpsr", no_args_is_help=True, pretty_exceptions_enable=False)


@atexit.register
def _end_quickly() -> None:
    """Look for no cycles among all that libraries have made; not with torch, whose parts would complain."""
    if "torch" not in sys.modules:
        gc.freeze()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("mmpsr"))
        raise typer.Exit


@app.callback()
def _mmpsr(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """One model of emotion, personality and ambivalence/hesitancy, trained on several corpora at once."""


COMMANDS = (
    init, train, extract, doctor, features, encoders, evaluate, compare, verify, adapt, bundle, predict, measure,
    export,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.command("zero-shot")(zero_shot)
app.command("app")(serve_app)


if __name__ == "__main__":
    app()
