"""Loss terms of the members of a stack, each on its own clips.

Shape suffixes: S members, B clips of a member, N = S B clips, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmpsr.batch import Batch, Predictions
from mmpsr.objective.config import STRONG_VIEW
from mmpsr.objective.objective import Objective
from mmpsr.objective.pseudo_labels import ADAPTIVE
from mmpsr.objective.supervised import known_losses
from mmpsr.stacked.model import NotStackableError

__all__ = ["MemberTerms", "StackedObjective"]

LANES = 16
"""Numbers that a processor computes at once, at most."""


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

    Losses of all members are computed at once where each member has as many clips and these fill whole `LANES`; else
    member by member, since a processor computes what is left over in another way, which the last bit shows.

    Args:
        objectives: of the members; the step counts of semi-supervision move, and nothing else.

    Raises:
        NotStackableError: the method of semi-supervision keeps something of the model's predictions, or sees two views.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.objectives, self.first = objectives, objectives[0]
        semi = self.first.semi_supervision
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
        for task in self.first.tasks:
            of_members = [getattr(objective, f"weights_{task}") for objective in objectives]
            self.weights[task] = None if of_members[0] is None else torch.stack(of_members, dim=1)
        self.alone = [StackedObjective([objective]) for objective in objectives] if len(objectives) > 1 else []

    def terms(
        self, predictions: Predictions, batch: Batch, sizes: Sequence[int], teacher: Predictions | None = None
    ) -> MemberTerms:
        """Compute every loss term of every member.

        Args:
            predictions: of all clips, with gradients.
            batch: the labels.
            sizes: clips of each member, which padding follows.
            teacher: predictions by the members' averaged models, where the method needs them.
        """
        most = max(sizes)
        if not self.alone or (min(sizes) == most and most % LANES == 0):
            return self._terms(predictions, batch, teacher)
        parts = []
        for index, (own, size) in enumerate(zip(self.alone, sizes, strict=True)):
            place = slice(index * most, index * most + size)
            its_teacher = None if teacher is None else teacher.slice(place.start, place.stop)
            its_predictions = predictions.slice(place.start, place.stop)
            parts.append(own._terms(its_predictions, _labels_of(batch, place), its_teacher))
        return MemberTerms(
            torch.cat([part.totals for part in parts]),
            torch.cat([part.counts for part in parts]),
            {task: torch.cat([part.accepted[task] for part in parts]) for task in parts[0].accepted},
            {task: torch.cat([part.candidates[task] for part in parts]) for task in parts[0].candidates},
        )

    def _terms(self, predictions: Predictions, batch: Batch, teacher: Predictions | None) -> MemberTerms:
        sums = [self._supervised(task, predictions, batch.labels[task]) for task in self.first.tasks]
        accepted, candidates = {}, {}
        semi = self.first.semi_supervision
        if semi is not None:
            source = teacher or predictions
            for task in self.first.tasks:
                weights_NP, losses_NP, candidates_N, units_NC = semi.clip_losses(
                    task, predictions.of(task), source.of(task), batch.labels[task], rows=batch.rows
                )
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


def _labels_of(batch: Batch, place: slice) -> Batch:
    """Take the labels of some clips, which losses read."""
    labels = {task: values[place] for task, values in batch.labels.items()}
    return Batch({}, batch.presence[place, :0], labels, None if batch.rows is None else batch.rows[place])
