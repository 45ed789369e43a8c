"""What a balancer of loss terms can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmpsr.config import Config

__all__ = ["LOSSES_ALONE", "BalancingConfig"]

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
