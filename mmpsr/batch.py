"""What goes into a model and what comes out of it.

Shapes: B clips of a batch, M modalities, D_m width of a modality's vectors, C outputs of a task, H hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Batch", "Predictions"]


@dataclass(frozen=True)
class Batch:
    """Partially labelled clips.

    Attributes:
        features: per modality float `[B, D_m]`; rows of absent modalities hold zeros and are never read as data.
        presence: bool `[B, M]`, columns in the order of `features`.
        labels: per task float `[B, C]`, NaN where unknown.
        rows: int64 `[B]`, the clips' rows in the joined corpora.
    """

    features: Mapping[str, Tensor]
    presence: Tensor
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    rows: Tensor | None = None

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

    def __len__(self) -> int:
        return self.presence.shape[0]

    def known(self, task: str) -> Tensor:
        """Bool `[B, C]`: which labels of a task are known."""
        return torch.isfinite(self.labels[task])

    def labeled(self, task: str) -> Tensor:
        """Bool `[B]`: clips with at least one known label of a task."""
        return self.known(task).any(dim=1)

    def with_presence(self, presence: Tensor) -> Batch:
        """The same clips with other modalities masked."""
        return Batch(self.features, presence, self.labels, self.rows)


@dataclass(frozen=True)
class Predictions:
    """What a model says of a batch.

    Attributes:
        logits: per classification task float `[B, C]`, before softmax or sigmoid.
        scores: per regression task float `[B, C]` in [0, 1].
    """

    logits: Mapping[str, Tensor]
    scores: Mapping[str, Tensor]

    def of(self, task: str) -> Tensor:
        """The task's logits or scores, `[B, C]`."""
        return self.logits[task] if task in self.logits else self.scores[task]
