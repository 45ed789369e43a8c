"""What commands share: options, and how they say what went wrong; importing this imports nothing heavy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["DEMO", "ConfigOption", "ResumeOption", "RetryFailedOption", "SetOption", "error_console", "print_error"]

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.toml"
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
