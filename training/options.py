"""Options that several commands have; importing this imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["DEMO", "ConfigOption", "ResumeOption", "RetryFailedOption", "SetOption"]

DEMO = Path("demo")

ConfigOption = Annotated[
    Path, typer.Option("--config", help="TOML file, or the name of one that ships; the demo where left out.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="section.key=value over the file, for example training.lr=3e-4.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the newest run of this configuration.")]
RetryFailedOption = Annotated[bool, typer.Option("--retry-failed", help="Try clips again that failed before.")]
