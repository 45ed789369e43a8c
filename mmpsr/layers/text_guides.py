"""Guide banks of texts: a task's classes as points of a text encoder's space, tied to their texts or trained from them.

Shape suffixes: B clips, M modalities, P poles (1, or for regression high and low), C classes or traits, W width of the
space, D width of a modality's vectors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.layers.recorded import per_clip

__all__ = ["TextGuides"]


class _Guides(nn.Module):
    """The points of one modality: embedded texts, and what training has moved them by."""

    points: Tensor

    def __init__(self, points_PCW: Tensor, trained: bool) -> None:
        super().__init__()
        self.register_buffer("points", points_PCW.float().clone())
        self.offsets = nn.Parameter(torch.zeros_like(self.points)) if trained else None

    def forward(self, vectors_BD: Tensor) -> Tensor:
        """Compute similarities, `[B, C]`."""
        guides_BPCW = self.points.unsqueeze(0)
        if self.offsets is not None:
            scale = (self.points - self.points.mean(dim=(0, 1))).square().mean().sqrt()
            # without gradients one copy serves all clips
            copies = vectors_BD.shape[0] if torch.is_grad_enabled() else 1
            guides_BPCW = guides_BPCW + scale * per_clip(self.offsets, copies)
        middle_BW = guides_BPCW.mean(dim=(1, 2))
        seen_BW = functional.normalize(vectors_BD[:, : self.points.shape[2]].to(self.points.dtype), dim=1) - middle_BW
        guides_BPCW = functional.normalize(guides_BPCW - middle_BW[:, None, None], dim=3)
        near_BPC = (functional.normalize(seen_BW, dim=1)[:, None, None] @ guides_BPCW.mT).squeeze(2)
        return near_BPC[:, 0] - near_BPC[:, 1] if near_BPC.shape[1] == 2 else near_BPC[:, 0]


class TextGuides(nn.ModuleDict):
    """How near a clip's words are to the points of a task's classes, seen from the middle of these points.

        s_c = mean over present text modalities of cos(unit(x) - m, g_c - m),   m = mean of all g
        g = embedded text + scale * offset,   scale = root mean square of the embedded texts - their mean

    and for traits s_high - s_low. Offsets start at zero, so that weight decay draws the points towards their texts; the
    scale lets one step turn them as far as guides of unit variance. A clip without any of the modalities gets zeros.

    Args:
        points: by modality `[P, C, W]`, see `mmpsr.prototypes.points.embed_prototypes`.
        trained: whether there are offsets; without them the points stay at the texts.
    """

    def __init__(self, points: Mapping[str, Tensor], trained: bool) -> None:
        super().__init__({name: _Guides(each, trained) for name, each in points.items()})

    def forward(self, vectors: Mapping[str, Tensor], presence_BM: Tensor) -> Tensor:
        """Compute similarities, `[B, C]`, within [-1, 1], for traits within [-2, 2].

        Args:
            vectors: of all modalities `[B, D]`, not standardised, whose first W numbers are the mean over tokens.
            presence_BM: bool, modalities in the same order.
        """
        names, near, there = list(vectors), [], []
        for name, guides in self.items():
            there_B1 = presence_BM[:, names.index(name)].unsqueeze(1)
            near.append(guides(torch.where(there_B1, vectors[name], 0.0)).masked_fill(~there_B1, 0.0))
            there.append(there_B1)
        return torch.stack(near).sum(dim=0) / torch.stack(there).sum(dim=0).clamp(min=1)
