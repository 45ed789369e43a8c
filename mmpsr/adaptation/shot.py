"""SHOT: the classifier stays, and features move until they look sure and diverse to it.

B rows of a batch, N of all target rows, H width of the bottleneck, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mmpsr.adaptation.base import AfterEpoch, Method, Source, Target
from mmpsr.adaptation.loops import batches, begin_training, falling_rate, set_rate, sgd, take_step
from mmpsr.adaptation.network import AdaptedNetwork

__all__ = ["EPSILON", "Shot", "centroid_labels", "information_term"]

EPSILON = 1e-5
"""Stands inside every logarithm of a probability."""


def information_term(probabilities_BC: Tensor) -> Tensor:
    """Compute what makes rows sure, each by itself, and diverse together.

        -mean_i sum_c p_ic log(p_ic + 1e-5) + sum_c pbar_c log(pbar_c + 1e-5),   pbar = mean_i p_i

    The second part is least where all classes are equally frequent, which is wrong for a person who rarely shows one.

    Example:
        >>> round(float(information_term(torch.tensor([[0.9, 0.1], [0.4, 0.6]]))), 4)
        -0.1484
    """
    mean_C = probabilities_BC.mean(dim=0)
    entropy = -(probabilities_BC * (probabilities_BC + EPSILON).log()).sum(dim=1).mean()
    return entropy + (mean_C * (mean_C + EPSILON).log()).sum()


def centroid_labels(features_NH: Tensor, probabilities_NC: Tensor) -> Tensor:
    """Give each row the class whose centroid is nearest, int64 `[N]`.

        f_i = (z_i, 1) / |(z_i, 1)|,   mu_c = sum_i p_ic f_i / sum_i p_ic,   label_i = argmax_c cos(f_i, mu_c)

    twice: first with the probabilities p, then with the labels found, one-hot. A class that no row has, by its most
    probable class or its label, has no centroid and gets no row.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.2], [0.0, 1.0], [0.3, 0.8]])
        >>> present = torch.tensor([0.1, 0.4, 0.3, 0.8])
        >>> centroid_labels(features, torch.stack([1 - present, present], dim=1)).tolist()
        [0, 0, 1, 1]
    """
    ones = torch.ones_like(features_NH[:, :1])
    units = functional.normalize(torch.cat([features_NH, ones], dim=1), dim=1)
    weights, num_classes = probabilities_NC, probabilities_NC.shape[1]
    labels = probabilities_NC.argmax(dim=1)
    for _ in range(2):
        members = torch.bincount(labels, minlength=num_classes) > 0
        centroids = weights.T @ units / (weights.sum(dim=0).unsqueeze(1) + 1e-8)
        cosines = units @ functional.normalize(centroids, dim=1).T
        labels = cosines.masked_fill(~members, -torch.inf).argmax(dim=1)
        weights = functional.one_hot(labels, num_classes).to(units.dtype)
    return labels


class Shot(Method):
    """Source hypothesis transfer: no source row is read, and the classifier is frozen.

        L = mean entropy of p - entropy of mean p + 0.3 cross-entropy(pseudo-labels)

    Pseudo-labels are those of `centroid_labels` over all rows that are adapted to, in evaluation mode, made anew 15
    times.

    References:
        Liang, Hu, Feng: Do we really need to access the source data? Source hypothesis transfer for unsupervised domain
        adaptation. ICML 2020.
    """

    def adapt(
        self,
        network: AdaptedNetwork,
        target: Target,
        source: Source | None,
        generator: torch.Generator,
        after_epoch: AfterEpoch,
    ) -> None:
        """Take its steps; see `Method.adapt`."""
        own, extra = self.config.source_free, self.config.shot
        network.classifier.requires_grad_(False)
        optimizer = sgd(network, own, nesterov=True)
        step, labels = 0, torch.empty(0, dtype=torch.int64)
        for epoch in range(own.num_epochs):
            dealt = batches(torch.arange(len(target)), own.batch_size, generator)
            num_steps = own.num_epochs * len(dealt)
            begin_training(network, self.config)
            for rows in dealt:
                if step % max(1, num_steps // extra.num_renewals) == 0:
                    labels = centroid_labels(*network.outputs(target.features))
                set_rate(optimizer, falling_rate(own.lr, step, num_steps))
                logits = network(target.features[rows])
                loss = information_term(logits.softmax(dim=1))
                loss = loss + extra.pseudo_weight * functional.cross_entropy(logits, labels[rows])
                take_step(optimizer, loss)
                step += 1
            network.eval()
            after_epoch(epoch + 1)
        network.classifier.requires_grad_(True)
