"""The clips that a search trains on and is judged by; test clips are left out before anything reads them."""

from __future__ import annotations

from accelerate import Accelerator
from rich.console import Console

from training.config import RunConfig
from training.data.joined import JoinedCorpora
from training.data.load import load_run_data

__all__ = ["data_key", "load_joined"]


def load_joined(config: RunConfig, accelerator: Accelerator, console: Console) -> JoinedCorpora:
    """Train and dev clips of the corpora that are trained on, with their vectors, on the accelerator's device.

    Raises:
        ConfigError: see `training.data.load.load_run_data`.
        CorpusError: see there.
    """
    return load_run_data(config, accelerator, console, ("train", "dev"), config.corpora.trained()).joined


def data_key(config: RunConfig) -> str:
    """Equal for configurations that train on the same tensors."""
    tasks = {name: [spec.kind, *spec.classes] for name, spec in config.tasks.resolve().items()}
    sections = [each.model_dump_json() for each in (config.corpora, config.features)]
    return repr((sections, config.data.modalities, tasks, config.model.reads_sequences))
