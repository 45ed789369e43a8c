"""Batch normalisation over the frames that there are.

Shape suffixes: B clips, T frames, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MaskedBatchNorm"]


class MaskedBatchNorm(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` over clips and frames, in which padding counts for nothing.

        y = gain (x - mean) / sqrt(var + eps) + bias

    In training mean and var (population) are those of the frames that the mask marks, in evaluation those that have
    been gathered; these take the unbiased variance, as those of `BatchNorm1d` do. A batch without any frame leaves
    them as they are.

    Args:
        num_features: D.

    References:
        Ioffe, Szegedy: Batch normalization: accelerating deep network training by reducing internal covariate shift.
        ICML 2015.

    Example:
        >>> norm = MaskedBatchNorm(1)
        >>> values, mask = torch.tensor([[[1.0], [3.0], [99.0]]]), torch.tensor([[True, True, False]])
        >>> norm(values, mask)[0, :2, 0].round(decimals=3).tolist()  # (1 - 2) / 1, (3 - 2) / 1
        [-1.0, 1.0]
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)

    def forward(self, values_BTD: Tensor, mask_BT: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise `[B, T, D]`; frames outside the mask are normalised, too, but change nothing.

        Args:
            values_BTD: finite, outside the mask as well.
            mask_BT: bool, which frames there are.
        """
        if not self.training:
            normalized = functional.batch_norm(
                values_BTD.flatten(0, 1), self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
            return normalized.view_as(values_BTD)
        there_BT1 = mask_BT.unsqueeze(-1).to(values_BTD.dtype)
        number = there_BT1.sum()
        mean_D = (values_BTD * there_BT1).sum(dim=(0, 1)) / number.clamp(min=1)
        deviations_BTD = values_BTD - mean_D
        var_D = (deviations_BTD.square() * there_BT1).sum(dim=(0, 1)) / number.clamp(min=1)
        self._gather(mean_D.detach(), var_D.detach(), number)
        return deviations_BTD * (self.weight * (var_D + self.eps).rsqrt()) + self.bias

    @torch.no_grad()
    def _gather(self, mean_D: Tensor, var_D: Tensor, number: Tensor) -> None:
        rate = (self.momentum or 0.0) * (number > 0).to(mean_D.dtype)
        self.running_mean.lerp_(mean_D, rate)
        self.running_var.lerp_(var_D * number / (number - 1).clamp(min=1), rate)
        self.num_batches_tracked += 1
