"""Loss terms of the members of a stack, each on its own clips.

Shape suffixes: S members, B clips of a member, N = S B clips, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmpsr.batch import Batch, Predictions
from mmpsr.objective.objective import Objective
from mmpsr.objective.pseudo_labels import ADAPTIVE, STRONG_VIEW
from mmpsr.objective.supervised import known_losses
from mmpsr.stacked.model import NotStackableError

__all__ = ["MemberTerms", "StackedObjective"]


@dataclass(frozen=True)
class MemberTerms:
    """All loss terms of a batch by member.

    Attributes:
        totals: sums over what counts, `[S, losses]` in the order of `Objective.keys`.
        counts: how much that is, likewise.
        accepted: by task `[S, C]`, see `mmpsr.objective.objective.Terms`; empty without a pseudo branch.
        candidates: likewise.
    """

    totals: Tensor
    counts: Tensor
    accepted: dict[str, Tensor]
    candidates: dict[str, Tensor]


class StackedObjective:
    """The members' objectives, which differ in nothing but class weights.

    Args:
        objectives: of the members; the step counts of semi-supervision move, and nothing else.

    Raises:
        NotStackableError: the method of semi-supervision keeps something of the model's predictions, or sees two views.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.objectives, first = objectives, objectives[0]
        self.first = first
        semi = first.semi_supervision
        if semi is not None and (
            semi.config.method in (*ADAPTIVE, *STRONG_VIEW)
            or semi.needs_neighbors
            or semi.config.align_distribution
            or semi.config.probability < 1
        ):
            raise NotStackableError(
                f"semi-supervision by method {semi.config.method!r} with its options is not stacked"
            )
        self.weights: dict[str, Tensor | None] = {}
        for task in first.tasks:
            of_members = [getattr(objective, f"weights_{task}") for objective in objectives]
            self.weights[task] = None if of_members[0] is None else torch.stack(of_members, dim=1)

    def terms(
        self, predictions: Predictions, batch: Batch, real_N: Tensor | None, teacher: Predictions | None = None
    ) -> MemberTerms:
        """Compute every loss term of every member.

        Args:
            predictions: of all clips, with gradients.
            batch: the labels, NaN for padding.
            real_N: 1.0 for clips and 0.0 for padding; None where there is none.
            teacher: predictions by the members' averaged models, where the method needs them.
        """
        sums = [self._supervised(task, predictions, batch.labels[task]) for task in self.first.tasks]
        accepted, candidates = {}, {}
        semi = self.first.semi_supervision
        if semi is not None:
            source = teacher or predictions
            for task in self.first.tasks:
                weights_NP, losses_NP, candidates_N, units_NC = semi.clip_losses(
                    task, predictions.of(task), source.of(task), batch.labels[task], rows=batch.rows
                )
                if real_N is not None:
                    weights_NP, candidates_N = weights_NP * real_N.unsqueeze(1), candidates_N * real_N
                sums.append((self._sum(weights_NP * losses_NP), self._sum(weights_NP)))
                accepted[task] = self._by_member(weights_NP * units_NC).sum(dim=1)
                candidates[task] = self._by_member(candidates_N.unsqueeze(1) * units_NC).sum(dim=1)
            for objective in self.objectives:
                if objective.semi_supervision is not None:
                    objective.semi_supervision.advance()
        totals, counts = (torch.stack(parts, dim=1) for parts in zip(*sums, strict=True))
        return MemberTerms(totals, counts, accepted, candidates)

    def _supervised(self, task: str, predictions: Predictions, labels_NC: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the loss of the task's head and, where there is one, the auxiliary head, as `Objective` does."""
        first, weights = self.first, self.weights[task]
        if weights is not None:
            weights = weights.repeat_interleave(len(labels_NC) // len(self.objectives), dim=1)
        known = (labels_NC, first.tasks[task], weights, first.label_smoothing)
        spread = predictions.log_deviations.get(task), first.nll_beta
        if task not in predictions.auxiliary or predictions.auxiliary_rows is None:
            losses, counted = known_losses(predictions.of(task), *known, None, *spread)
            return self._sum(losses), self._sum(counted.to(losses.dtype))
        share_N = first.auxiliary_weight * predictions.auxiliary_rows
        losses, counted = known_losses(predictions.of(task), *known, 1 - share_N, *spread)
        auxiliary, _ = known_losses(predictions.auxiliary[task], *known, share_N, *spread)
        return self._sum(losses) + self._sum(auxiliary), self._sum(counted.to(losses.dtype))

    def _by_member(self, values: Tensor) -> Tensor:
        return values.unflatten(0, (len(self.objectives), -1))

    def _sum(self, values: Tensor) -> Tensor:
        return values.reshape(len(self.objectives), -1).sum(dim=1)
