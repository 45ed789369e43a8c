"""Options of `mmpsr tune`; importing this imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["SEARCH", "BaseOption", "SearchOption", "StudyBaseOption", "WorkersOption"]

SEARCH = Path("searches/demo")

SearchOption = Annotated[
    Path,
    typer.Option(
        "--config", help="TOML file with a search section, or the name of one that ships; the demo's where left out."
    ),
]
BaseOption = Annotated[
    Path | None, typer.Option("--base", help="Configuration to start from, in place of the file's search.base.")
]
StudyBaseOption = Annotated[
    Path | None, typer.Option("--base", help="Configuration to start from, in place of the study's own.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes on this machine; as many as were launched, or 1.")
]
