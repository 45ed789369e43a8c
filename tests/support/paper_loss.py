"""The published pseudo-label loss on one task, for comparison with hand-computed values."""

from __future__ import annotations

from torch import Tensor

from mmpsr.objective.config import SemiSupervisionConfig
from mmpsr.objective.pseudo_labels import SemiSupervision
from mmpsr.objective.supervised import LossSum
from mmpsr.tasks import TaskSpec


def pseudo_label_loss(predicted_BC: Tensor, labels_BC: Tensor, spec: TaskSpec) -> LossSum:
    """Sum up the published loss of confident predictions against themselves: method `paper` on one task.

    Args:
        predicted_BC: logits, or scores in [0, 1] for regression.
        labels_BC: targets; a row with any finite entry is labelled and does not count.
        spec: the task, whose `threshold` is used.

    Returns:
        Sum and count of accepted rows or elements.
    """
    paper = SemiSupervision({"task": spec}, SemiSupervisionConfig(), {}).to(predicted_BC.device)
    return paper.loss("task", predicted_BC, predicted_BC, labels_BC).loss
