"""The command `mmpsr study`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mmpsr.config import ConfigError
from training.messages import error_console
from tuning.study import run_study
from tuning.study_config import load_study
from tuning.study_workers import Stopped

__all__ = ["study_command"]


def study_command(
    path: Path, settings: Sequence[str], workers: int, seeds: Sequence[int] | None, base: Path | None = None
) -> int:
    """Fill a study's table.

    Args:
        path: TOML file, see `tuning.study_config`.
        settings: `section.key=value` over all rows.
        workers: processes, at least 1.
        seeds: in place of the file's; None for these.
        base: configuration to start from in place of the file's; None for this.

    Returns:
        Exit status: 0 where every cell is done, 1 where one failed, 2 where the study is wrong, 130 where stopped.
    """
    console = Console(width=None if sys.stdout.isatty() else 120)
    errors = error_console()
    try:
        study = load_study(path, settings, seeds, base)
        table = run_study(study, workers, console)
    except ConfigError as error:
        for line in str(error).splitlines():
            errors.print(f"error: {line}", style="bold red", highlight=False, markup=False)
        return 2
    except Stopped:
        console.print("stopped; what is complete is kept, and the same command continues")
        return 130
    for warning in table.warnings:
        errors.print(f"warning: {warning}", highlight=False, markup=False)
    console.print(f"tables in {study.folder}: table.md, table.tex, table.csv", highlight=False, markup=False)
    return 1 if table.missing else 0
