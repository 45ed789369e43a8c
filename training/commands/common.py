"""What commands share: options, and how they say what went wrong; importing this imports nothing heavy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from mmpsr.extras import MissingExtraError, sentence_of

__all__ = [
    "DEMO",
    "Commands",
    "ConfigOption",
    "ResumeOption",
    "RetryFailedOption",
    "SetOption",
    "error_console",
    "print_error",
]


@contextmanager
def missing_extras_told() -> Iterator[None]:
    """End a command that lacks an optional package with one sentence, which names the extra, and exit status 2."""
    try:
        yield
    except MissingExtraError as error:
        print_error(error)
    except ModuleNotFoundError as error:
        sentence = sentence_of(error.name or "")
        if sentence is None:
            raise
        print_error(MissingExtraError(sentence))
    else:
        return
    raise typer.Exit(2)


class Commands(TyperGroup):
    """The subcommands of `mmpsr`."""

    def invoke(self, ctx: Any) -> Any:
        """Run the one that was asked for."""
        with missing_extras_told():
            return super().invoke(ctx)


DEMO = Path("demo")
ConfigOption = Annotated[Path, typer.Option("--config", help="TOML file; the demo where left out.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="section.key=value over the file, for example training.lr=3e-4.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the newest run of this configuration.")]
RetryFailedOption = Annotated[bool, typer.Option("--retry-failed", help="Try clips again that failed before.")]


def error_console() -> Console:
    """A console on stderr."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else 1000)


def print_error(error: Exception) -> None:
    """Print `error: <its message>`."""
    error_console().print(f"error: {error}", style="bold red", highlight=False, markup=False)
