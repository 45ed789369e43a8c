"""Batches of clips, which go into a model, and predictions, which come out of it.

Shapes: B clips of a batch, M modalities, D_m width of a modality's vectors or sequences, L elements of the longest
sequence, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Batch", "Predictions"]


@dataclass(frozen=True)
class Batch:
    """Partially labelled clips.

    Attributes:
        features: per modality float `[B, D_m]`; rows of absent modalities hold zeros and are never read as data.
        presence: bool `[B, M]`, columns in the order of `features`.
        labels: per task float `[B, C]`, NaN where unknown.
        rows: int64 `[B]`, the clips' rows in the joined corpora.
        sequences: for modalities that are kept over time, float `[B, L, D_m]` and a bool mask `[B, L]` of the elements
            that are there, from the front; a modality that `presence` hides is hidden here, too.
    """

    features: Mapping[str, Tensor]
    presence: Tensor
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    rows: Tensor | None = None
    sequences: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        num_clips = self.presence.shape[0]
        if self.presence.shape != (num_clips, len(self.features)):
            raise ValueError(
                f"presence has shape {tuple(self.presence.shape)}, expected [B, {len(self.features)}] for the "
                f"modalities {list(self.features)}"
            )
        for kind, tensors in (("features", self.features), ("labels", self.labels)):
            for name, tensor in tensors.items():
                if tensor.ndim != 2 or tensor.shape[0] != num_clips:
                    raise ValueError(f"{kind}[{name!r}] has shape {tuple(tensor.shape)}, expected [{num_clips}, width]")
        for name, (values, mask) in self.sequences.items():
            if values.ndim != 3 or values.shape[0] != num_clips or mask.shape != values.shape[:2]:
                raise ValueError(
                    f"sequences[{name!r}] has values of shape {tuple(values.shape)} and a mask of shape "
                    f"{tuple(mask.shape)}, expected [{num_clips}, L, width] and [{num_clips}, L]"
                )

    def __len__(self) -> int:
        return self.presence.shape[0]

    def known(self, task: str) -> Tensor:
        """Tell which labels of a task are known, bool `[B, C]`."""
        return torch.isfinite(self.labels[task])

    def labeled(self, task: str) -> Tensor:
        """Tell which clips have at least one known label of a task, bool `[B]`."""
        return self.known(task).any(dim=1)

    def with_presence(self, presence: Tensor) -> Batch:
        """Mask other modalities of the same clips."""
        return replace(self, presence=presence)

    def followed_by(self, other: Batch) -> Batch:
        """Join the clips of both, these first."""
        rows = None if self.rows is None or other.rows is None else torch.cat([self.rows, other.rows])
        return Batch(
            {name: torch.cat([tensor, other.features[name]]) for name, tensor in self.features.items()},
            torch.cat([self.presence, other.presence]),
            {name: torch.cat([tensor, other.labels[name]]) for name, tensor in self.labels.items()},
            rows,
            {name: _joined(*sequence, *other.sequences[name]) for name, sequence in self.sequences.items()},
        )


def _joined(values: Tensor, mask: Tensor, others: Tensor, other_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Put sequences of one batch after those of another, all as long as the longest."""
    longest = max(values.shape[1], others.shape[1])
    padded = [functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in (values, others)]
    masks = [functional.pad(part, (0, longest - part.shape[1])) for part in (mask, other_mask)]
    return torch.cat(padded), torch.cat(masks)


@dataclass(frozen=True)
class Predictions:
    """What a model says of a batch.

    Attributes:
        logits: per classification task float `[B, C]`, before softmax or sigmoid.
        scores: per regression task float `[B, C]` in [0, 1].
        auxiliary: by task, logits or scores of the auxiliary head, which is trained beside the first, `[B, C]`.
        auxiliary_rows: bool `[B]`, clips that these are for; None without any.
        log_deviations: by regression task with a variance head, logarithms of the scores' standard deviations,
            `[B, C]`.
    """

    logits: Mapping[str, Tensor]
    scores: Mapping[str, Tensor]
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)
    auxiliary_rows: Tensor | None = None
    log_deviations: Mapping[str, Tensor] = field(default_factory=dict)

    def of(self, task: str) -> Tensor:
        """Give the task's logits or scores, `[B, C]`."""
        return self.logits[task] if task in self.logits else self.scores[task]

    def slice(self, start: int, end: int) -> Predictions:
        """Give those of clips `start` to `end`."""
        return Predictions(
            {task: tensor[start:end] for task, tensor in self.logits.items()},
            {task: tensor[start:end] for task, tensor in self.scores.items()},
            {task: tensor[start:end] for task, tensor in self.auxiliary.items()},
            None if self.auxiliary_rows is None else self.auxiliary_rows[start:end],
            {task: tensor[start:end] for task, tensor in self.log_deviations.items()},
        )
