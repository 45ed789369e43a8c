"""Balancing where some tasks have trunks of their own, and so no part in what tasks share.

T tasks of a branch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmpsr.balancing.base import Balancer, Need
from mmpsr.balancing.config import BalancingConfig

__all__ = ["SharedAlone"]


class SharedAlone(Balancer):
    """Balance the tasks of the shared trunk among themselves, and leave the others at constant weights.

        w_t = factor_t for supervised terms, 0 for pseudo-label terms, of a task with a trunk of its own

    Args:
        inner: balances the other tasks.
        shared: by task, whether it is one of these, in order.
        factors: by task, 1 where a method gives none.
        config: lambda.
    """

    own: Tensor
    columns: Tensor

    def __init__(
        self, inner: Balancer, shared: Sequence[bool], factors: Sequence[float], config: BalancingConfig
    ) -> None:
        num_branches = len(inner.weights)
        super().__init__(num_branches, len(shared), config)
        self.inner, self.last_layer = inner, inner.last_layer
        own = torch.zeros_like(self.weights)
        own[0] = torch.tensor(factors)
        self.register_buffer("own", own, persistent=False)
        self.register_buffer("columns", torch.tensor(shared).nonzero().flatten(), persistent=False)
        self.weights.copy_(self._joined(inner.weights))

    def _joined(self, weights: Tensor) -> Tensor:
        """Put the inner weights in their columns."""
        return self.own.index_copy(1, self.columns, weights.to(self.own.dtype))

    @property
    def tower_weights(self) -> Tensor | None:  # type: ignore[override]
        """Those of the inner balancer, where it has some."""
        inner = self.inner.tower_weights
        return None if inner is None else self._joined(inner)

    def needs(self, step: int) -> Need:
        """Ask for what the inner balancer takes."""
        return self.inner.needs(step)

    def epoch_ended(self, losses: Tensor) -> None:
        """Tell the inner balancer its tasks' losses."""
        self.inner.epoch_ended(losses[:, self.columns])

    @torch.no_grad()
    def update(self, losses: Tensor, present: Tensor, gradients: Tensor | None = None) -> Tensor:
        """Take a step of the inner balancer, `[branches, T]`."""
        if gradients is not None and gradients.shape == losses.shape:
            gradients = gradients[:, self.columns]
        elif gradients is not None:
            num_branches, num_tasks = losses.shape
            rows = (torch.arange(num_branches, device=losses.device)[:, None] * num_tasks + self.columns).flatten()
            gradients = gradients[rows][:, rows]
        inner = self.inner.update(losses[:, self.columns], present[:, self.columns], gradients)
        self.weights.copy_(self._joined(inner))
        return self.weights
