"""Balancing that resolves conflicts between the gradients of single losses, by torchjd's methods.

All methods need only the inner products of the gradients over the shared parameters, which one backward pass gives
(`mmpsr.balancing.loss_gradients`). Shared parameters get the gradient that a method combines; parameters of a single
task keep the plain weights of its losses, 1 and lambda.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmpsr.balancing.base import Balancer, Need
from mmpsr.balancing.config import BalancingConfig
from mmpsr.config import ConfigError

__all__ = ["METHODS", "ConflictResolution"]

METHODS = ("pcgrad", "cagrad", "aligned_mtl", "imtl_g", "mgda", "upgrad")


def _weighting(method: str) -> Callable[[Tensor], Tensor]:
    try:
        from torchjd import aggregation

        return {
            "pcgrad": aggregation.PCGradWeighting,
            "cagrad": lambda: aggregation.CAGradWeighting(c=0.5),
            "aligned_mtl": aggregation.AlignedMTLWeighting,
            "imtl_g": aggregation.IMTLGWeighting,
            "mgda": aggregation.MGDAWeighting,
            "upgrad": aggregation.UPGradWeighting,
        }[method]()
    except ImportError as error:
        raise ConfigError(
            f"balancing.method = {method!r} needs a library that is not installed ({error}); "
            'in the repository: pip install ".[balancing]"'
        ) from error


class ConflictResolution(Balancer):
    """Weights of the losses in the batch by a method on the Gramian of their gradients.

        w = method(G G^T) of gradients G, a row for each loss;   shared gradient = w^T G

    Gradients are scaled by 1 or lambda first; the method's weights are scaled to sum to the number of losses in the
    batch, as plain ones do, and are plain where that sum is not positive. The decision is made on the CPU, so each step
    waits for the device.

    Args:
        num_branches: 1 or 2.
        num_tasks: T.
        config: the method's name and lambda.

    Raises:
        ConfigError: torchjd, or what a method needs besides, is not installed.

    References:
        Yu et al.: Gradient surgery for multi-task learning (pcgrad). NeurIPS 2020.
        Liu et al.: Conflict-averse gradient descent (cagrad). NeurIPS 2021.
        Senushkin et al.: Independent component alignment for multi-task learning (aligned_mtl). CVPR 2023.
        Liu et al.: Towards impartial multi-task learning (imtl_g). ICLR 2021.
        Sener, Koltun: Multi-task learning as multi-objective optimization (mgda). NeurIPS 2018.
        Quinton, Rey: Jacobian descent for multi-objective optimization (upgrad). 2024.
    """

    num_steps: Tensor

    def __init__(self, num_branches: int, num_tasks: int, config: BalancingConfig) -> None:
        super().__init__(num_branches, num_tasks, config)
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        self.weighting = _weighting(config.method)

    @property
    def tower_weights(self) -> Tensor:  # type: ignore[override]
        """1 for supervised terms, lambda for pseudo-label terms."""
        return self.budgets

    def needs(self, step: int) -> Need:
        """Ask for inner products, at every step."""
        return "gramian"

    @torch.no_grad()
    def update(self, losses: Tensor, present: Tensor, gradients: Tensor | None = None) -> Tensor:
        """Set the weights for shared parameters, `[branches, T]`, from the gradients' inner products."""
        assert gradients is not None
        self.num_steps += 1
        budgets = self.budgets.flatten().double().cpu()
        products = gradients.double().cpu() * budgets.unsqueeze(1) * budgets
        rows = (present.flatten().cpu() & (products.diagonal() > 0)).nonzero().flatten()
        weights = budgets.clone()
        if len(rows) > 1:
            products = products[rows][:, rows]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(self.num_steps))  # orders drawn by a method are the same in all processes
                factors = self.weighting(products / products.diagonal().mean())
            if bool(torch.isfinite(factors).all()) and float(factors.sum()) > 0:
                weights[rows] *= factors * len(rows) / factors.sum()
        self.weights.copy_(weights.view_as(self.weights))
        return self.weights
