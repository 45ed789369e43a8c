"""The objective: losses by task and branch, supervised on labelled rows, pseudo-labels on the others.

Every loss is a sum over rows (or elements) and a count, so that a mean over a global batch is exact however the batch
is spread over processes. Rows are selected by masks, never by indexing: nothing waits for the device.

Shape suffixes: B clips, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mmpsr.batch import Batch, Predictions
from mmpsr.objective.config import ObjectiveConfig, SemiSupervisionConfig
from mmpsr.objective.pseudo_labels import SemiSupervision
from mmpsr.objective.supervised import BRANCHES, LossSum, balanced_weights, supervised_loss
from mmpsr.objective.thresholds import Total, identity
from mmpsr.tasks import TaskSpec

__all__ = ["Objective", "Terms"]


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
        train_labels: per task `[N, C]`, for balanced class weights, distribution alignment and label propagation.
        pseudo_labels: how unlabelled clips train; None is the default, the paper's method.
        train_rows: rows of the training clips in the joined corpora, int64 `[N]`, rising; for label propagation.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskSpec],
        config: ObjectiveConfig,
        train_labels: Mapping[str, Tensor],
        pseudo_labels: SemiSupervisionConfig | None = None,
        train_rows: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        self.label_smoothing = config.label_smoothing
        self.auxiliary_weight = config.auxiliary_weight
        self.nll_beta = config.nll_beta
        weights_of: dict[str, Tensor] = {}
        if config.class_weights == "balanced":
            classified = {task: spec for task, spec in tasks.items() if spec.kind != "regression"}
            weights_of = {task: balanced_weights(train_labels[task], spec).float() for task, spec in classified.items()}
        pseudo_labels = pseudo_labels or SemiSupervisionConfig()
        self.semi_supervision: SemiSupervision | None = None
        if pseudo_labels.method != "none":
            self.semi_supervision = SemiSupervision(tasks, pseudo_labels, train_labels, train_rows, weights_of)
        self.branches = BRANCHES if self.semi_supervision else BRANCHES[:1]
        self.keys = tuple((branch, task) for branch in self.branches for task in self.tasks)
        for task in tasks:
            self.register_buffer(f"weights_{task}", weights_of.get(task), persistent=False)

    def forward(self, predictions: Predictions, batch: Batch) -> dict[tuple[str, str], LossSum]:
        """Sum losses by (branch, task), in the order of `keys`; see `terms`."""
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
        """Compute every loss term of a batch; running averages and the step count of semi-supervision move.

        Args:
            predictions: of the batch, with gradients.
            batch: the labels.
            weak: predictions of the same clips with all their modalities, which pseudo-labels for the strong view are
                made of; `predictions` where left out.
            strong: predictions of the same clips in the strong view, with gradients, where `needs_strong_view`.
            teacher: predictions of the same clips by averaged weights or by class texts, where `needs_teacher`.
            total: sums a tensor over processes.

        Raises:
            ValueError: the method needs predictions that are missing, or has no use for those given.
        """
        losses = {("supervised", task): self._supervised(task, predictions, batch.labels[task]) for task in self.tasks}
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
            term = semi.loss(task, trained.of(task), source.of(task), batch.labels[task], total, batch.rows)
            losses["pseudo", task] = term.loss
            terms.accepted[task], terms.candidates[task] = term.accepted, term.candidates
        semi.advance()
        return terms

    def _supervised(self, task: str, predictions: Predictions, labels_BC: Tensor) -> LossSum:
        """Sum the loss of the task's head and, where there is one, the auxiliary head: a mean by clip, counted once."""
        known = (labels_BC, self.tasks[task], getattr(self, f"weights_{task}"), self.label_smoothing)
        spread = predictions.log_deviations.get(task), self.nll_beta
        if task not in predictions.auxiliary or predictions.auxiliary_rows is None:
            return supervised_loss(predictions.of(task), *known, None, *spread)
        share_B = self.auxiliary_weight * predictions.auxiliary_rows
        main = supervised_loss(predictions.of(task), *known, 1 - share_B, *spread)
        auxiliary = supervised_loss(predictions.auxiliary[task], *known, share_B, *spread)
        return LossSum(main.total + auxiliary.total, main.count)
