"""Optimizers, learning-rate schedules and gradient clipping.

Everything a step calls stays on the device, and everything that changes over a run is in the state of the optimizer or
of the schedule, so that a resumed run continues exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from mmpsr.config import ConfigError
from training.config import OptimizationConfig

__all__ = ["Adam", "AdamW", "Lion", "Schedule", "build_optimizer", "clip_gradients"]

PLATEAU_FACTOR, PLATEAU_PATIENCE, PLATEAU_FLOOR = 0.5, 2, 1e-7
LION_BETAS = (0.9, 0.99)


class Lion(Optimizer):
    """Steps of equal size in every parameter, by the sign of an interpolated momentum.

    With gradient g and momentum m:  w <- w - lr (sign(b1 m + (1 - b1) g) + decay w),  then  m <- b2 m + (1 - b2) g.
    One state tensor per parameter, where Adam has two. Its learning rate is usually a third to a tenth of AdamW's, and
    its weight decay larger by as much.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: (b1, b2).
        weight_decay: decoupled.

    References:
        Chen et al.: Symbolic discovery of optimization algorithms. NeurIPS 2023.
    """

    def __init__(
        self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = LION_BETAS, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; parameters without a gradient stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            gradients = [parameter.grad for parameter in parameters]
            momenta = [self.state[parameter]["momentum"] for parameter in parameters]
            (beta1, beta2), lr = group["betas"], group["lr"]
            updates = torch._foreach_lerp(momenta, gradients, 1 - beta1)
            torch._foreach_sign_(updates)
            torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
            torch._foreach_add_(parameters, updates, alpha=-lr)
            torch._foreach_lerp_(momenta, gradients, 1 - beta2)
        return loss


class Adam(torch.optim.Adam):
    """Adam in torch's fused kernel, whose lists of tensors are made once rather than at every step of a small model.

    State and steps are those of `torch.optim.Adam`.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        weight_decay: added to gradients.
    """

    decouples: ClassVar[bool] = False

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0) -> None:
        self._lists: list[_Lists] = []
        super().__init__(params, lr, weight_decay=weight_decay, fused=True, decoupled_weight_decay=self.decouples)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._lists = []  # of tensors that are no longer the state's
        super().__setstate__(state)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; parameters without a gradient stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = [[parameter.grad for parameter in group["params"]] for group in self.param_groups]
        is_whole = all(gradient is not None for of_group in gradients for gradient in of_group)
        if not is_whole or not self._lists:
            super().step()
            self._lists = [_Lists.of(group["params"], self.state) for group in self.param_groups] if is_whole else []
            return loss
        for group, lists, of_group in zip(self.param_groups, self._lists, gradients, strict=True):
            lists.step(group, cast(list[Tensor], of_group))
        return loss


class AdamW(Adam):
    """The same with decoupled weight decay, as `torch.optim.AdamW`."""

    decouples = True


@dataclass(frozen=True)
class _Lists:
    """The tensors of a group of parameters that all have a state; their counts of steps are parts of one tensor."""

    parameters: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    counts: tuple[Tensor, ...]
    count: Tensor

    @classmethod
    def of(cls, parameters: Sequence[nn.Parameter], state: Mapping[Tensor, dict[str, Tensor]]) -> _Lists:
        count = torch.stack([state[parameter]["step"] for parameter in parameters])
        counts = count.unbind()
        for parameter, own in zip(parameters, counts, strict=True):
            state[parameter]["step"] = own
        means, squares = ([state[parameter][name] for parameter in parameters] for name in ("exp_avg", "exp_avg_sq"))
        return cls(list(parameters), means, squares, counts, count)

    def step(self, group: Mapping[str, Any], gradients: list[Tensor]) -> None:
        self.count.add_(1)
        kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
        beta1, beta2 = group["betas"]
        kernel(
            self.parameters, gradients, self.means, self.squares, [], self.counts, lr=group["lr"], beta1=beta1,
            beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False, maximize=False,
        )  # fmt: skip


def build_optimizer(model: nn.Module, settings: OptimizationConfig) -> Optimizer:
    """Make the optimizer of everything that is trained.

    A module may hold `learning_rates`, own parameter names to learning rates: these parameters form groups without
    weight decay, after the first group of all others. Frozen parameters are left out.

    Args:
        model: parameters and their `requires_grad`.
        settings: optimizer, learning rate, weight decay and momentum.

    Raises:
        AttributeError: `learning_rates` names a parameter that the module has not.
    """
    own: dict[nn.Parameter, float] = {}
    for module in model.modules():
        rates = cast(dict[str, float], getattr(module, "learning_rates", {}))
        own |= {module.get_parameter(name): rate for name, rate in rates.items()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": [parameter for parameter in trained if parameter not in own]}]
    for rate in dict.fromkeys(own[parameter] for parameter in trained if parameter in own):
        members = [parameter for parameter in trained if own.get(parameter) == rate]
        groups.append({"params": members, "lr": rate, "weight_decay": 0.0})
    lr, decay = settings.lr, settings.weight_decay
    match settings.optimizer:
        case "adam":
            return Adam(groups, lr, decay)
        case "adamw":
            return AdamW(groups, lr, decay)
        case "lion":
            return Lion(groups, lr, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr, weight_decay=decay)
    sgd = torch.optim.SGD(groups, lr, settings.momentum, weight_decay=decay, fused=True)
    for parameter in trained if settings.momentum else ():
        # torch's fused step fails where some parameters of a group get their first gradient later than others
        sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


class Schedule:
    """The learning rate over a run; all groups of the optimizer follow it in proportion.

    With s steps taken of S and W steps of warm-up, `cosine` and `linear` multiply the learning rate by (s + 1)/(W + 1)
    while s < W. Then x = (s - W)/(S - W) goes from 0 to 1, and the factor from 1 to the final fraction f:
    f + (1 - f)(1 + cos(pi x))/2, or f + (1 - f)(1 - x). `onecycle` is torch's: from lr/25 up to lr over 30 % of the
    steps, then down to lr/250,000; the momentum of `adam`, `adamw`, `lion` and `sgd` goes from 0.95 to 0.85 and back.

    Args:
        optimizer: its learning rates are the largest ones; changed from now on.
        settings: which schedule.
        num_steps: S, optimizer steps of the whole run.

    Raises:
        ConfigError: the warm-up is not shorter than the run.

    References:
        Smith, Topin: Super-convergence. 2018 (onecycle). Loshchilov, Hutter: SGDR. ICLR 2017 (cosine).
    """

    def __init__(self, optimizer: Optimizer, settings: OptimizationConfig, num_steps: int) -> None:
        if settings.warmup_steps and settings.warmup_steps >= num_steps:
            raise ConfigError(
                f"training.warmup_steps = {settings.warmup_steps}, but the whole run has {num_steps} steps; "
                "lower it, or raise training.num_epochs"
            )
        self._scheduler: LRScheduler
        match settings.scheduler:
            case "plateau":
                self._scheduler = ReduceLROnPlateau(
                    optimizer, "max", PLATEAU_FACTOR, PLATEAU_PATIENCE, min_lr=PLATEAU_FLOOR
                )
            case "onecycle":
                self._scheduler = OneCycleLR(
                    optimizer,
                    [group["lr"] for group in optimizer.param_groups],
                    total_steps=num_steps,
                    cycle_momentum=settings.optimizer != "rmsprop",
                )
            case _:
                self._scheduler = LambdaLR(optimizer, lambda num_taken: _factor(num_taken, num_steps, settings))

    def step(self) -> None:
        """Follow an optimizer step."""
        if not isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step()

    def epoch_ended(self, value: float) -> None:
        """Follow an epoch, with the dev figure that epochs are chosen by (higher is better)."""
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(value)

    def state_dict(self) -> dict[str, Any]:
        """Give JSON values."""
        return self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state; the optimizer's groups, which hold the learning rates, are loaded by themselves."""
        self._scheduler.load_state_dict(state)


def _factor(num_taken: int, num_steps: int, settings: OptimizationConfig) -> float:
    if settings.scheduler == "none":
        return 1.0
    warmup, final = settings.warmup_steps, settings.final_fraction
    if num_taken < warmup:
        return (num_taken + 1) / (warmup + 1)
    progress = min((num_taken - warmup) / max(num_steps - warmup, 1), 1.0)
    left = (1 + math.cos(math.pi * progress)) / 2 if settings.scheduler == "cosine" else 1 - progress
    return final + (1 - final) * left


def clip_gradients(model: nn.Module, settings: OptimizationConfig) -> Tensor | None:
    """Scale all gradients by max_gradient_norm / norm where their joint norm is larger; nothing waits for the device.

    Returns:
        The norm before clipping, a scalar on the device; None where clipping is off.
    """
    if settings.max_gradient_norm == 0.0:
        return None
    return nn.utils.clip_grad_norm_(model.parameters(), settings.max_gradient_norm)
