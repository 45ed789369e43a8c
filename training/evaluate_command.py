"""The command `mmpsr evaluate`: the figures of a finished run with intervals, on its own corpora or on others."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from corpora.clips import CorpusError
from encoders.errors import ExtractionError, StoreError
from mmpsr.config import ConfigError
from training.evaluation_tables import seed_tables, tables
from training.full_evaluation import EvaluationOptions, evaluate
from training.messages import print_error
from training.seeds import over_seeds, require_seeds
from training.stored_predictions import RunError, StoredRun

__all__ = ["evaluate_command", "evaluate_several"]


def evaluate_command(paths: Sequence[Path], options: EvaluationOptions, as_json: bool) -> int:
    """Evaluate and print.

    Args:
        paths: run directories; several that differ in their seed alone are summed up.
        options: what to evaluate.
        as_json: one document instead of tables.

    Returns:
        Exit status: 2 where a run cannot be read, has no such split or column, or was trained on the clips.
    """
    try:
        with redirect_stdout(sys.stderr):  # whatever reading says, stdout is for the figures
            document = evaluate(paths[0], options) if len(paths) == 1 else evaluate_several(paths, options)
    except (RunError, ConfigError, CorpusError, ExtractionError, StoreError) as error:
        print_error(error)
        return 2
    if as_json:
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in tables(document) if len(paths) == 1 else seed_tables(document):
        console.print(table, highlight=False)
    return 0


def evaluate_several(paths: Sequence[Path], options: EvaluationOptions) -> dict[str, Any]:
    """Runs of one configuration with different seeds.

    Returns:
        `runs`, `seeds`, `over_seeds`, `adapted_over_seeds` and `subsets_over_seeds` (see
        `training.seeds.over_seeds`), and `evaluations`, the document of each run.

    Raises:
        RunError: the configurations differ in more than the seed, and as `training.full_evaluation.evaluate`.
    """
    seeds = require_seeds([StoredRun.read(path) for path in paths])
    found = [evaluate(path, options) for path in paths]
    return {
        "runs": [str(path) for path in paths],
        "seeds": seeds,
        "over_seeds": over_seeds(found),
        "adapted_over_seeds": over_seeds(found, "adapted"),
        "subsets_over_seeds": over_seeds(found, "subsets"),
        "evaluations": found,
    }
