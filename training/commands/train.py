"""The command line of `training/run.py` and `encoders/run.py`: a configuration file, settings over it, and --resume."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import typer
from accelerate import Accelerator
from rich.console import Console

from corpora.clips import CorpusError
from encoders.errors import ExtractionError, StoreError
from mmpsr.config import ConfigError
from training.commands.common import DEMO, ConfigOption, ResumeOption, RetryFailedOption, SetOption, print_error
from training.config import RunConfig
from training.data.joined import active_features
from training.data.load import extract_features, load_clips
from training.fit.checkpoint import CheckpointError
from training.fit.loop import DivergedError, Interrupted
from training.pipeline import run_training
from training.published_config import load_run_config
from training.runs.accelerator import create_accelerator

__all__ = ["extract_command", "train_command"]


def train_command(config: ConfigOption = DEMO, set_: SetOption = None, resume: ResumeOption = False) -> None:
    """Train on several corpora at once, evaluate, and print a table."""

    def work(resolved: RunConfig, accelerator: Accelerator, console: Console) -> None:
        name = resolved.output.name or config.stem
        run_training(resolved, name, resume, accelerator, console)

    _guarded(config, set_, work)


def extract_command(
    config: ConfigOption = DEMO, set_: SetOption = None, retry_failed: RetryFailedOption = False
) -> None:
    """Extract features alone; a killed or repeated command does only what is left."""

    def work(resolved: RunConfig, accelerator: Accelerator, console: Console) -> None:
        tasks = resolved.tasks.resolve()
        features = active_features(resolved.features, resolved.data.modalities)
        features = features.model_copy(update={"retry_failed": features.retry_failed or retry_failed})
        clips = load_clips(resolved, tasks, accelerator).clips
        extract_features(clips, features, accelerator, console)

    _guarded(config, set_, work, with_trackers=False)


def _guarded(
    path: Path,
    settings: list[str] | None,
    work: Callable[[RunConfig, Accelerator, Console], None],
    with_trackers: bool = True,
) -> None:
    """Load the configuration and work; errors of the user's making become one sentence and exit status 2."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        resolved, notes = load_run_config(path, settings or ())
        accelerator = create_accelerator(resolved, with_trackers)
        for note in notes if accelerator.is_main_process else ():
            console.print(note, highlight=False, markup=False)
        work(resolved, accelerator, console)
    except (ConfigError, CorpusError, StoreError, ExtractionError, CheckpointError, DivergedError) as error:
        print_error(error)
        raise typer.Exit(2) from None
    except Interrupted as stop:
        console.print(str(stop), highlight=False)
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        console.print("stopped; what is complete is kept, and the same command continues (training with --resume)")
        raise typer.Exit(130) from None
