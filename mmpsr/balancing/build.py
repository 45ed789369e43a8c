"""The balancer that a configuration names; the only module that knows them all."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mmpsr.balancing.base import Balancer
from mmpsr.balancing.config import BalancingConfig
from mmpsr.balancing.gradient_based import METHODS, ConflictResolution
from mmpsr.balancing.gradnorm import EqualWeights, GradNorm
from mmpsr.balancing.loss_based import AveragedRates, RandomWeights, Uncertainty
from mmpsr.balancing.shared_alone import SharedAlone
from mmpsr.config import ConfigError, nearest

__all__ = ["create_balancer"]


def create_balancer(
    keys: Sequence[tuple[str, str]], config: BalancingConfig, own_trunks: Collection[str] = ()
) -> Balancer:
    """Create the balancer for loss terms in the order branch by branch, tasks within.

    Args:
        keys: branch and task of the losses.
        config: method and its settings.
        own_trunks: tasks that share nothing, and so are not balanced; see `SharedAlone`.

    Raises:
        ConfigError: `weights` names a task that is not there, or a method's library is missing.
    """
    branches = list(dict.fromkeys(branch for branch, _ in keys))
    tasks = [task for _, task in keys][: len(keys) // len(branches)]
    for name in config.weights:
        if name not in tasks:
            raise ConfigError(f"balancing.weights: no task is named {name!r}; {nearest(name, tasks)}")
    if own_trunks:
        factors = [config.weights.get(task, 1.0) if config.method == "fixed" else 1.0 for task in tasks]
        kept = config.model_copy(update={"weights": {k: w for k, w in config.weights.items() if k not in own_trunks}})
        inner = create_balancer([key for key in keys if key[1] not in own_trunks], kept)
        return SharedAlone(inner, [task not in own_trunks for task in tasks], factors, config)
    if config.method == "fixed":
        by_task = [config.weights.get(task, 1.0) for task in tasks]
        return EqualWeights(len(branches), len(tasks), config, by_task)
    classes: dict[str, type[Balancer]] = {
        "equal": EqualWeights,
        "gradnorm": GradNorm,
        "uncertainty": Uncertainty,
        "dwa": AveragedRates,
        "random": RandomWeights,
        **dict.fromkeys(METHODS, ConflictResolution),
    }
    return classes[config.method](len(branches), len(tasks), config)
