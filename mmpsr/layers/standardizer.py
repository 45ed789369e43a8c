"""Standardisation of features with the training clips' statistics, kept with the model's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from mmpsr.layers.by_modality import modality_of

__all__ = ["Standardizer", "restored", "stored_widths"]

ModelT = TypeVar("ModelT", bound=nn.Module)


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


def stored_widths(weights: Mapping[str, Tensor], prefix: str = "standardizers.") -> dict[str, int]:
    """Read the width of each modality's vectors from the standardisers among stored weights."""
    names = [name for name in weights if name.startswith(prefix) and name.endswith(".mean")]
    return {modality_of(name.removeprefix(prefix).removesuffix(".mean")): len(weights[name]) for name in names}


def restored(
    create: Callable[[dict[str, int]], ModelT], modalities: Sequence[str], weights: Mapping[str, Tensor]
) -> ModelT:
    """Restore the trained model that stored weights are of, in evaluation mode.

    Args:
        create: makes the model with random weights, from the width of each modality in the model's order.
        modalities: in the model's order, which names in a file do not keep.
        weights: its state, by name.

    Raises:
        ValueError: the weights are those of another model; what differs is named.
    """
    stored = stored_widths(weights)
    if stored.keys() != set(modalities):
        raise ValueError(f"the weights are of a model of {sorted(stored)}, not of {sorted(modalities)}")
    model = create({name: stored[name] for name in modalities})
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit the configuration: {' '.join(str(error).split())}") from error
    return model.eval()
