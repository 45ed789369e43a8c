"""Balancing of loss terms: fixed weights, and GradNorm in two independent branches.

T tasks of a branch. All methods work on tensors of shape `[branches, T]` and never wait for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmpsr.config import Config

__all__ = ["BalancingConfig", "EqualWeights", "GradNorm", "create_balancer"]


class BalancingConfig(Config):
    """How the loss terms of tasks and branches are weighted against each other."""

    method: Literal["equal", "gradnorm"] = "gradnorm"
    """`equal` keeps the weights, `gradnorm` follows gradient norms and training rates."""
    pseudo_weight: float = Field(default=0.1, ge=0.0)
    """lambda: the pseudo-label branch's budget per task, where the supervised branch has 1."""
    alpha_supervised: float = Field(default=1.0, ge=0.0)
    """Exponent on relative training rates, supervised branch."""
    alpha_pseudo: float = Field(default=0.25, ge=0.0)
    """Exponent on relative training rates, pseudo-label branch."""
    rate_supervised: float = Field(default=0.005, gt=0.0)
    """Step size of the weights, supervised branch."""
    rate_pseudo: float = Field(default=0.004, gt=0.0)
    """Step size of the weights, pseudo-label branch."""
    weight_floor: float = Field(default=1e-3, gt=0.0)
    """Smallest weight before renormalisation."""
    renormalize: Literal["all", "present"] = "all"
    """Tasks whose weights share the budget: all, or only those in the batch (the published code; lets weights of rarely
    labelled tasks collapse; for comparison only)."""


class EqualWeights(nn.Module):
    """Constant weights: 1 for supervised terms, lambda for pseudo-label terms."""

    needs_gradients = False
    weights: Tensor

    def __init__(self, num_branches: int, num_tasks: int, config: BalancingConfig) -> None:
        super().__init__()
        budgets = torch.tensor([1.0, config.pseudo_weight])[:num_branches]
        self.register_buffer("weights", budgets.unsqueeze(1).repeat(1, num_tasks))

    def update(self, losses: Tensor, present: Tensor, norms: Tensor) -> Tensor:
        """The weights, `[branches, T]`."""
        return self.weights


class GradNorm(nn.Module):
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

    needs_gradients = True
    weights: Tensor
    first_losses: Tensor
    num_steps: Tensor
    alphas: Tensor
    rates: Tensor
    budgets: Tensor

    def __init__(self, num_branches: int, num_tasks: int, config: BalancingConfig) -> None:
        super().__init__()
        shares = torch.tensor([1.0, config.pseudo_weight])[:num_branches].unsqueeze(1)
        self.register_buffer("weights", shares.repeat(1, num_tasks))
        self.register_buffer("first_losses", torch.full((num_branches, num_tasks), torch.nan))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        alphas = torch.tensor([config.alpha_supervised, config.alpha_pseudo])[:num_branches].unsqueeze(1)
        rates = torch.tensor([config.rate_supervised, config.rate_pseudo])[:num_branches].unsqueeze(1)
        self.register_buffer("alphas", alphas, persistent=False)
        self.register_buffer("rates", rates, persistent=False)
        self.register_buffer("budgets", shares * num_tasks, persistent=False)
        self.floor = config.weight_floor
        self.renormalize = config.renormalize

    @torch.no_grad()
    def update(self, losses: Tensor, present: Tensor, norms: Tensor) -> Tensor:
        """Take one step.

        Args:
            losses: float `[branches, T]`, means over the global batch.
            present: bool `[branches, T]`, whether any row of the batch counts.
            norms: float `[branches, T]`, g_t over the global batch.

        Returns:
            The new weights, `[branches, T]`.
        """
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
        scaled = stepped * self.budgets / total.clamp(min=1e-12)
        self.weights.copy_(torch.where(sharing & present.any(dim=1, keepdim=True), scaled, stepped))
        return self.weights


def create_balancer(keys: Sequence[tuple[str, str]], config: BalancingConfig) -> EqualWeights | GradNorm:
    """The balancer for loss terms in the order branch by branch, tasks within."""
    branches = list(dict.fromkeys(branch for branch, _ in keys))
    cls = GradNorm if config.method == "gradnorm" else EqualWeights
    return cls(len(branches), len(keys) // len(branches), config)
