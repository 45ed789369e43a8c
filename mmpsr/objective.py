"""Losses by task and branch: supervised on labelled rows, pseudo-labels on the others.

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
from mmpsr.losses import LossSum, at_least_single
from mmpsr.semi_supervision import SemiSupervision, SemiSupervisionConfig
from mmpsr.semi_supervision_rules import Total, identity
from mmpsr.tasks import TaskSpec

__all__ = ["BRANCHES", "Objective", "ObjectiveConfig", "Terms", "balanced_weights", "supervised_loss"]

BRANCHES = ("supervised", "pseudo")


class ObjectiveConfig(Config):
    """How the supervised losses are weighted within a task."""

    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs classes (or present and absent of each, for binary cross-entropy) by inverse frequency."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of every classification target that is spread evenly."""
    auxiliary_weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of a model's second head, where it has one (`model.guide`, `model.text_head`), in the supervised loss of
    clips that this head is for."""


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
    row_weights: Tensor | None = None,
) -> LossSum:
    """Loss on known labels only.

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
    if spec.loss == "binary_cross_entropy":
        losses_B = _binary_cross_entropy(predicted_BC, targets_BC, class_weights, label_smoothing)
    else:
        if spec.loss == "cross_entropy":
            targets_BC = functional.one_hot(targets_BC.argmax(dim=1), spec.num_outputs).to(predicted_BC.dtype)
        losses_B = _soft_cross_entropy(predicted_BC, targets_BC, class_weights, label_smoothing)
    losses_B = losses_B if row_weights is None else losses_B * row_weights
    return LossSum(torch.where(rows_B, losses_B, 0.0).sum(), rows_B.sum())


def _soft_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    targets = targets / targets.sum(dim=1, keepdim=True).clamp(min=1e-6)
    targets = (1 - smoothing) * targets + smoothing / logits.shape[1]
    if weights is not None:
        targets = targets * weights[1]
    return -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)


def _binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    present = (targets > 0).to(logits.dtype)
    soft = (1 - smoothing) * present + smoothing / 2
    losses = functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    if weights is not None:
        losses = losses * torch.where(present > 0, weights[1], weights[0])
    return losses.mean(dim=1)


@dataclass(frozen=True)
class Terms:
    """All loss terms of a batch, and what the pseudo branch accepted.

    Attributes:
        losses: by (branch, task), in the order of `Objective.keys`.
        accepted: by task, float `[C]`, see `PseudoLoss`; empty without a pseudo branch.
        candidates: likewise.
    """

    losses: dict[tuple[str, str], LossSum]
    accepted: dict[str, Tensor]
    candidates: dict[str, Tensor]


class Objective(nn.Module):
    """All loss terms of a batch, by branch and task.

    Args:
        tasks: specifications by task name.
        config: weighting within tasks.
        train_labels: per task `[N, C]`, for balanced class weights and distribution alignment.
        pseudo_labels: how unlabelled clips train; `True` is the paper's method, `False` none.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskSpec],
        config: ObjectiveConfig,
        train_labels: Mapping[str, Tensor],
        pseudo_labels: bool | SemiSupervisionConfig = True,
    ) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        self.label_smoothing = config.label_smoothing
        self.auxiliary_weight = config.auxiliary_weight
        if isinstance(pseudo_labels, bool):
            pseudo_labels = SemiSupervisionConfig(method="paper" if pseudo_labels else "none")
        self.semi_supervision: SemiSupervision | None = None
        if pseudo_labels.method != "none":
            self.semi_supervision = SemiSupervision(tasks, pseudo_labels, train_labels)
        self.branches = BRANCHES if self.semi_supervision else BRANCHES[:1]
        self.keys = tuple((branch, task) for branch in self.branches for task in self.tasks)
        for task, spec in tasks.items():
            weights = None
            if config.class_weights == "balanced" and spec.kind != "regression":
                weights = balanced_weights(train_labels[task], spec).float()
            self.register_buffer(f"weights_{task}", weights, persistent=False)

    def forward(self, predictions: Predictions, batch: Batch) -> dict[tuple[str, str], LossSum]:
        """Loss sums by (branch, task), in the order of `keys`; see `terms`."""
        return self.terms(predictions, batch).losses

    def terms(
        self,
        predictions: Predictions,
        batch: Batch,
        *,
        weak: Predictions | None = None,
        strong: Predictions | None = None,
        teacher: Predictions | None = None,
        total: Total = identity,
    ) -> Terms:
        """Every loss term of a batch; running averages and the step count of semi-supervision move.

        Args:
            predictions: of the batch, with gradients.
            batch: the labels.
            weak: predictions of the same clips with all their modalities, which pseudo-labels for the strong view are
                made of; `predictions` where left out.
            strong: predictions of the same clips in the strong view, with gradients, where `needs_strong_view`.
            teacher: predictions of the same clips by the averaged model, where `needs_teacher`.
            total: sums a tensor over processes.

        Raises:
            ValueError: the method needs predictions that are missing, or has no use for those given.
        """
        losses: dict[tuple[str, str], LossSum] = {}
        for task in self.tasks:
            losses["supervised", task] = self._supervised(task, predictions, batch.labels[task])
        terms = Terms(losses, {}, {})
        semi = self.semi_supervision
        if semi is None:
            return terms
        views = {"strong": (semi.needs_strong_view, strong), "teacher": (semi.needs_teacher, teacher)}
        for name, (needed, given) in views.items():
            if needed != (given is not None):
                raise ValueError(
                    f"method {semi.config.method!r} {'needs' if needed else 'has no use for'} predictions `{name}`, "
                    f"found {'none' if needed else 'some'}"
                )
        trained, source = strong or predictions, teacher or weak or predictions
        for task in self.tasks:
            found = semi.loss(task, trained.of(task), source.of(task), batch.labels[task], total)
            losses["pseudo", task] = found.loss
            terms.accepted[task], terms.candidates[task] = found.accepted, found.candidates
        semi.advance()
        return terms

    def _supervised(self, task: str, predictions: Predictions, labels_BC: Tensor) -> LossSum:
        """Of both heads where there are two, each clip's loss a mean of theirs: its count is that of one head."""
        known = (labels_BC, self.tasks[task], getattr(self, f"weights_{task}"), self.label_smoothing)
        if task not in predictions.auxiliary or predictions.auxiliary_rows is None:
            return supervised_loss(predictions.of(task), *known)
        share_B = self.auxiliary_weight * predictions.auxiliary_rows
        main = supervised_loss(predictions.of(task), *known, 1 - share_B)
        return LossSum(main.total + supervised_loss(predictions.auxiliary[task], *known, share_B).total, main.count)
