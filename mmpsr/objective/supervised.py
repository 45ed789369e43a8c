"""Supervised losses of one task: sums over known labels that are averaged late, and class weights.

Shape suffixes: B or N clips, C outputs of a task.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mmpsr.probabilities import at_least_single
from mmpsr.tasks import TaskSpec

__all__ = ["BRANCHES", "LossSum", "balanced_weights", "supervised_loss", "trained_targets"]

BRANCHES = ("supervised", "pseudo")


@dataclass(frozen=True)
class LossSum:
    """A loss before it is averaged.

    Attributes:
        total: scalar, summed over the rows or elements that count.
        count: scalar, how many those are, or the sum of their weights.
    """

    total: Tensor
    count: Tensor

    def mean(self) -> Tensor:
        """Average, zero (with a zero gradient) where nothing counts."""
        return self.total / self.count.clamp(min=1)


def trained_targets(labels_NC: Tensor, spec: TaskSpec) -> Tensor:
    """Turn known labels of a classification task into what its probabilities are trained to be, `[N, C]`.

    One-hot of the largest for `cross_entropy`, shares for `soft_cross_entropy`, 1 where positive and else 0 for
    `binary_cross_entropy`.
    """
    if spec.loss == "cross_entropy":
        return functional.one_hot(labels_NC.argmax(dim=1), spec.num_outputs).to(labels_NC.dtype)
    if spec.loss == "soft_cross_entropy":
        return labels_NC / labels_NC.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return (labels_NC > 0).to(labels_NC.dtype)


def balanced_weights(labels_NC: Tensor, spec: TaskSpec) -> Tensor:
    """Compute class weights by inverse frequency over labelled rows, as scikit-learn's `balanced`.

        cross-entropies over classes: w_c = N / (C N_c)
        binary cross-entropy: w_c(absent) = N / (2 N_c(absent)),  w_c(present) = N / (2 N_c(present))

    Returns:
        `[2, C]`: weights of absent and of present targets. For cross-entropies over classes only the second row is
        used. Classes without an example keep 1.
    """
    targets = trained_targets(labels_NC[torch.isfinite(labels_NC).all(dim=1)], spec)
    present, sides = targets.sum(dim=0), 2 if spec.loss == "binary_cross_entropy" else spec.num_outputs
    counts = torch.stack([len(targets) - present, present])
    return torch.where(counts > 0, len(targets) / (sides * counts.clamp(min=1)), torch.ones_like(counts))


def supervised_loss(
    predicted_BC: Tensor,
    labels_BC: Tensor,
    spec: TaskSpec,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    row_weights: Tensor | None = None,
) -> LossSum:
    """Sum the loss over known labels only.

    With z logits, s scores, y targets, q = (1 - smoothing) y + smoothing / C where y is one-hot or sums to 1, and w
    class weights:

        cross_entropy, soft_cross_entropy: -sum_c w_c q_c log softmax(z)_c
        binary_cross_entropy: mean over c of w_c BCE(sigmoid(z_c), (1 - smoothing) [y_c > 0] + smoothing / 2)
        mae: |s_c - y_c|,   mse: (s_c - y_c)^2

    Args:
        predicted_BC: logits, or scores in [0, 1] for regression.
        labels_BC: targets, NaN where unknown. Classification rows count when all their labels are known, regression
            elements one by one.
        spec: the task.
        class_weights: `[2, C]` of `balanced_weights`.
        label_smoothing: see `ObjectiveConfig`.
        row_weights: `[B]`, factors on the clips' losses, not on their count.

    Returns:
        Sum and count; rows for classification, elements for regression.
    """
    known_BC = torch.isfinite(labels_BC)
    predicted_BC = at_least_single(predicted_BC)
    targets_BC = torch.where(known_BC, labels_BC, 0.0).to(predicted_BC.dtype)
    if spec.kind == "regression":
        difference = predicted_BC - targets_BC
        element = difference.abs() if spec.loss == "mae" else difference.square()
        element = element if row_weights is None else element * row_weights.unsqueeze(1)
        return LossSum(torch.where(known_BC, element, 0.0).sum(), known_BC.sum())
    rows_B = known_BC.all(dim=1)
    is_binary = spec.loss == "binary_cross_entropy"
    losses = _binary_cross_entropy if is_binary else _cross_entropy
    losses_B = losses(predicted_BC, trained_targets(targets_BC, spec), class_weights, label_smoothing)
    losses_B = losses_B if row_weights is None else losses_B * row_weights
    return LossSum(torch.where(rows_B, losses_B, 0.0).sum(), rows_B.sum())


def _cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    targets = (1 - smoothing) * targets + smoothing / logits.shape[1]
    if weights is not None:
        targets = targets * weights[1]
    return -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)


def _binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    soft = (1 - smoothing) * targets + smoothing / 2
    losses = functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    if weights is not None:
        losses = losses * torch.where(targets > 0, weights[1], weights[0])
    return losses.mean(dim=1)
