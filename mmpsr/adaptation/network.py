"""What a network that is adapted can do, and the one for stored vectors: a bottleneck and a classifier upon them.

B rows, D width of the stored vectors, H of the bottleneck, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from mmpsr.layers.standardizer import Standardizer

__all__ = ["AdaptedNetwork", "FeatureNetwork", "Rows", "bottleneck_of", "classifier_of"]


class Rows(Protocol):
    """What a network is given of rows: a tensor, or what reads some of them when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...

    def split(self, split_size: int, /) -> Iterable[Tensor]:
        """Give all rows, so many at a time."""


def bottleneck_of(width: int, bottleneck: int) -> nn.Sequential:
    """Make `z = BatchNorm(W x + b)`."""
    return nn.Sequential(nn.Linear(width, bottleneck), nn.BatchNorm1d(bottleneck))


def classifier_of(bottleneck: int, num_classes: int) -> nn.Module:
    """Make the weight-normed `logits = g v / |v| z + c`."""
    classifier: nn.Module = weight_norm(nn.Linear(bottleneck, num_classes))
    return classifier


class AdaptedNetwork(nn.Module, ABC):
    """A network that methods adapt: rows are embedded, and a classifier decides upon the embeddings."""

    classifier: nn.Module
    most_rows: ClassVar[int]
    """Rows of a forward pass in evaluation."""

    @abstractmethod
    def embed(self, rows: Tensor) -> Tensor:
        """Embed rows as z, `[B, H]`."""

    @abstractmethod
    def groups(self, reads_source: bool) -> list[tuple[float, list[nn.Parameter]]]:
        """List parameters by the factor of their learning rate.

        Args:
            reads_source: of the training of methods that read source rows, and of the oracle; else of the others.
        """

    def forward(self, rows: Tensor) -> Tensor:
        """Compute logits, `[B, C]`."""
        logits: Tensor = self.classifier(self.embed(rows))
        return logits

    @torch.no_grad()
    def outputs(self, rows: Rows, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
        """Compute embeddings `[N, H]` and probabilities `[N, C]` in evaluation mode, without gradient."""
        modes = [(part, part.training) for part in self.modules()]  # not all alike where statistics stay
        self.eval()
        embedded = torch.cat([self.embed(part) for part in rows.split(batch_size or self.most_rows)])
        probabilities = self.classifier(embedded).softmax(dim=1)
        for part, mode in modes:
            part.training = mode
        return embedded, probabilities


class FeatureNetwork(AdaptedNetwork):
    """Form `features`: the encoder is left as it is, and what stands above it is adapted.

        z = BatchNorm(W x + b),   logits = g v / |v| z + c

    with x standardised by the source rows, which is ours: stored vectors come in all scales. W is `[H, D]`, g `[C, 1]`,
    v `[C, H]`. In evaluation BatchNorm's statistics are averages of the training steps, those of adaptation too.

    Args:
        width: D.
        bottleneck: H.
        num_classes: C.

    References:
        Liang, Hu, Feng: Do we really need to access the source data? Source hypothesis transfer for unsupervised domain
        adaptation. ICML 2020.
        Salimans, Kingma: Weight normalization. NeurIPS 2016.

    Example:
        >>> network = FeatureNetwork(768)
        >>> [sum(p.numel() for p in part.parameters()) for part in (network.bottleneck, network.classifier)]
        [197376, 516]
    """

    most_rows = 4096

    def __init__(self, width: int, bottleneck: int = 256, num_classes: int = 2) -> None:
        super().__init__()
        self.standardizer = Standardizer(width)
        self.bottleneck = bottleneck_of(width, bottleneck)
        self.classifier = classifier_of(bottleneck, num_classes)

    @classmethod
    def fitted(cls, features_ND: Tensor, bottleneck: int = 256, num_classes: int = 2) -> FeatureNetwork:
        """Make a network that standardises as some rows are, on their device."""
        network = cls(features_ND.shape[1], bottleneck, num_classes).to(features_ND.device)
        everywhere = torch.ones(len(features_ND), dtype=torch.bool, device=features_ND.device)
        network.standardizer.fit(features_ND, everywhere)
        return network

    def standardize(self, features_BD: Tensor) -> Tensor:
        """Standardise stored vectors as the source rows were."""
        everywhere = torch.ones(len(features_BD), dtype=torch.bool, device=features_BD.device)
        standardized: Tensor = self.standardizer(features_BD, everywhere)
        return standardized

    def embed(self, rows: Tensor) -> Tensor:
        """Compute the bottleneck's output, `[B, H]`, of stored vectors `[B, D]`."""
        embedded: Tensor = self.bottleneck(self.standardize(rows))
        return embedded

    def groups(self, reads_source: bool) -> list[tuple[float, list[nn.Parameter]]]:
        """Train everything at one rate."""
        return [(1.0, list(self.parameters()))]
