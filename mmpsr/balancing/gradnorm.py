"""Balancing by fixed weights, and by GradNorm in two independent branches.

T tasks of a branch. All methods work on tensors of shape `[branches, T]`, and those here never wait for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmpsr.balancing.base import Balancer, Need, by_branch
from mmpsr.balancing.config import BalancingConfig

__all__ = ["EqualWeights", "GradNorm"]


class EqualWeights(Balancer):
    """Constant weights; by task where some are given.

        w_t = f_t for supervised terms, lambda f_t for pseudo-label terms, f_t = 1 where no factor is given

    Args:
        num_branches: 1 or 2.
        num_tasks: T.
        config: lambda.
        by_task: a factor for each task.
    """

    def __init__(
        self, num_branches: int, num_tasks: int, config: BalancingConfig, by_task: Sequence[float] | None = None
    ) -> None:
        super().__init__(num_branches, num_tasks, config)
        if by_task is not None:
            self.weights *= torch.tensor(by_task)


class GradNorm(Balancer):
    """GradNorm on each branch alone, with its exact first-order update and no second backward pass.

    With g_t = ||grad_shared L_t||, G_t = w_t g_t, Gbar their mean and r_t = (L_t / L_t0) / mean, the weights descend
    sum_t |G_t - Gbar r_t^alpha| with the target held constant, whose derivative is g_t sign(G_t - Gbar r_t^alpha):

        w_t <- max(floor, w_t - rate g_t sign(w_t g_t - Gbar r_t^alpha)), then sum_t w_t = budget.

    Means run over the tasks present in the batch; a task without a labelled row keeps its weight and takes part in the
    renormalisation like all others, so that the budget is always shared by all tasks. L_t0 is the task's loss at the
    first step where it is present and finite. Weights, first losses and the step count are buffers: they belong to the
    checkpoint.

    References:
        Chen, Badrinarayanan, Lee, Rabinovich: GradNorm. ICML 2018.
    """

    first_losses: Tensor
    num_steps: Tensor
    alphas: Tensor
    rates: Tensor

    def __init__(self, num_branches: int, num_tasks: int, config: BalancingConfig) -> None:
        super().__init__(num_branches, num_tasks, config)
        self.register_buffer("first_losses", torch.full((num_branches, num_tasks), torch.nan))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        alphas = by_branch(config.alpha_supervised, config.alpha_pseudo, num_branches)
        rates = by_branch(config.rate_supervised, config.rate_pseudo, num_branches)
        self.register_buffer("alphas", alphas, persistent=False)
        self.register_buffer("rates", rates, persistent=False)
        self.floor = config.weight_floor
        self.renormalize = config.renormalize
        self.last_layer = config.cost == "last_layer"
        self.every = config.every if config.cost == "every_k" else 1

    def needs(self, step: int) -> Need:
        """Ask for norms, at the steps at which the weights are updated."""
        return "norms" if step % self.every == 0 else "nothing"

    @torch.no_grad()
    def update(self, losses: Tensor, present: Tensor, gradients: Tensor | None = None) -> Tensor:
        """Take a step of the weights, `[branches, T]`, with norms g_t; give the same as before without them."""
        if gradients is None:
            return self.weights
        norms = gradients
        present = present & torch.isfinite(losses)
        first = self.first_losses
        self.first_losses.copy_(torch.where(present & torch.isnan(first), losses, first))
        self.num_steps += 1
        present = present & torch.isfinite(norms)
        count = present.sum(dim=1, keepdim=True).clamp(min=1)

        def mean(values: Tensor) -> Tensor:
            return torch.where(present, values, 0.0).sum(dim=1, keepdim=True) / count

        ratios = losses / self.first_losses.clamp(min=1e-12)
        rates = ratios / mean(ratios).clamp(min=1e-12)
        weighted = self.weights * norms
        target = mean(weighted) * rates.clamp(min=0.0) ** self.alphas
        stepped = (self.weights - self.rates * norms * torch.sign(weighted - target)).clamp(min=self.floor)
        stepped = torch.where(present, stepped, self.weights)
        sharing = present if self.renormalize == "present" else torch.ones_like(present)
        total = torch.where(sharing, stepped, 0.0).sum(dim=1, keepdim=True)
        scaled = stepped * (self.budgets * self.budgets.shape[1]) / total.clamp(min=1e-12)
        self.weights.copy_(torch.where(sharing & present.any(dim=1, keepdim=True), scaled, stepped))
        return self.weights
