"""What all methods train with: batches of rows, and learning rates that fall.

B rows of a batch, N rows of all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD

from mmpsr.adaptation.base import AdaptationConfig, SourceConfig, SourceFreeConfig, WithSourceConfig
from mmpsr.adaptation.network import AdaptedNetwork

__all__ = [
    "balanced_rows", "batches", "begin_training", "cosine_rate", "falling_rate", "seeded", "set_rate", "sgd",
    "take_step",
]  # fmt: skip


def batches(rows_N: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
    """Deal rows into batches at random; a last batch of one row, of which BatchNorm knows no variance, is left out.

    Args:
        rows_N: int64, on the CPU.
        size: B.
        generator: of the order.

    Example:
        >>> [len(batch) for batch in batches(torch.arange(9), 4, torch.Generator())]
        [4, 4]
    """
    shuffled = rows_N[torch.randperm(len(rows_N), generator=generator)]
    return [batch for batch in shuffled.split(size) if len(batch) > 1]


def balanced_rows(labels_N: Tensor, generator: torch.Generator, balanced: bool = True) -> Tensor:
    """Draw of each class as many rows as the rarest has, without replacement; all rows where this is not asked for.

    Args:
        labels_N: int64, on the CPU.
        generator: of the draw.
        balanced: whether to draw.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> labels[balanced_rows(labels, torch.Generator())].tolist()
        [0, 0, 1, 1]
    """
    if not balanced:
        return torch.arange(len(labels_N))
    rows = [torch.nonzero(labels_N == label).flatten() for label in labels_N.unique()]
    fewest = min(map(len, rows))
    return torch.cat([part[torch.randperm(len(part), generator=generator)[:fewest]] for part in rows])


def sgd(network: AdaptedNetwork, config: SourceConfig | SourceFreeConfig | WithSourceConfig, nesterov: bool) -> SGD:
    """Make the optimizer: stochastic gradient descent with momentum, parts of the network at rates of their own."""
    groups = network.groups(isinstance(config, WithSourceConfig))
    return SGD(
        [
            {"params": [each for each in parameters if each.requires_grad], "factor": factor, "lr": factor * config.lr}
            for factor, parameters in groups
        ],
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=nesterov and config.momentum > 0.0,
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed what is drawn inside without a generator, as by dropout; what follows draws as if nothing had been."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def begin_training(network: AdaptedNetwork, config: AdaptationConfig) -> None:
    """Put a network into training mode; with `statistics = "source"` BatchNorm stays as it is in evaluation."""
    network.train()
    if config.statistics == "source":
        for part in network.modules():
            if isinstance(part, _BatchNorm):
                part.eval()


def take_step(optimizer: SGD, loss: Tensor) -> None:
    """Take one step of the optimizer down the gradient of a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def set_rate(optimizer: SGD, rate: float) -> None:
    """Set the learning rate, of which each group of parameters has its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def cosine_rate(config: WithSourceConfig, epoch: int) -> float:
    """Give the learning rate of an epoch, counted from 0, of methods that read source rows.

        lr_e = final + (lr - final) (1 + cos(pi e / E)) / 2

    Example:
        >>> [f"{cosine_rate(WithSourceConfig(), epoch):.2e}" for epoch in (0, 5, 10)]
        ['2.00e-04', '1.10e-04', '2.00e-05']
    """
    share = (1 + math.cos(math.pi * epoch / config.num_epochs)) / 2
    return config.final_lr + (config.lr - config.final_lr) * share


def falling_rate(lr: float, step: int, num_steps: int) -> float:
    """Give the learning rate of a step, counted from 0, of source-free methods.

        lr_s = lr (1 + 10 s / S)^-0.75

    Example:
        >>> [round(falling_rate(1.0, step, 10), 6) for step in (0, 5, 10)]
        [1.0, 0.260847, 0.16556]
    """
    return float(lr * (1 + 10 * step / num_steps) ** -0.75)
