"""What a balancer of loss terms is, and its configuration.

T tasks of a branch. All methods work on tensors of shape `[branches, T]`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mmpsr.balancing.config import BalancingConfig

__all__ = ["Balancer", "Need", "by_branch"]

Need = Literal["nothing", "norms", "gramian"]


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
