"""The command line of `tuning/run.py` and `mmpsr tune`."""

from __future__ import annotations

import os
import sys

import psutil
import typer
from rich.console import Console

from corpora.clips import CorpusError
from encoders.errors import ExtractionError, StoreError
from mmpsr.config import ConfigError
from training.commands.common import SetOption, print_error
from training.fit.loop import Interrupted
from training.launch import requested_processes
from tuning.data import load_joined
from tuning.options import SEARCH, BaseOption, SearchOption, WorkersOption
from tuning.search.config import load_search
from tuning.search.objective import Search
from tuning.search.results import search_table, write_results
from tuning.search.workers import SearchError, run_search

__all__ = ["tune_command"]


def tune_command(
    config: SearchOption = SEARCH,
    set_: SetOption = None,
    base: BaseOption = None,
    workers: WorkersOption = None,
) -> None:
    """Search over the fields of a configuration by dev figures; a killed or repeated command continues."""
    if int(os.environ.get("RANK", "0")) > 0:
        return  # the first of several launched processes starts the workers
    console = Console(width=None if sys.stdout.isatty() else 120)

    def say(message: str) -> None:
        console.print(message, highlight=False, markup=False)

    try:
        found, start, notes = load_search(config, set_ or (), base)
        for note in notes:
            say(note)
        search = Search(found, start, start.output.name or config.stem, str(config), load_joined)
        study = run_search(search, workers or _launched(), say)
        console.print(search_table(study))
        say(f"best configuration {write_results(search, study)}")
    except (ConfigError, CorpusError, StoreError, ExtractionError, SearchError) as error:
        print_error(error)
        raise typer.Exit(2) from None
    except (Interrupted, KeyboardInterrupt):
        say("stopped; finished trials are kept, and the same command continues")
        raise typer.Exit(130) from None


def _launched() -> int:
    """As many processes as `accelerate launch --num_processes` was asked for."""
    parent = psutil.Process().parent()
    asked = requested_processes(parent.cmdline()) if parent is not None else 1
    return max(int(os.environ.get("WORLD_SIZE", "1")), asked)
