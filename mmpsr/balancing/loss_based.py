"""Balancing from losses alone: learned uncertainty, rates averaged over epochs, and random weights as a control.

T tasks of a branch; every branch is balanced by itself and keeps its budget, T for the supervised one and lambda T for
the other. Nothing waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmpsr.balancing.base import Balancer, by_branch
from mmpsr.balancing.config import BalancingConfig

__all__ = ["AveragedRates", "RandomWeights", "Uncertainty"]

_NUM_DRAWS = 4096


class Uncertainty(Balancer):
    """Weights from learned log-variances s, times the branch's budget.

        loss = sum_t exp(-s_t) L_t + s_t,   s_t <- s_t - rate (1 - exp(-s_t) L_t),   w_t = exp(-s_t)

    The derivative by s_t is 1 - exp(-s_t) L_t, so weights tend to 1 / L_t; s follows it with GradNorm's step sizes and
    stays within [-5, 5]. A term without a row in the batch keeps its weight.

    References:
        Kendall, Gal, Cipolla: Multi-task learning using uncertainty to weigh losses. CVPR 2018.
    """

    log_variances: Tensor
    rates: Tensor

    def __init__(self, num_branches: int, num_tasks: int, config: BalancingConfig) -> None:
        super().__init__(num_branches, num_tasks, config)
        rates = by_branch(config.rate_supervised, config.rate_pseudo, num_branches)
        self.register_buffer("log_variances", torch.zeros(num_branches, num_tasks))
        self.register_buffer("rates", rates, persistent=False)

    @torch.no_grad()
    def update(self, losses: Tensor, present: Tensor, gradients: Tensor | None = None) -> Tensor:
        """Take a step of the weights, `[branches, T]`."""
        slopes = 1.0 - torch.exp(-self.log_variances) * losses
        slopes = torch.where(present & torch.isfinite(losses), slopes, 0.0)
        self.log_variances.copy_((self.log_variances - self.rates * slopes).clamp(-5.0, 5.0))
        self.weights.copy_(self.budgets * torch.exp(-self.log_variances))
        return self.weights


class AveragedRates(Balancer):
    """Dynamic weight average: weights from how a task's mean loss changed over the last two epochs.

        w = T softmax(r / 2),   r_t = L_t(last epoch) / L_t(epoch before)

    Tasks whose loss falls slower weigh more. Weights are constant within an epoch, and equal in the first two; a term
    that had no row in one of the two has r_t = 1.

    References:
        Liu, Johns, Davison: End-to-end multi-task learning with attention. CVPR 2019.
    """

    previous: Tensor

    def __init__(self, num_branches: int, num_tasks: int, config: BalancingConfig) -> None:
        super().__init__(num_branches, num_tasks, config)
        self.register_buffer("previous", torch.full((num_branches, num_tasks), torch.nan))

    @torch.no_grad()
    def epoch_ended(self, losses: Tensor) -> None:
        """Set the next epoch's weights."""
        ratios = (losses / self.previous.clamp(min=1e-12)).nan_to_num(nan=1.0, posinf=1.0)
        shares = torch.softmax(ratios / 2.0, dim=1)
        self.weights.copy_(self.budgets * shares * losses.shape[1])
        self.previous.copy_(losses)


class RandomWeights(Balancer):
    """Random loss weighting, new at every step; a control for other methods.

        w = T softmax(z),   z_t standard normal

    The draws are made when the balancer is, so that all processes and a resumed run have the same ones; they repeat
    after 4,096 steps.

    References:
        Lin, Ye, Zhang, Tsang: Reasonable effectiveness of random weighting. TMLR 2022.
    """

    draws: Tensor
    num_steps: Tensor

    def __init__(self, num_branches: int, num_tasks: int, config: BalancingConfig) -> None:
        super().__init__(num_branches, num_tasks, config)
        self.register_buffer("draws", torch.randn(_NUM_DRAWS, num_branches, num_tasks))
        self.register_buffer("num_steps", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def update(self, losses: Tensor, present: Tensor, gradients: Tensor | None = None) -> Tensor:
        """Draw new weights, `[branches, T]`."""
        draws_BT = self.draws.index_select(0, self.num_steps % _NUM_DRAWS)[0]
        self.num_steps += 1
        self.weights.copy_(self.budgets * torch.softmax(draws_BT, dim=1) * draws_BT.shape[1])
        return self.weights
