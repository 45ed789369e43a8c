"""One training step: loss terms of the global batch, their balance and the gradient, for any number of processes.

A process holds a slice of the global batch. Every loss is a sum over rows divided by the global count, so the sum over
processes of losses, and of their gradients, is that of the whole batch on one process. Nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mmpsr.balancing.base import Balancer, Need
from mmpsr.balancing.loss_gradients import Use, form_gradients, gramian, squared_norms, uses
from mmpsr.balancing.trunk_norms import MOST_CLIPS, trunk_squared_norms, trunk_uses
from mmpsr.batch import Batch, Predictions
from mmpsr.layers.recorded import Tape
from mmpsr.models.base import FusionModel, Outputs
from mmpsr.models.fused import FusedMCDM
from mmpsr.models.prototype_teacher import PrototypeTeacher
from mmpsr.objective.objective import Objective
from training.fit.views import StepResult, StepViews, make_views, sum_over_processes

__all__ = ["CONFLICT_STEPS", "cosines_of", "shared_gradients", "sum_gradients", "training_step", "weigh"]

CONFLICT_STEPS = 100
"""Steps from one look at the conflicts between gradients to the next, where balancing does not need them anyway."""


def shared_gradients(losses: Tensor, shared: Sequence[nn.Parameter], accelerator: Accelerator) -> Tensor:
    """Take the gradient of each loss over the global batch, one backward pass each.

    Args:
        losses: `[K]`, this process' share of each mean.
        shared: P parameters in all that the losses reach.
        accelerator: sums over processes.

    Returns:
        `[K, P]`, detached; the graph is kept.
    """
    rows = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return sum_over_processes(torch.stack(rows), accelerator)


def training_step(
    model: FusionModel,
    objective: Objective,
    balancer: Balancer,
    batch: Batch,
    accelerator: Accelerator,
    *,
    step: int = 0,
    hide_rate: float = 0.0,
    teacher: FusionModel | PrototypeTeacher | None = None,
    compiled: Callable[[Batch], Predictions] | None = None,
    fused: FusedMCDM | None = None,
) -> StepResult:
    """Add that of the balanced loss of the global batch to every parameter's gradient.

    What the balancer needs of the gradients of single losses comes from one backward pass over activations, see
    `mmpsr.balancing.loss_gradients`; from one backward pass for each loss where the model has a layer that this does
    not hold for. Looking at their conflicts changes no gradient.

    Args:
        model: in training mode; the same weights in every process.
        objective: loss terms.
        balancer: weights by branch and task; updated here.
        batch: this process' slice.
        accelerator: autocast and sums over processes.
        step: number of the step, from 0.
        hide_rate: see `hide_modalities`; the strong view and the teacher see what the batch has.
        teacher: averaged model in evaluation mode, or class texts, where the semi-supervised method needs one.
        compiled: the model, compiled; taken at steps that look at the gradient of no single loss.
        fused: the model, in few products; taken in one process at full precision, but where inner products of gradients
            are looked at.
    """
    with accelerator.autocast():
        views = make_views(model, objective, batch, hide_rate, teacher)
    need, looks = balancer.needs(step), step % CONFLICT_STEPS == 0 and len(objective.keys) > 1
    if fused is not None and not looks and need != "gramian" and _can_fuse(model, balancer, accelerator):
        return _fused_pass(fused, objective, balancer, views, accelerator, need)
    if need != "nothing" and model.one_pass:
        return _one_pass(model, objective, balancer, views, accelerator, need, looks)
    forward = model if compiled is None or looks or need != "nothing" else compiled
    with accelerator.autocast():
        predictions = forward(views.rows)
    losses, result = views.losses(objective, predictions, accelerator)
    needed = products = None
    if need != "nothing" or looks:
        shared = model.last_shared_parameters() if balancer.last_layer else model.shared_parameters()
        gradients = shared_gradients(losses, shared, accelerator)
        products = gradients @ gradients.T
    if need != "nothing":
        needed = products if need == "gramian" else gradients.norm(dim=1).view_as(result.losses)
    weights, towers = weigh(objective, balancer, result, needed)
    if towers is weights:
        (weights.view(-1) * losses).sum().backward()
    else:
        (weights.view(-1) * losses).sum().backward(inputs=model.shared_parameters(), retain_graph=True)
        (towers.view(-1) * losses).sum().backward(inputs=model.task_parameters())
    return replace(result, weights=weights, cosines=cosines_of(products, result.counts))


def _can_fuse(model: FusionModel, balancer: Balancer, accelerator: Accelerator) -> bool:
    is_alone = accelerator.num_processes == 1 and accelerator.mixed_precision == "no"
    return is_alone and model.training and not balancer.last_layer


def _fused_pass(
    fused: FusedMCDM,
    objective: Objective,
    balancer: Balancer,
    views: StepViews,
    accelerator: Accelerator,
    need: Need,
) -> StepResult:
    passed = fused(views.rows)
    losses, result = views.losses(objective, passed.predictions, accelerator)
    if need == "nothing":
        weights, _ = weigh(objective, balancer, result, None)
        passed.gradients((weights.view(-1) * losses).sum())
        passed.form(None)
        fused.trunk.form(passed.trunk_gradients(by_task=False))
        return replace(result, weights=weights)
    passed.gradients(losses.sum())
    trunk = passed.trunk_gradients(by_task=True)
    masks_TKB = torch.stack([views.masks(task) for task in fused.model.tasks])[:, : len(objective.branches)]
    is_small, formed = len(views.rows) <= MOST_CLIPS, dict[int, Tensor]()
    layers = [] if is_small else trunk_uses(fused.trunk, trunk)
    norms = trunk_squared_norms(trunk, masks_TKB) if is_small else squared_norms(layers, masks_TKB, formed=formed)
    weights, _ = weigh(objective, balancer, result, norms.T.sqrt())
    weights_TB = (weights.T.unsqueeze(2) * masks_TKB).sum(dim=1)
    passed.form(weights_TB)
    if is_small:
        fused.trunk.form(trunk.weighted(weights_TB.unsqueeze(0)))
    else:
        form_gradients(layers, weights_TB, weights.T, formed)
    return replace(result, weights=weights)


def cosines_of(products: Tensor | None, counts: Tensor) -> Tensor | None:
    """Make cosines of inner products `[K, K]`, NaN where a loss has no row or no gradient."""
    if products is None:
        return None
    norms = products.diagonal().clamp(min=0).sqrt()
    norms = torch.where((counts.view(-1) > 0) & (norms > 0), norms, torch.nan)
    return products / norms / norms.unsqueeze(1)


def weigh(
    objective: Objective, balancer: Balancer, result: StepResult, gradients: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weigh losses for shared parameters and for those of single tasks, the ramp of the pseudo branch in."""
    weights = balancer.update(result.losses, result.counts > 0, gradients).clone()
    towers = weights if balancer.tower_weights is None else balancer.tower_weights.clone()
    if objective.semi_supervision is not None and objective.semi_supervision.config.ramp != "none":
        weights[1] *= objective.semi_supervision.ramp()
        if towers is not weights:
            towers[1] *= objective.semi_supervision.ramp()
    return weights, towers


def _one_pass(
    model: FusionModel,
    objective: Objective,
    balancer: Balancer,
    views: StepViews,
    accelerator: Accelerator,
    need: Need,
    looks: bool,
) -> StepResult:
    tapes = {task: Tape() for task in model.tasks}
    outputs: dict[str, Outputs] = {}
    with accelerator.autocast():
        with Tape() as shared_tape:
            shared = model.encode(views.rows)
        leaves = {task: shared.leaf() for task in tapes}
        for task, tape in tapes.items():
            with tape:
                outputs[task] = model.predict(task, leaves[task])
    losses, result = views.losses(objective, model.collect(outputs, shared), accelerator)

    asked = [record.outputs for tape in tapes.values() for record in tape.records]
    asked += [end for leaf in leaves.values() for end in leaf.ends]
    gradients = torch.autograd.grad(losses.sum(), asked, allow_unused=True, materialize_grads=True)
    num_ends = len(shared.ends)
    at_ends = [gradients[len(gradients) - num_ends * count :][:num_ends] for count in range(len(tapes), 0, -1)]

    last = set(map(id, model.last_shared_parameters()))
    records = [record for record in shared_tape.records if not balancer.last_layer or id(record.parameters[0]) in last]
    by_task = [
        torch.autograd.grad(
            shared.ends,
            [record.outputs for record in records],
            ends,
            retain_graph=True,
            allow_unused=True,
        )
        for ends in at_ends
    ]
    layers = uses(records, by_task)
    masks_TKB = torch.stack([views.masks(task) for task in tapes])[:, : len(objective.branches)]
    products = _products(layers, masks_TKB, accelerator) if need == "gramian" or looks else None
    formed: dict[int, Tensor] = {}
    norms = None if need == "gramian" else _norms(layers, masks_TKB, accelerator, formed)
    weights, towers = weigh(objective, balancer, result, products if norms is None else norms)

    weights_TB = (weights.T.unsqueeze(2) * masks_TKB).sum(dim=1)
    if balancer.last_layer:
        ends = [
            torch.einsum("tb,tb...->b...", weights_TB, torch.stack(of_tasks)) for of_tasks in zip(*at_ends, strict=True)
        ]
        torch.autograd.backward(shared.ends, ends, inputs=model.shared_parameters())
    else:
        form_gradients(layers, weights_TB, weights.T, formed)
    if towers is not weights:
        weights_TB = (towers.T.unsqueeze(2) * masks_TKB).sum(dim=1)
    start = 0
    for index, tape in enumerate(tapes.values()):
        end = start + len(tape.records)
        form_gradients(uses(tape.records, [gradients[start:end]]), weights_TB[index : index + 1])
        start = end
    return replace(result, weights=weights, cosines=cosines_of(products, result.counts))


def _norms(layers: Sequence[Use], masks_TKB: Tensor, accelerator: Accelerator, formed: dict[int, Tensor]) -> Tensor:
    """Compute gradient norms of the losses, `[branches, tasks]`."""
    total, gather = _total(accelerator), _gather(accelerator) if accelerator.num_processes > 1 else None
    return squared_norms(layers, masks_TKB, gather, total, accelerator.num_processes, formed).T.sqrt()


def _products(layers: Sequence[Use], masks_TKB: Tensor, accelerator: Accelerator) -> Tensor:
    """Compute inner products of the losses' gradients, branch by branch."""
    num_tasks, num_branches, _ = masks_TKB.shape
    products = gramian(layers, masks_TKB, _total(accelerator)).view(num_tasks, num_branches, num_tasks, num_branches)
    return products.permute(1, 0, 3, 2).reshape(num_tasks * num_branches, -1)


def _total(accelerator: Accelerator) -> Callable[[Tensor], Tensor] | None:
    return partial(sum_over_processes, accelerator=accelerator) if accelerator.num_processes > 1 else None


def _gather(accelerator: Accelerator) -> Callable[[Tensor], Tensor]:
    """Join the clips of all processes, whose numbers may differ by rows of zeros."""
    return lambda tensor: accelerator.gather(accelerator.pad_across_processes(tensor.contiguous(), dim=0))


def sum_gradients(model: nn.Module, accelerator: Accelerator, scale: float = 1.0) -> None:
    """Replace every gradient by its sum over processes, times `scale`."""
    if accelerator.num_processes == 1 and scale == 1.0:
        return
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if accelerator.num_processes > 1:
        total = sum_over_processes(torch.cat([gradient.flatten() for gradient in gradients]), accelerator)
        for gradient, piece in zip(gradients, total.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(piece.view_as(gradient))
    if scale != 1.0:
        torch._foreach_mul_(gradients, scale)
