"""Searches over the small joined corpora, for tests; workers import the loader by its name."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from mmpsr.config import validate
from tests.support import joined as small
from training.config import RunConfig
from training.data.joined import JoinedCorpora
from tuning.search.objective import Search
from tuning.search.space import SearchConfig


def load(config: RunConfig, accelerator: Accelerator, console: Console) -> JoinedCorpora:
    """The small corpora without their test clips."""
    joined = small.joined()
    return joined.select(torch.cat([joined.rows(config.corpora.trained(), split) for split in ("train", "dev")]))


def search(folder: Path, base: dict[str, dict[str, object]] | None = None, **settings: object) -> Search:
    """A search that writes below the folder, two epochs a trial; keyword arguments are its settings."""
    training = {"num_epochs": 2, "batch_size": 32, "lr": 3e-3, "checkpoint_steps": 1000}
    sections: dict[str, dict[str, object]] = {"output": {"directory": str(folder)}, "training": training}
    for name, section in (base or {}).items():
        sections[name] = {**sections.get(name, {}), **section}
    config = validate(SearchConfig, {"space": {"model.hidden_width": [8, 16]}, **settings}, "mine.toml: search")
    return Search(config, small.config(**sections), "mine", "mine.toml", load)
