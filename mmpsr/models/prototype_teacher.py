"""What texts of the classes alone say of a clip, as a source of pseudo-labels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmpsr.batch import Batch, Predictions
from mmpsr.layers.prototype_bank import PrototypeBank
from mmpsr.tasks import TaskSpec

__all__ = ["PrototypeTeacher"]


class PrototypeTeacher(nn.Module):
    """Predictions by the prototypes of a model, for tasks whose classes have texts; it has no parameters.

    Logits of a task are the bank's columns (see `Prototypes`), averaged over the modalities that a clip has; scores are
    their sigmoid, 0.5 for a clip as near to the high pole as training clips are on average. Clips without such a
    modality, and tasks without texts, get zeros, so that no class is likelier than another.

    Args:
        bank: fitted to the training clips; shared with the model.
        tasks: specifications by task name.
    """

    def __init__(self, bank: PrototypeBank, tasks: Mapping[str, TaskSpec]) -> None:
        super().__init__()
        self.bank = bank
        self.tasks = dict(tasks)

    def forward(self, batch: Batch) -> Predictions:
        """Predict a batch of B clips, `[B, C]` a task."""
        columns_BG, names = self.bank(batch.features, batch.presence), list(batch.features)
        logits, scores = dict[str, Tensor](), dict[str, Tensor]()
        for task, spec in self.tasks.items():
            sums_BC = columns_BG.new_zeros(len(columns_BG), spec.num_outputs)
            counts_B1 = columns_BG.new_zeros(len(columns_BG), 1)
            for name, place in self.bank.places(task).items():
                sums_BC = sums_BC + columns_BG[:, place]
                counts_B1 = counts_B1 + batch.presence[:, names.index(name), None]
            near_BC = sums_BC / counts_B1.clamp(min=1)
            if spec.kind == "regression":
                scores[task] = torch.sigmoid(near_BC)
            else:
                logits[task] = near_BC
        return Predictions(logits, scores)
