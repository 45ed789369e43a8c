"""The clips that a search trains on and is judged by; test clips are left out before anything reads them."""

from __future__ import annotations

from accelerate import Accelerator
from rich.console import Console

from training.config import RunConfig
from training.data.joined import JoinedCorpora, active_features, join
from training.data.load import extract_features, load_clips

__all__ = ["data_key", "load_joined"]


def load_joined(config: RunConfig, accelerator: Accelerator, console: Console) -> JoinedCorpora:
    """Train and dev clips of the corpora that are trained on, with their vectors, on the accelerator's device.

    Raises:
        ConfigError: see `training.data.load.load_clips`.
        CorpusError: see `training.data.joined.join`.
    """
    tasks = config.tasks.resolve()
    features = active_features(config.features, config.data.modalities)
    clips = load_clips(config, tasks, accelerator).clips
    is_used = clips["corpus"].isin(config.corpora.trained()) & clips["split"].isin(("train", "dev"))
    clips, _ = extract_features(clips[is_used].reset_index(drop=True), features, accelerator, console)
    joined = join(clips, features, tasks, config.corpora, config.model.kind == "conflict_aware")
    return joined.to(accelerator.device)


def data_key(config: RunConfig) -> str:
    """Equal for configurations that train on the same tensors."""
    tasks = {name: [spec.kind, *spec.classes] for name, spec in config.tasks.resolve().items()}
    sections = [each.model_dump_json() for each in (config.corpora, config.features)]
    return repr((sections, config.data.modalities, tasks, config.model.kind))
