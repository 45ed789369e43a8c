"""What a balancer of loss terms is, and its configuration.

T tasks of a branch. All methods work on tensors of shape `[branches, T]`.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmpsr.config import Config

__all__ = ["LOSSES_ALONE", "Balancer", "BalancingConfig", "Need", "by_branch"]

Need = Literal["nothing", "norms", "gramian"]

LOSSES_ALONE = ("equal", "fixed", "uncertainty", "dwa", "random")
"""Methods that look at no gradient."""


class BalancingConfig(Config):
    """How the loss terms of tasks and branches are weighted against each other."""

    method: Literal[
        "equal", "fixed", "gradnorm", "uncertainty", "dwa", "random", "pcgrad", "cagrad", "aligned_mtl", "imtl_g",
        "mgda", "upgrad",
    ] = "gradnorm"  # fmt: skip
    """`equal` and `fixed` keep the weights; `gradnorm` follows gradient norms and training rates; `uncertainty`, `dwa`
    and `random` look at losses alone; the others resolve conflicts between gradients (extra `balancing`)."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Weight by task of `method = "fixed"`, 1 where left out; multiplied by lambda in the pseudo-label branch."""
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
    cost: Literal["exact", "last_layer", "every_k"] = "exact"
    """Gradient norms over all shared parameters, over those of the last shared layer alone, or only every few steps."""
    every: int = Field(default=10, ge=1)
    """k of `cost = "every_k"`: steps from one update of the weights to the next."""

    @property
    def always_needs_gradients(self) -> bool:
        """Whether every step looks at the gradients of single losses."""
        if self.method == "gradnorm":
            return self.cost != "every_k" or self.every == 1
        return self.method not in LOSSES_ALONE


class Balancer(nn.Module):
    """Weights of loss terms by branch and task; here they stay.

    Args:
        num_branches: 1 or 2.
        num_tasks: T.
        config: lambda, and what derived classes read.
    """

    weights: Tensor
    """`[branches, T]`, part of the checkpoint."""
    budgets: Tensor
    """`[branches, T]`: 1 for supervised terms, lambda for pseudo-label terms."""
    tower_weights: Tensor | None = None
    """Weights for the parameters of single tasks, where they differ from those for the shared ones."""
    last_layer = False
    """Whether gradients of the last shared layer stand for those of all shared parameters."""

    def __init__(self, num_branches: int, num_tasks: int, config: BalancingConfig) -> None:
        super().__init__()
        budgets = by_branch(1.0, config.pseudo_weight, num_branches).repeat(1, num_tasks)
        self.register_buffer("weights", budgets.clone())
        self.register_buffer("budgets", budgets, persistent=False)

    def needs(self, step: int) -> Need:
        """Name what `update` takes at a step (from 0): nothing, gradient norms, or inner products of gradients."""
        return "nothing"

    def epoch_ended(self, losses: Tensor) -> None:
        """Take note of an epoch's mean losses, `[branches, T]`, NaN where none counted."""

    def update(self, losses: Tensor, present: Tensor, gradients: Tensor | None = None) -> Tensor:
        """Take one step; the same in every process.

        Args:
            losses: float `[branches, T]`, means over the global batch.
            present: bool `[branches, T]`, whether any row of the batch counts.
            gradients: what `needs` named: norms `[branches, T]` of each loss' gradient over the shared parameters, or
                the gradients' inner products `[branches * T, branches * T]`, branch by branch.

        Returns:
            The weights, `[branches, T]`.
        """
        return self.weights


def by_branch(supervised: float, pseudo: float, num_branches: int) -> Tensor:
    """Give each branch its number, `[branches, 1]`."""
    return torch.tensor([supervised, pseudo])[:num_branches].unsqueeze(1)
