"""Balancing of loss terms: fixed weights, and GradNorm in two independent branches.

Further methods are in `mmpsr.weighting` (from losses alone) and `mmpsr.aggregation` (from conflicts of gradients).

T tasks of a branch. All methods work on tensors of shape `[branches, T]`, and those here never wait for the device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmpsr.config import Config, ConfigError, nearest

__all__ = ["LOSSES_ALONE", "Balancer", "BalancingConfig", "EqualWeights", "GradNorm", "Need", "create_balancer"]


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


class Balancer(nn.Module, ABC):
    """Weights of loss terms by branch and task."""

    weights: Tensor
    """`[branches, T]`, part of the checkpoint."""
    tower_weights: Tensor | None = None
    """Weights for the parameters of single tasks, where they differ from those for the shared ones."""
    last_layer = False
    """Whether gradients of the last shared layer stand for those of all shared parameters."""

    def needs(self, step: int) -> Need:
        """What `update` takes at a step (from 0): nothing, gradient norms, or inner products of gradients."""
        return "nothing"

    def epoch_ended(self, losses: Tensor) -> None:
        """Take note of an epoch's mean losses, `[branches, T]`, NaN where none counted."""

    @abstractmethod
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


def base_weights(num_branches: int, num_tasks: int, config: BalancingConfig) -> Tensor:
    """1 for supervised terms, lambda for pseudo-label terms, `[branches, T]`."""
    return torch.tensor([1.0, config.pseudo_weight])[:num_branches].unsqueeze(1).repeat(1, num_tasks)


class EqualWeights(Balancer):
    """Constant weights: 1 for supervised terms, lambda for pseudo-label terms; by task where some are given.

    Args:
        num_branches: 1 or 2.
        num_tasks: T.
        config: lambda.
        by_task: a factor for each task.
    """

    def __init__(
        self, num_branches: int, num_tasks: int, config: BalancingConfig, by_task: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        weights = base_weights(num_branches, num_tasks, config)
        self.register_buffer("weights", weights if by_task is None else weights * torch.tensor(by_task))

    def update(self, losses: Tensor, present: Tensor, gradients: Tensor | None = None) -> Tensor:
        """The weights, `[branches, T]`."""
        return self.weights


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
        self.last_layer = config.cost == "last_layer"
        self.every = config.every if config.cost == "every_k" else 1

    def needs(self, step: int) -> Need:
        """Norms, at the steps at which the weights are updated."""
        return "norms" if step % self.every == 0 else "nothing"

    @torch.no_grad()
    def update(self, losses: Tensor, present: Tensor, gradients: Tensor | None = None) -> Tensor:
        """The new weights, `[branches, T]`, from norms g_t; the same as before without them."""
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
        scaled = stepped * self.budgets / total.clamp(min=1e-12)
        self.weights.copy_(torch.where(sharing & present.any(dim=1, keepdim=True), scaled, stepped))
        return self.weights


def create_balancer(keys: Sequence[tuple[str, str]], config: BalancingConfig) -> Balancer:
    """The balancer for loss terms in the order branch by branch, tasks within.

    Raises:
        ConfigError: `weights` names a task that is not there, or a method's library is missing.
    """
    from mmpsr.aggregation import METHODS, ConflictResolution
    from mmpsr.weighting import AveragedRates, RandomWeights, Uncertainty

    branches = list(dict.fromkeys(branch for branch, _ in keys))
    tasks = [task for _, task in keys][: len(keys) // len(branches)]
    for name in config.weights:
        if name not in tasks:
            raise ConfigError(f"balancing.weights: no task is named {name!r}; {nearest(name, tasks)}")
    if config.method == "fixed":
        by_task = [config.weights.get(task, 1.0) for task in tasks]
        return EqualWeights(len(branches), len(tasks), config, by_task)
    classes: dict[str, type[Balancer]] = {
        "equal": EqualWeights,
        "gradnorm": GradNorm,
        "uncertainty": Uncertainty,
        "dwa": AveragedRates,
        "random": RandomWeights,
    }
    chosen = ConflictResolution if config.method in METHODS else classes[config.method]
    return chosen(len(branches), len(tasks), config)  # type: ignore[call-arg]
