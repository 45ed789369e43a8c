"""The commands `mmpsr train`, `extract` and `doctor`, and of `training/run.py` and `encoders/run.py`."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmpsr.extras import require_extra
from training.commands.common import (
    DEMO,
    ConfigOption,
    ExecutorOption,
    JsonOption,
    ResumeOption,
    RetryFailedOption,
    SetOption,
    announce,
    error_console,
    guarded,
    out_console,
    with_executor,
    without_collection,
)

if TYPE_CHECKING:
    from accelerate import Accelerator
    from rich.console import Console

    from training.config import InTimeConfig, RunConfig

__all__ = ["doctor", "extract", "train"]

LiveOption = Annotated[
    bool,
    typer.Option(
        "--live",
        help="One line that moves, with epoch, dev figure, best and time left; plain lines without a terminal.",
    ),
]
CONTINUES = "stopped; what is complete is kept, and the same command continues (training with --resume)"


@guarded(CONTINUES, out_console)
def train(
    config: ConfigOption = DEMO, set_: SetOption = None, resume: ResumeOption = False, live: LiveOption = False
) -> None:
    """Train on several corpora at once, evaluate, and print a table."""
    announce(f"reading {config}")
    from training.config import InTimeConfig
    from training.in_time.pipeline import run_in_time
    from training.pipeline import run_training

    resolved, accelerator, console = _begin(config, set_, with_trackers=True)
    name = resolved.output.name or config.stem
    if isinstance(resolved, InTimeConfig):
        run = run_in_time(resolved, name, resume, accelerator, console, live=live)
        announce(f"next: mmpsr evaluate {run}, mmpsr predict {run} RECORDING --cards cards")
    else:
        run = run_training(resolved, name, resume, accelerator, console, live=live)
        announce(f"next: mmpsr evaluate {run}, mmpsr report {run}, mmpsr predict {run} RECORDING --cards cards")
        announce(f"      mmpsr bundle {run} -o FOLDER puts the model into a folder that predicts anywhere")


@guarded(CONTINUES, out_console)
def extract(
    config: ConfigOption = DEMO,
    set_: SetOption = None,
    retry_failed: RetryFailedOption = False,
    executor: ExecutorOption = None,
) -> None:
    """Extract features alone; a killed or repeated command does only what is left."""
    announce(f"reading {config}")
    from training.config import InTimeConfig
    from training.data.load import extract_features, load_clips
    from training.data.selection import active_features

    resolved, accelerator, console = _begin(config, with_executor(set_, executor), with_trackers=False)
    features = active_features(resolved.features, resolved.data.modalities)
    if isinstance(resolved, InTimeConfig):
        features = features.model_copy(update={"timed": resolved.data.modalities})
    features = features.model_copy(update={"retry_failed": features.retry_failed or retry_failed})
    clips = load_clips(resolved, resolved.tasks.resolve(), accelerator).clips
    extract_features(clips, features, accelerator, console)


@guarded("stopped; nothing was changed, and the same command begins again")
@without_collection()
def doctor(
    config: ConfigOption = DEMO,
    set_: SetOption = None,
    media: Annotated[bool, typer.Option("--media", help="Also open every media file.")] = False,
    as_json: JsonOption = False,
    executor: ExecutorOption = None,
) -> int:
    """Examine what a run would read; exit status 1 where training would be wrong."""
    if media:
        require_extra("media")
    announce(f"reading {config}")
    from training.doctor.doctor import examine
    from training.doctor.report import render
    from training.published_config import load_any_config

    errors = error_console()
    with redirect_stdout(sys.stderr):  # whatever reading says, stdout is for the report
        resolved, notes = load_any_config(config, with_executor(set_, executor))
        diagnosis = examine(resolved, str(config), media)
    for note in notes:
        errors.print(note, highlight=False, markup=False)
    if as_json:
        typer.echo(json.dumps(diagnosis.to_json(), indent=2, allow_nan=False))
    else:
        out_console().print(render(diagnosis), highlight=False)
    return diagnosis.exit_status


def _begin(
    path: Path, settings: list[str] | None, with_trackers: bool
) -> tuple[RunConfig | InTimeConfig, Accelerator, Console]:
    """Load the configuration, and tell what of it is not read."""
    from training.published_config import load_any_config
    from training.runs.accelerator import create_accelerator

    console = out_console()
    resolved, notes = load_any_config(path, settings or ())
    accelerator = create_accelerator(resolved, with_trackers)
    for note in notes if accelerator.is_main_process else ():
        console.print(note, highlight=False, markup=False)
    return resolved, accelerator, console
