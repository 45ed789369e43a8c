"""One step of all runs of a stack: what `training.fit.step` does for one, on the clips of all.

Shape suffixes: S runs, B clips of a run (as many of each, padded), N = S B clips, T tasks, L branches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmpsr.balancing.base import Balancer, Need
from mmpsr.balancing.loss_gradients import Use, form_gradients, squared_norms, uses
from mmpsr.balancing.trunk_norms import MOST_CLIPS, trunk_squared_norms, trunk_uses
from mmpsr.batch import Batch, Predictions
from mmpsr.layers.dropout import MemberDraws
from mmpsr.layers.recorded import Tape
from mmpsr.models.base import FusionModel
from mmpsr.models.fused import FusedMCDM
from mmpsr.objective.objective import Objective
from mmpsr.stacked.gradients import (
    form_member_gradients,
    member_gramian,
    member_squared_norms,
    set_gradient,
    set_linear_gradients,
)
from mmpsr.stacked.model import StackedModel
from mmpsr.stacked.objective import StackedObjective
from training.data.joined import JoinedCorpora
from training.fit.step import CONFLICT_STEPS, cosines_of, weigh
from training.fit.views import StepResult, hide_drawn, num_bases

__all__ = ["Clips", "StackedStep", "cut_clips"]


@dataclass(frozen=True)
class Clips:
    """The clips of a step.

    Attributes:
        batch: of all runs, one after another, padded to as many of each.
        sizes: how many each run has.
    """

    batch: Batch
    sizes: tuple[int, ...]


def cut_clips(joined: Sequence[JoinedCorpora], numbers: Sequence[NDArray[np.int64]]) -> Clips:
    """Cut every run's batch out of its clips, int64 row numbers; padding has no modality and no label."""
    sizes = tuple(len(rows) for rows in numbers)
    most, first = max(sizes), joined[0]
    device = first.presence.device
    if all(other is first for other in joined):
        padded = np.stack([np.pad(rows, (0, most - len(rows))) for rows in numbers]).ravel()
        batch = first.batch(torch.from_numpy(padded).to(device))
    else:
        parts = [
            corpora.batch(torch.from_numpy(np.pad(rows, (0, most - len(rows)))).to(device))
            for corpora, rows in zip(joined, numbers, strict=True)
        ]
        batch = Batch(
            {name: torch.cat([part.features[name] for part in parts]) for name in first.features},
            torch.cat([part.presence for part in parts]),
            {name: torch.cat([part.labels[name] for part in parts]) for name in first.labels},
            torch.cat([part.rows for part in parts if part.rows is not None]),
        )
    if min(sizes) == most:
        return Clips(batch, sizes)
    real_N = (torch.arange(most, device=device) < torch.tensor(sizes, device=device).unsqueeze(1)).flatten()
    labels = {name: values.masked_fill(~real_N.unsqueeze(1), torch.nan) for name, values in batch.labels.items()}
    return Clips(replace(batch, presence=batch.presence & real_N.unsqueeze(1), labels=labels), sizes)


@dataclass(frozen=True)
class StackedStep:
    """What takes a step of every run of a stack.

    Attributes:
        stack: the models.
        teachers: averaged models, where the semi-supervised method needs them.
        objective: of all.
        objectives: of each.
        balancers: of each.
        draws: of each.
        hide_rates: of each, see `training.fit.views.hide_modalities`.
        fused: the models, in few products, see `training.fit.step.training_step`.
    """

    stack: StackedModel
    teachers: StackedModel | None
    objective: StackedObjective
    objectives: Sequence[Objective]
    balancers: Sequence[Balancer]
    draws: MemberDraws
    hide_rates: Sequence[float]
    fused: FusedMCDM | None = None

    def take(self, clips: Clips, steps: Sequence[int]) -> list[StepResult]:
        """Set the gradients of the stack's parameters to that of each run's balanced loss.

        Args:
            clips: of all runs.
            steps: number of each run's step, from 0.
        """
        self.draws.sizes = clips.sizes
        num_clips = max(clips.sizes)
        model = self.stack.arrange(num_clips)
        needs = [balancer.needs(step) for balancer, step in zip(self.balancers, steps, strict=True)]
        looks = [step % CONFLICT_STEPS == 0 and len(self.objectives[0].keys) > 1 for step in steps]
        with torch.no_grad():
            hidden = self._hide(clips.batch)
            teacher = None if self.teachers is None else self.teachers.arrange(num_clips)(clips.batch)
        if self.fused is not None and not any(looks) and "gramian" not in needs and not self.balancers[0].last_layer:
            return self._fused_pass(self.fused, hidden, clips, teacher, needs)
        if any(need != "nothing" for need in needs) or any(looks):
            return self._one_pass(model, hidden, clips, teacher, needs, looks)
        with Tape() as tape:
            predictions = model(hidden)
        losses_SK, results = self._losses(predictions, hidden, clips, teacher)
        weights, _ = self._weigh(results, [None] * len(results))
        self._set_gradients((weights.flatten(1) * losses_SK).sum(), tape)
        return [replace(result, weights=own) for result, own in zip(results, weights, strict=True)]

    def _fused_pass(
        self, fused: FusedMCDM, hidden: Batch, clips: Clips, teacher: Predictions | None, needs: Sequence[Need]
    ) -> list[StepResult]:
        """Do what `training.fit.step` does in a fused pass."""
        num_members, passed = self.stack.num_members, fused(hidden)
        losses_SK, results = self._losses(passed.predictions, hidden, clips, teacher)
        if all(need == "nothing" for need in needs):
            weights, _ = self._weigh(results, [None] * num_members)
            passed.gradients((weights.flatten(1) * losses_SK).sum())
            passed.form(None)
            fused.trunk.form(passed.trunk_gradients(by_task=False))
            return [replace(result, weights=own) for result, own in zip(results, weights, strict=True)]
        passed.gradients(losses_SK.sum())
        trunk = passed.trunk_gradients(by_task=True)
        masks_TLN = self._masks(hidden, list(fused.model.tasks))
        masks_STLB = masks_TLN.unflatten(2, (num_members, -1)).permute(2, 0, 1, 3)
        layers: list[list[Use]] = []
        formed = [dict[int, Tensor]() for _ in range(num_members)]
        if max(clips.sizes) <= MOST_CLIPS:
            squares = [trunk_squared_norms(*pair) for pair in zip(trunk.members(), masks_STLB, strict=True)]
        else:
            layers = [trunk_uses(fused.trunk, found, index) for index, found in enumerate(trunk.members())]
            squares = [
                squared_norms(own, masks, formed=known)
                for own, masks, known in zip(layers, masks_STLB, formed, strict=True)
            ]
        norms = [None if need == "nothing" else found.T.sqrt() for need, found in zip(needs, squares, strict=True)]
        weights, _ = self._weigh(results, norms)
        weights_STB = self._of_clips(weights, masks_TLN).unflatten(1, (num_members, -1)).transpose(0, 1)
        passed.form(weights_STB.flatten(0, 1))
        if layers:
            for parts in zip(layers, weights_STB, weights.mT, formed, strict=True):
                _form_anew(*parts)
        else:
            fused.trunk.form(trunk.weighted(weights_STB))
        return [replace(result, weights=own) for result, own in zip(results, weights, strict=True)]

    def _set_gradients(self, loss: Tensor, tape: Tape) -> None:
        """Set the gradients of one loss; those of linear layers are formed where the optimizers read them."""
        records = [record for record in tape.records if record.kind == "linear"]
        formed = {id(part) for record in records for part in record.parameters}
        trained = [part for part in self.stack.parameters.values() if part.requires_grad and id(part) not in formed]
        outputs = [record.outputs for record in records]
        gradients = torch.autograd.grad(loss, [*outputs, *trained], allow_unused=True)
        set_linear_gradients(uses(records, [gradients[: len(records)]]), self.stack.num_members)
        for parameter, gradient in zip(trained, gradients[len(records) :], strict=True):
            if gradient is not None:
                set_gradient(parameter, gradient)

    def _hide(self, batch: Batch) -> Batch:
        if not any(self.hide_rates):
            return batch
        num_clips, width = max(self.draws.sizes), num_bases(batch)
        stays = torch.ones(len(batch), width, dtype=torch.bool, device=batch.presence.device)
        parts = stays.split(num_clips)
        for part, size, rate, generator in zip(
            parts, self.draws.sizes, self.hide_rates, self.draws.generators, strict=True
        ):
            if rate:
                part[:size] = torch.rand((size, width), generator=generator, device=stays.device) >= rate
        return hide_drawn(batch, stays)

    def _losses(
        self, outputs: Predictions, hidden: Batch, clips: Clips, teacher: Predictions | None
    ) -> tuple[Tensor, list[StepResult]]:
        """Compute every mean loss of every run, `[S, L T]`, and what each run would tell of them."""
        terms = self.objective.terms(outputs, hidden, clips.sizes, teacher)
        first = self.objectives[0]
        shape = (len(first.branches), len(first.tasks))
        losses_SK = terms.totals / terms.counts.clamp(min=1)
        means, counts = losses_SK.detach().unflatten(1, shape), terms.counts.unflatten(1, shape)
        results = [
            StepResult(
                means[index], counts[index], means[index],
                {task: values[index] for task, values in terms.accepted.items()},
                {task: values[index] for task, values in terms.candidates.items()},
            )
            for index in range(len(means))
        ]  # fmt: skip
        return losses_SK, results

    def _weigh(self, results: Sequence[StepResult], needed: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        """Weigh every run's losses by its own balancer, `[S, L, T]`, for shared parameters and for single tasks'."""
        pairs = [
            weigh(objective, balancer, result, values)
            for objective, balancer, result, values in zip(
                self.objectives, self.balancers, results, needed, strict=True
            )
        ]
        weights = torch.stack([own for own, _ in pairs])
        if all(own is towers for own, towers in pairs):
            return weights, weights
        return weights, torch.stack([towers for _, towers in pairs])

    def _one_pass(
        self,
        model: FusionModel,
        hidden: Batch,
        clips: Clips,
        teacher: Predictions | None,
        needs: Sequence[Need],
        looks: Sequence[bool],
    ) -> list[StepResult]:
        """Do what `training.fit.step` does in one backward pass over activations."""
        num_members, balancer = self.stack.num_members, self.balancers[0]
        tapes = {task: Tape() for task in model.tasks}
        with Tape() as shared_tape:
            shared = model.encode(hidden)
        leaves, outputs = {task: shared.leaf() for task in tapes}, {}
        for task, tape in tapes.items():
            with tape:
                outputs[task] = model.predict(task, leaves[task])
        losses_SK, results = self._losses(model.collect(outputs, shared), hidden, clips, teacher)

        asked = [record.outputs for tape in tapes.values() for record in tape.records]
        asked += [end for leaf in leaves.values() for end in leaf.ends]
        gradients = torch.autograd.grad(losses_SK.sum(), asked, allow_unused=True, materialize_grads=True)
        num_ends = len(shared.ends)
        at_ends = [gradients[len(gradients) - num_ends * count :][:num_ends] for count in range(len(tapes), 0, -1)]
        last = set(map(id, model.last_shared_parameters()))
        records = [part for part in shared_tape.records if not balancer.last_layer or id(part.parameters[0]) in last]
        by_task = [
            torch.autograd.grad(
                shared.ends, [record.outputs for record in records], ends, retain_graph=True, allow_unused=True
            )
            for ends in at_ends
        ]
        layers = uses(records, by_task)
        masks_TLN = self._masks(hidden, list(tapes))
        products, norms = None, None
        if "gramian" in needs or any(looks):
            products = self._by_branch(member_gramian(layers, masks_TLN, num_members))
        if "norms" in needs:
            norms = member_squared_norms(layers, masks_TLN, num_members).transpose(1, 2).sqrt()
        sources = {"nothing": None, "norms": norms, "gramian": products}
        needed = [None if sources[need] is None else sources[need][index] for index, need in enumerate(needs)]  # type: ignore[index]
        weights, towers = self._weigh(results, needed)

        weights_TN = self._of_clips(weights, masks_TLN)
        if balancer.last_layer:
            ends = [
                torch.einsum("tb,tb...->b...", weights_TN, torch.stack(parts)) for parts in zip(*at_ends, strict=True)
            ]
            trained = model.shared_parameters()
            for parameter, gradient in zip(trained, torch.autograd.grad(shared.ends, trained, ends), strict=True):
                set_gradient(parameter, gradient)
        else:
            form_member_gradients(layers, weights_TN, num_members)
        towers_TN = weights_TN if towers is weights else self._of_clips(towers, masks_TLN)
        start = 0
        for index, tape in enumerate(tapes.values()):
            end = start + len(tape.records)
            form_member_gradients(uses(tape.records, [gradients[start:end]]), towers_TN[index : index + 1], num_members)
            start = end
        seen = [
            None if products is None or not look else cosines_of(products[index], result.counts)
            for index, (result, look) in enumerate(zip(results, looks, strict=True))
        ]
        return [
            replace(result, weights=own, cosines=cosines)
            for result, own, cosines in zip(results, weights, seen, strict=True)
        ]

    def _masks(self, batch: Batch, tasks: Sequence[str]) -> Tensor:
        """Mark the clips of each loss, `[T, L, N]`."""
        labeled_TN = torch.stack([batch.labeled(task) for task in tasks])
        return torch.stack([labeled_TN, ~labeled_TN], dim=1)[:, : len(self.objectives[0].branches)]

    def _of_clips(self, weights_SLT: Tensor, masks_TLN: Tensor) -> Tensor:
        """Give every clip the weight of its loss, by task, `[T, N]`."""
        masks_TLSB = masks_TLN.unflatten(2, (len(weights_SLT), -1))
        return (weights_SLT.permute(2, 1, 0).unsqueeze(3) * masks_TLSB).sum(dim=1).flatten(1)

    def _by_branch(self, products: Tensor) -> Tensor:
        """Order inner products branch by branch in place of task by task."""
        first = self.objectives[0]
        num_branches, num_tasks = len(first.branches), len(first.tasks)
        shape = (num_tasks, num_branches, num_tasks, num_branches)
        return products.unflatten(1, shape[:2]).unflatten(3, shape[2:]).permute(0, 2, 1, 4, 3).flatten(3).flatten(1, 2)


def _form_anew(layers: Sequence[Use], weights_TB: Tensor, weights_TL: Tensor, formed: Mapping[int, Tensor]) -> None:
    """Form gradients of the layers' parameters in place of those that they have."""
    trained = [part for use in layers for part in use.parameters if part is not None and part.requires_grad]
    places = [part.grad for part in trained]
    for part in trained:
        part.grad = None
    form_gradients(layers, weights_TB, weights_TL, formed)
    for part, place in zip(trained, places, strict=True):
        if place is not None and part.grad is not None:
            part.grad = place.copy_(part.grad)
