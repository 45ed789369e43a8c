"""The command `mmpsr report`: a page written whole, and said where it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from corpora.clips import CorpusError
from mmpsr.config import ConfigError
from training.commands.common import print_error
from training.report.page import Page
from training.report.run import write_report
from training.runs.directory import RunError

__all__ = ["report_command"]


def report_command(make: Callable[[], tuple[Page, Path]]) -> int:
    """Write a report and say where it is.

    Args:
        make: gives the page, of a run or a study, and the file to write.

    Returns:
        Exit status: 2 where there is nothing to report on.
    """
    try:
        page, output = make()
        write_report(page, output)
    except (RunError, ConfigError, CorpusError) as error:
        print_error(error)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 1000)
    console.print(f"report {output} ({output.stat().st_size / 1e6:.1f} MB)", highlight=False, markup=False)
    return 0
