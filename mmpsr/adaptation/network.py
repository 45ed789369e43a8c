"""The network that is adapted where vectors are stored and pictures are not: a bottleneck and a classifier upon them.

B rows, D width of the stored vectors, H of the bottleneck, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from mmpsr.layers.standardizer import Standardizer

__all__ = ["FeatureNetwork"]


class FeatureNetwork(nn.Module):
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

    def __init__(self, width: int, bottleneck: int = 256, num_classes: int = 2) -> None:
        super().__init__()
        self.standardizer = Standardizer(width)
        self.bottleneck = nn.Sequential(nn.Linear(width, bottleneck), nn.BatchNorm1d(bottleneck))
        self.classifier = weight_norm(nn.Linear(bottleneck, num_classes))

    def standardize(self, features_BD: Tensor) -> Tensor:
        """Standardise stored vectors as the source rows were."""
        everywhere = torch.ones(len(features_BD), dtype=torch.bool, device=features_BD.device)
        standardized: Tensor = self.standardizer(features_BD, everywhere)
        return standardized

    def embed(self, features_BD: Tensor) -> Tensor:
        """Compute the bottleneck's output, `[B, H]`."""
        embedded: Tensor = self.bottleneck(self.standardize(features_BD))
        return embedded

    def forward(self, features_BD: Tensor) -> Tensor:
        """Compute logits, `[B, C]`."""
        logits: Tensor = self.classifier(self.embed(features_BD))
        return logits

    @torch.no_grad()
    def outputs(self, features_ND: Tensor, batch_size: int = 4096) -> tuple[Tensor, Tensor]:
        """Compute the bottleneck's output `[N, H]` and probabilities `[N, C]` in evaluation mode, without gradient."""
        modes = [(part, part.training) for part in self.modules()]  # not all alike where statistics stay
        self.eval()
        embedded = torch.cat([self.embed(part) for part in features_ND.split(batch_size)])
        probabilities = self.classifier(embedded).softmax(dim=1)
        for part, mode in modes:
            part.training = mode
        return embedded, probabilities
