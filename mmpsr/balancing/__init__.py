"""Balancing of loss terms: one scalar out of T tasks and two branches.

    loss = sum over branches b and tasks t of w_bt L_bt

`gradnorm` (and fixed weights), `loss_based` and `gradient_based` set w; `loss_gradients` computes norms and inner
products of the terms' gradients in one backward pass; `build` makes the configured method.
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from mmpsr.balancing.base import Balancer, Need
    from mmpsr.balancing.build import create_balancer
    from mmpsr.balancing.config import LOSSES_ALONE, BalancingConfig
else:
    __getattr__ = on_demand(__name__, "base", "build", "config")

__all__ = ["LOSSES_ALONE", "Balancer", "BalancingConfig", "Need", "create_balancer"]
