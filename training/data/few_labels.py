"""Hiding labels of training clips, as if fewer had been annotated: for learning curves.

Shape suffixes: N clips, C outputs of a task.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch

from mmpsr.config import ConfigError
from training.config import RunConfig
from training.data.joined import JoinedCorpora

__all__ = ["hidden_key", "keep_labels"]


def keep_labels(joined: JoinedCorpora, config: RunConfig) -> JoinedCorpora:
    """Hide labels of training clips beyond `data.num_labeled`; the clips stay, and dev and test clips as they are.

    A task's groups of all corpora that are trained on are put into the order of a hash of seed, corpus and group, the
    clips of a group stay in that of the table, and the first `num_labeled` labelled clips keep their labels. So fewer
    labels of a seed are among its more, and only one group is cut.

    Args:
        joined: all clips.
        config: `data.num_labeled` and `training.seed`.

    Raises:
        ConfigError: a task that is not active, or with fewer labelled training clips.
    """
    labels = dict(joined.labels)
    clips = joined.clips
    for task, number in config.data.num_labeled.items():
        if task not in labels:
            raise ConfigError(f"data.num_labeled: {task!r} is not among the active tasks ({', '.join(labels)})")
        rows = joined.rows(config.corpora.trained(), "train").cpu()
        labeled = rows[torch.isfinite(labels[task].cpu()[rows]).any(dim=1)]
        if number > len(labeled):
            raise ConfigError(
                f"data.num_labeled.{task} = {number}, and {len(labeled)} training clips have a label; ask for fewer, "
                "or leave the task out to use all"
            )
        own = clips.iloc[labeled.numpy()]
        places = zip(own["corpus"], own["group"].fillna(own["clip_id"]), labeled.tolist(), strict=True)
        order = sorted((_hash(config.training.seed, corpus, group), row) for corpus, group, row in places)
        hidden = torch.tensor([row for _, row in order[number:]], dtype=torch.int64, device=labels[task].device)
        labels[task] = labels[task].index_fill(0, hidden, torch.nan)
    return replace(joined, labels=labels)


def hidden_key(config: RunConfig) -> list[object]:
    """Name what decides which labels are hidden; empty where none are, so that other seeds may share clips."""
    return [config.data.num_labeled, config.training.seed] if config.data.num_labeled else []


def _hash(seed: int, corpus: str, group: str) -> bytes:
    return hashlib.sha256(f"{seed}/{corpus}/{group}".encode()).digest()
