"""The accelerator of a run: device, precision, processes and trackers, as its configuration says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration

from mmpsr.extras import MissingExtraError, sentence_of
from training.config import InTimeConfig, RunConfig

__all__ = ["create_accelerator", "require_trackers", "start_trackers"]

_PROJECT = "mmpsr"


def require_trackers(config: RunConfig | InTimeConfig) -> None:
    """See that the trackers of a run are installed.

    Raises:
        MissingExtraError: one of `output.trackers` is not.
    """
    installed = {str(name) for name in get_available_trackers()}
    for name in config.output.trackers:
        if name not in installed:
            reason = sentence_of(name) or f"{name} is not installed; install it, or take it out"
            raise MissingExtraError(f"output.trackers: {reason}")


def create_accelerator(config: RunConfig | InTimeConfig, with_trackers: bool = True) -> Accelerator:
    """Make one accelerator; CPU kernels are deterministic, so that a resumed run equals one never stopped.

    Args:
        config: precision, folder and trackers.
        with_trackers: whether figures will be logged.

    Raises:
        MissingExtraError: a tracker of `output.trackers` is not installed.
    """
    if with_trackers:
        require_trackers(config)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("warn")
    return Accelerator(
        mixed_precision=config.training.mixed_precision,
        log_with=list(config.output.trackers) if with_trackers and config.output.trackers else None,
        project_config=ProjectConfiguration(project_dir=config.output.directory),
    )


def start_trackers(accelerator: Accelerator, config: RunConfig | InTimeConfig, folder: Path) -> None:
    """Begin the logs of a run; trackers that write files write them below its folder, `trackers/`."""
    logs = folder / "trackers"
    accelerator.project_configuration.logging_dir = str(logs)
    options: dict[str, dict[str, Any]] = {
        name: {"name": "/".join(folder.parts[-2:])} if name in ("wandb", "trackio") else {}
        for name in config.output.trackers
    }
    if "wandb" in options:
        logs.mkdir(parents=True, exist_ok=True)
        options["wandb"]["dir"] = str(logs)
    accelerator.init_trackers(_PROJECT, init_kwargs=options)
