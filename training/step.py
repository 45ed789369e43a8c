"""One training step: loss terms of the global batch, their balance and the gradient, for any number of processes.

A process holds a slice of the global batch. Every loss is a sum over rows divided by the global count, so the sum over
processes of losses, and of their gradients, is that of the whole batch on one process. Nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mmpsr.balancing import EqualWeights, GradNorm
from mmpsr.batch import Batch
from mmpsr.model import MCDM
from mmpsr.objective import Objective

__all__ = ["StepResult", "gradient_norms", "hide_modalities", "training_step"]


@dataclass(frozen=True)
class StepResult:
    """What a step found, over the global batch; all tensors stay on the device.

    Attributes:
        losses: `[branches, tasks]` means.
        counts: `[branches, tasks]` rows or elements that counted.
        weights: `[branches, tasks]` after balancing.
    """

    losses: Tensor
    counts: Tensor
    weights: Tensor


def hide_modalities(batch: Batch, rate: float) -> Batch:
    """Hide each present modality with the given probability; a clip that would lose all keeps all.

    Args:
        batch: presence `[B, M]`.
        rate: in [0, 1).
    """
    if rate == 0.0:
        return batch
    kept = batch.presence & (torch.rand(batch.presence.shape, device=batch.presence.device) >= rate)
    return batch.with_presence(torch.where(kept.any(dim=1, keepdim=True), kept, batch.presence))


def gradient_norms(losses: Tensor, shared: Sequence[nn.Parameter], accelerator: Accelerator) -> Tensor:
    """||grad_shared L_k||_2 of each loss over the global batch, one backward pass each.

    Args:
        losses: `[K]`, this process' share of each mean.
        shared: parameters that all losses reach.
        accelerator: sums over processes.

    Returns:
        `[K]`, detached; the graph is kept.
    """
    norms = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        norms.append(torch.linalg.vector_norm(_sum_over_processes(flat, accelerator)))
    return torch.stack(norms)


def training_step(
    model: MCDM,
    objective: Objective,
    balancer: EqualWeights | GradNorm,
    batch: Batch,
    accelerator: Accelerator,
) -> StepResult:
    """Set every parameter's gradient to that of the balanced loss of the global batch.

    Args:
        model: in training mode; the same weights in every process.
        objective: loss terms.
        balancer: weights by branch and task; updated here.
        batch: this process' slice.
        accelerator: autocast and sums over processes.
    """
    with accelerator.autocast():
        predictions = model(batch)
    terms = list(objective(predictions, batch).values())
    shape = (len(objective.branches), len(objective.tasks))
    counts = _sum_over_processes(torch.stack([term.count.float() for term in terms]), accelerator)
    losses = torch.stack([term.total for term in terms]) / counts.clamp(min=1)
    global_losses = _sum_over_processes(losses.detach().clone(), accelerator)
    if balancer.needs_gradients:
        norms = gradient_norms(losses, model.shared_parameters(), accelerator)
    else:
        norms = torch.zeros_like(global_losses)
    weights = balancer.update(global_losses.view(shape), (counts > 0).view(shape), norms.view(shape)).clone()
    for parameter in model.parameters():
        parameter.grad = None
    (weights.view(-1) * losses).sum().backward()
    _sum_gradients(model, accelerator)
    return StepResult(global_losses.view(shape), counts.view(shape), weights)


def _sum_over_processes(tensor: Tensor, accelerator: Accelerator) -> Tensor:
    return accelerator.reduce(tensor, reduction="sum") if accelerator.num_processes > 1 else tensor


def _sum_gradients(model: nn.Module, accelerator: Accelerator) -> None:
    if accelerator.num_processes == 1:
        return
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    total = _sum_over_processes(torch.cat([gradient.flatten() for gradient in gradients]), accelerator)
    for gradient, piece in zip(gradients, total.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))
