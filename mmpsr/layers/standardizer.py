"""Standardisation of features with the training clips' statistics, kept with the model's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Standardizer"]


class Standardizer(nn.Module):
    """Standardises each column, and gives zero for clips that lack the modality.

        y = (x - mean) / std

    Before `fit` it passes features unchanged. The statistics are buffers: saved with the weights, not trained.

    Args:
        width: D, width of the vectors.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    @torch.no_grad()
    def fit(self, features_ND: Tensor, present_N: Tensor) -> None:
        """Take mean and population standard deviation of the present rows; constant columns keep std 1.

        Args:
            features_ND: float `[N, D]`, training clips only.
            present_N: bool `[N]`.

        Raises:
            ValueError: the widths differ, or a present row holds NaN or infinity.
        """
        if features_ND.shape[1] != self.mean.shape[0]:
            raise ValueError(f"features are {features_ND.shape[1]} wide, the standardizer {self.mean.shape[0]}")
        rows = features_ND[present_N].double()
        if len(rows) == 0:
            return
        if not torch.isfinite(rows).all():
            raise ValueError("a present row of features holds NaN or infinity; extract it again")
        std = rows.std(dim=0, unbiased=False)
        floor = 1e-6 * rows.abs().mean(dim=0).clamp(min=1e-6)
        self.mean.copy_(rows.mean(dim=0))
        self.std.copy_(torch.where(std > floor, std, torch.ones_like(std)))

    def forward(self, features_BD: Tensor, present_B: Tensor) -> Tensor:
        """Standardise `[B, D]`; rows that are not present become zero whatever they hold."""
        standardized = (features_BD - self.mean) / self.std
        return torch.where(present_B.unsqueeze(1), standardized, 0.0)
