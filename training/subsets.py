"""What a model gives when it sees only some modalities: every subset of those that it has, 15 of four."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corpora.registry import CorporaConfig
from training.data import JoinedCorpora
from training.detailed_evaluation import figure_rows
from training.fresh_evaluation import predict_fresh
from training.stored_predictions import StoredRun
from training.trained import TrainedModel

__all__ = ["evaluate_subsets", "masked", "modality_subsets"]


def modality_subsets(modalities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All subsets but the empty one, the largest first.

    Example:
        >>> modality_subsets(("video", "text"))
        [('video', 'text'), ('video',), ('text',)]
    """
    return [chosen for size in range(len(modalities), 0, -1) for chosen in combinations(modalities, size)]


def masked(joined: JoinedCorpora, modalities: tuple[str, ...]) -> JoinedCorpora:
    """The same clips with no other modality than these."""
    kept = torch.tensor([name in modalities for name in joined.features], device=joined.presence.device)
    return replace(joined, presence=joined.presence & kept)


def evaluate_subsets(
    run: TrainedModel, path: Path, joined: JoinedCorpora, corpora: CorporaConfig, evaluated: StoredRun
) -> Iterator[dict[str, Any]]:
    """Figures by subset, on the clips that have any of its modalities.

    Args:
        run: the model.
        path: its folder.
        joined: the clips with all that they have, on the model's device.
        corpora: which metrics each corpus reports.
        evaluated: the same clips, predicted from all modalities; its calibration is used alike.

    Yields:
        `corpus, split, task, metric, modalities, num_clips, num_without` (labelled clips with none of the modalities,
        which are not predicted), `value, low, high`.
    """
    fitted = evaluated.config.corpora.trained()
    for chosen in modality_subsets(run.modalities):
        some = masked(joined, chosen)
        for part in predict_fresh(run, path, some, corpora, fitted).parts():
            has_any = part.clips[[f"present.{name}" for name in chosen]].any(axis=1).to_numpy(dtype=bool)
            row = {**part.key, "modalities": "+".join(chosen), "num_without": int((~has_any).sum())}
            if not has_any.any():
                blank = dict.fromkeys(("value", "low", "high"))
                yield from ({**row, "metric": metric, "num_clips": 0, **blank} for metric in part.metrics)
                continue
            for figure in figure_rows(part.take(np.flatnonzero(has_any))):
                yield {**row, **{name: figure[name] for name in ("metric", "num_clips", "value", "low", "high")}}
