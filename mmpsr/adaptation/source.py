"""The network that everybody begins from, and the two ends of the scale: no adaptation, and labels.

N rows, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mmpsr.adaptation.base import AdaptationConfig, AfterEpoch, LabeledTarget, Method, Source, Target
from mmpsr.adaptation.loops import (
    balanced_rows,
    batches,
    begin_training,
    cosine_rate,
    falling_rate,
    seeded,
    set_rate,
    sgd,
    take_step,
)
from mmpsr.adaptation.network import AdaptedNetwork, FeatureNetwork

__all__ = ["Oracle", "SourceOnly", "fit_source"]


def fit_source(
    source: Source,
    config: AdaptationConfig,
    seed: int,
    score: Callable[[AdaptedNetwork], float] | None = None,
    create: Callable[[], AdaptedNetwork] | None = None,
) -> AdaptedNetwork:
    """Fit a network to people with labels, and keep the epoch that does best on others.

        L = cross-entropy with labels (1 - s) y + s / C

    Args:
        source: their rows.
        config: `source`, and the width of the bottleneck.
        seed: of weights and batches.
        score: of a network in evaluation mode, higher is better; of equal epochs the later is kept. Without it, and
            where it is never a number, the last epoch is.
        create: makes what is fitted, on the device of the rows; left out, a `FeatureNetwork` for two classes.

    Returns:
        The network, in evaluation mode.
    """
    with seeded(seed):
        return _fitted(source, config, seed, score, create or (lambda: _of_vectors(source, config)))


def _of_vectors(source: Source, config: AdaptationConfig) -> AdaptedNetwork:
    if not isinstance(source.features, Tensor):
        raise TypeError("rows that are no vectors need a network of their own; give fit_source one by create")
    return FeatureNetwork.fitted(source.features, config.width)


def _fitted(
    source: Source,
    config: AdaptationConfig,
    seed: int,
    score: Callable[[AdaptedNetwork], float] | None,
    create: Callable[[], AdaptedNetwork],
) -> AdaptedNetwork:
    network = create()
    own, generator = config.source, torch.Generator().manual_seed(seed)
    optimizer, labels = sgd(network, own, nesterov=True), source.labels.cpu()
    best, kept, step = float("-inf"), None, 0
    for _ in range(own.num_epochs):
        dealt = batches(balanced_rows(labels, generator, own.balanced), own.batch_size, generator)
        network.train()
        for rows in dealt:
            set_rate(optimizer, falling_rate(own.lr, step, own.num_epochs * len(dealt)))
            loss = functional.cross_entropy(
                network(source.features[rows]), source.labels[rows], label_smoothing=own.label_smoothing
            )
            take_step(optimizer, loss)
            step += 1
        network.eval()
        value = float("nan") if score is None else score(network)
        if value >= best:
            best, kept = value, copy.deepcopy(network.state_dict())
    if kept is not None:
        network.load_state_dict(kept)
    return network.eval()


class SourceOnly(Method):
    """Leaves the source network as it is."""

    def adapt(
        self,
        network: AdaptedNetwork,
        target: Target,
        source: Source | None,
        generator: torch.Generator,
        after_epoch: AfterEpoch,
    ) -> None:
        """Take no step."""


class Oracle(Method):
    """Learns from the person's own labels, which no method of adaptation may: what is the most to be had.

    L = cross-entropy of the target rows, with the steps of the methods that read source rows
    """

    uses_labels = True

    def adapt(
        self,
        network: AdaptedNetwork,
        target: Target,
        source: Source | None,
        generator: torch.Generator,
        after_epoch: AfterEpoch,
    ) -> None:
        """Take its steps; see `Method.adapt`.

        Raises:
            TypeError: the target has no labels.
        """
        if not isinstance(target, LabeledTarget):
            raise TypeError("the oracle needs a LabeledTarget, found a Target without labels")
        own = self.config.with_source
        optimizer = sgd(network, own, nesterov=False)
        for epoch in range(own.num_epochs):
            set_rate(optimizer, cosine_rate(own, epoch))
            begin_training(network, self.config)
            for rows in batches(torch.arange(len(target)), own.batch_size, generator):
                loss = functional.cross_entropy(network(target.features[rows]), target.labels[rows])
                take_step(optimizer, loss)
            network.eval()
            after_epoch(epoch + 1)
