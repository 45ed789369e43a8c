"""Losses by task and branch: supervised on labelled rows, pseudo-label on the others.

Every loss is a sum over rows (or elements) and a count, so that a mean over a global batch is exact however the batch
is spread over processes. Rows are selected by masks, never by indexing: nothing waits for the device.

Shape suffixes: B clips, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.batch import Batch, Predictions
from mmpsr.config import Config
from mmpsr.tasks import TaskSpec

__all__ = [
    "BRANCHES",
    "LossSum",
    "Objective",
    "ObjectiveConfig",
    "probabilities",
    "pseudo_label_loss",
    "supervised_loss",
]

BRANCHES = ("supervised", "pseudo")


class ObjectiveConfig(Config):
    """How the supervised losses are weighted within a task."""

    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs classes (or present and absent of each, for binary cross-entropy) by inverse frequency."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of every classification target that is spread evenly."""


@dataclass(frozen=True)
class LossSum:
    """A loss before it is averaged.

    Attributes:
        total: scalar, summed over the rows or elements that count.
        count: scalar, how many those are.
    """

    total: Tensor
    count: Tensor

    def mean(self) -> Tensor:
        """The average, zero (with a zero gradient) where nothing counts."""
        return self.total / self.count.clamp(min=1)


def probabilities(predicted: Tensor, spec: TaskSpec) -> Tensor:
    """What a user reads: class probabilities, or a regression's scores as they are.

    Softmax where the task's loss is a cross-entropy over classes, sigmoid per class for binary cross-entropy.
    """
    if spec.kind == "regression":
        return predicted
    if spec.loss == "binary_cross_entropy":
        return torch.sigmoid(predicted)
    return torch.softmax(predicted, dim=-1)


def balanced_weights(labels_NC: Tensor, spec: TaskSpec) -> Tensor:
    """Class weights by inverse frequency over labelled rows, as scikit-learn's `balanced`.

    Returns:
        `[2, C]`: weights of absent and of present targets. For cross-entropies over classes only the second row is
        used: N / (C N_c). For binary cross-entropy N / (2 N_absent) and N / (2 N_present). Classes without an
        example keep 1.
    """
    known = torch.isfinite(labels_NC).all(dim=1)
    labels = labels_NC[known]
    if spec.loss == "cross_entropy":
        labels = functional.one_hot(labels.argmax(dim=1), spec.num_outputs).to(labels_NC.dtype)
    if spec.loss == "soft_cross_entropy":
        labels = labels / labels.sum(dim=1, keepdim=True).clamp(min=1e-6)
    if spec.loss == "binary_cross_entropy":
        labels = (labels > 0).to(labels_NC.dtype)
        present, sides = labels.sum(dim=0), 2
    else:
        present, sides = labels.sum(dim=0), spec.num_outputs
    counts = torch.stack([len(labels) - present, present])
    return torch.where(counts > 0, len(labels) / (sides * counts.clamp(min=1)), torch.ones_like(counts))


def supervised_loss(
    predicted_BC: Tensor,
    labels_BC: Tensor,
    spec: TaskSpec,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> LossSum:
    """Loss on known labels only.

    Args:
        predicted_BC: logits, or scores in [0, 1] for regression.
        labels_BC: targets, NaN where unknown. Classification rows count when all their labels are known, regression
            elements one by one.
        spec: the task.
        class_weights: `[2, C]` of `balanced_weights`.
        label_smoothing: see `ObjectiveConfig`.

    Returns:
        Sum and count; rows for classification, elements for regression.
    """
    known_BC = torch.isfinite(labels_BC)
    targets_BC = torch.where(known_BC, labels_BC, 0.0)
    predicted_BC = predicted_BC.float()
    if spec.kind == "regression":
        difference = predicted_BC - targets_BC
        element = difference.abs() if spec.loss == "mae" else difference.square()
        return LossSum(torch.where(known_BC, element, 0.0).sum(), known_BC.sum())
    rows_B = known_BC.all(dim=1)
    if spec.loss == "binary_cross_entropy":
        losses_B = _binary_cross_entropy(predicted_BC, targets_BC, class_weights, label_smoothing)
    else:
        if spec.loss == "cross_entropy":
            targets_BC = functional.one_hot(targets_BC.argmax(dim=1), spec.num_outputs).float()
        losses_B = _soft_cross_entropy(predicted_BC, targets_BC, class_weights, label_smoothing)
    return LossSum(torch.where(rows_B, losses_B, 0.0).sum(), rows_B.sum())


def _soft_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    targets = targets / targets.sum(dim=1, keepdim=True).clamp(min=1e-6)
    targets = (1 - smoothing) * targets + smoothing / logits.shape[1]
    if weights is not None:
        targets = targets * weights[1]
    return -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)


def _binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    present = (targets > 0).float()
    soft = (1 - smoothing) * present + smoothing / 2
    losses = functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    if weights is not None:
        losses = losses * torch.where(present > 0, weights[1], weights[0])
    return losses.mean(dim=1)


def pseudo_label_loss(predicted_BC: Tensor, labels_BC: Tensor, spec: TaskSpec) -> LossSum:
    """Loss of confident predictions against themselves, on rows without any known label of the task.

    Targets come from the same forward pass, detached. Classes: rows whose largest probability exceeds the threshold
    take its class, with cross-entropy. Sigmoid outputs and regression: elements beyond the threshold on either side of
    0.5 (p > t or p < 1 - t) take that side, with binary cross-entropy averaged over the accepted elements.

    Args:
        predicted_BC: logits, or scores in [0, 1] for regression.
        labels_BC: targets; a row with any finite entry is labelled and does not count.
        spec: the task, whose `threshold` is used.

    Returns:
        Sum and count of accepted rows or elements.
    """
    unlabeled_B = ~torch.isfinite(labels_BC).any(dim=1)
    predicted_BC = predicted_BC.float()
    sure_BC = probabilities(predicted_BC.detach(), spec)
    if spec.kind != "regression" and spec.loss != "binary_cross_entropy":
        confidence_B, chosen_B = sure_BC.max(dim=1)
        accepted_B = unlabeled_B & (confidence_B > spec.threshold)
        losses_B = functional.cross_entropy(predicted_BC, chosen_B, reduction="none")
        return LossSum(torch.where(accepted_B, losses_B, 0.0).sum(), accepted_B.sum())
    accepted_BC = unlabeled_B.unsqueeze(1) & ((sure_BC > spec.threshold) | (sure_BC < 1 - spec.threshold))
    sides_BC = (sure_BC > 0.5).float()
    if spec.kind == "regression":
        scores_BC = predicted_BC.clamp(1e-6, 1 - 1e-6)
        losses_BC = -(sides_BC * scores_BC.log() + (1 - sides_BC) * (1 - scores_BC).log())
    else:
        losses_BC = functional.binary_cross_entropy_with_logits(predicted_BC, sides_BC, reduction="none")
    return LossSum(torch.where(accepted_BC, losses_BC, 0.0).sum(), accepted_BC.sum())


class Objective(nn.Module):
    """All loss terms of a batch, by branch and task.

    Args:
        tasks: specifications by task name.
        config: weighting within tasks.
        train_labels: per task `[N, C]`, for balanced class weights.
        pseudo_labels: whether the pseudo branch exists.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskSpec],
        config: ObjectiveConfig,
        train_labels: Mapping[str, Tensor],
        pseudo_labels: bool = True,
    ) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        self.label_smoothing = config.label_smoothing
        self.branches = BRANCHES if pseudo_labels else BRANCHES[:1]
        self.keys = tuple((branch, task) for branch in self.branches for task in self.tasks)
        for task, spec in tasks.items():
            weights = None
            if config.class_weights == "balanced" and spec.kind != "regression":
                weights = balanced_weights(train_labels[task], spec).float()
            self.register_buffer(f"weights_{task}", weights, persistent=False)

    def forward(self, predictions: Predictions, batch: Batch) -> dict[tuple[str, str], LossSum]:
        """Loss sums by (branch, task), in the order of `keys`."""
        terms: dict[tuple[str, str], LossSum] = {}
        for branch, task in self.keys:
            spec, predicted, labels = self.tasks[task], predictions.of(task), batch.labels[task]
            if branch == "pseudo":
                terms[branch, task] = pseudo_label_loss(predicted, labels, spec)
            else:
                weights = getattr(self, f"weights_{task}")
                terms[branch, task] = supervised_loss(predicted, labels, spec, weights, self.label_smoothing)
        return terms
