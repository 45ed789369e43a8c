"""Small joined corpora with learnable labels, for tests of training that need no media and no store."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from corpora.clips import conform
from mmpsr.config import validate
from mmpsr.tasks import BUILTIN_TASKS, TaskSpec
from training.config import RunConfig
from training.data.joined import JoinedCorpora

SIZES = {"mosei": 60, "fiv2": 50, "bah": 40, "meld": 30}
TASK_OF = {"mosei": "emotion", "fiv2": "personality", "bah": "ambivalence", "meld": "emotion"}
WIDTHS = {"text": 12, "audio": 8}


def tasks() -> dict[str, TaskSpec]:
    return dict(BUILTIN_TASKS)


def config(**sections: dict[str, object]) -> RunConfig:
    """A run over the four corpora below with a tiny model; keyword arguments change its sections."""
    table = {"adapter": "table", "files": "labels.csv", "id": "id", "split": "split"}
    meld = {"adapter": "meld", "zero_shot": True}
    tree: dict[str, dict[str, object]] = {
        "corpora": {"sources": {**dict.fromkeys(("mosei", "fiv2", "bah"), table), "meld": meld}},
        "data": {"modalities": ["text", "audio"]},
        "model": {"hidden_width": 16, "head_width": 16, "num_heads": 2},
        "training": {"num_epochs": 4, "batch_size": 16, "checkpoint_steps": 3, "lr": 1e-3},
    }  # fmt: skip
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return validate(RunConfig, tree, "test")


def joined(seed: int = 0) -> JoinedCorpora:
    """Random vectors, a fifth of the audio missing, and labels that are linear in the text."""
    generator = np.random.default_rng(seed)
    total = sum(SIZES.values())
    corpus = np.repeat(list(SIZES), list(SIZES.values()))
    split = np.array(["train", "train", "train", "dev", "test"])[np.arange(total) % 5]
    clips = conform(
        pd.DataFrame(
            {
                "corpus": corpus,
                "split": split,
                "clip_id": [f"clip{i}" for i in range(total)],
                "group": [f"group{i}" for i in range(total)],
            }
        )
    )
    features = {name: generator.normal(size=(total, width)).astype(np.float32) for name, width in WIDTHS.items()}
    presence = np.ones((total, 2), dtype=bool)
    presence[generator.random(total) < 0.2, 1] = False
    features["audio"][~presence[:, 1]] = 0.0
    labels = {}
    for task, spec in BUILTIN_TASKS.items():
        signal = features["text"] @ generator.normal(size=(WIDTHS["text"], spec.num_outputs))
        if spec.kind == "regression":
            values = 1 / (1 + np.exp(-signal / 3))
        else:
            values = np.eye(spec.num_outputs)[signal.argmax(axis=1)]
        labeled = np.array([TASK_OF[name] == task for name in corpus])
        labels[task] = torch.from_numpy(np.where(labeled[:, None], values, np.nan).astype(np.float32))
    return JoinedCorpora(
        clips, {name: torch.from_numpy(value) for name, value in features.items()}, torch.from_numpy(presence), labels
    )
