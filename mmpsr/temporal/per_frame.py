"""The two plainest models in time: a linear layer on every frame, without and with a TCN before it.

Shape suffixes: B clips, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmpsr.layers.dropout import Dropout
from mmpsr.temporal.base import TemporalModel
from mmpsr.temporal.config import TemporalConfig
from mmpsr.temporal.tcn import Branches

__all__ = ["FrameClassifier", "TCNClassifier"]


class FrameClassifier(TemporalModel):
    """A linear layer on the features of each frame alone: what the paper's models have without context.

        logits = W dropout([f_1; ...; f_M]) + b

    Args:
        widths: of the modalities' features.
        num_classes: C.
        config: dropout.

    References:
        González-González et al.: BAH dataset for ambivalence/hesitancy recognition in videos for behavioural change.
        2025, arXiv:2505.19328.
    """

    whole_clip = True

    def __init__(self, widths: Mapping[str, int], num_classes: int, config: TemporalConfig) -> None:
        super().__init__(widths, num_classes)
        self.receptive_field = 1
        self.head = nn.Sequential(Dropout(config.rate), nn.Linear(sum(widths.values()), num_classes))

    def classify(self, values: Mapping[str, Tensor], there: Mapping[str, Tensor], mask_BT: Tensor) -> Tensor:
        """Give the logits of every frame."""
        return self.head(torch.cat([values[name] for name in self.modalities], dim=-1))


class TCNClassifier(TemporalModel):
    """A temporal convolutional network for each modality, and a linear layer on all of them.

        logits = W [x_1; ...; x_M] + b,   x_m = BN(TCN(f_m))

    Causal. The paper's "with TCN" of one modality is LFAN of one; this is the same without attention.

    Args:
        widths: of the modalities' features.
        num_classes: C.
        config: channels, kernel and dropout.

    References:
        Bai, Kolter, Koltun: An empirical evaluation of generic convolutional and recurrent networks for sequence
        modeling. 2018, arXiv:1803.01271.
    """

    whole_clip = False

    def __init__(self, widths: Mapping[str, int], num_classes: int, config: TemporalConfig) -> None:
        super().__init__(widths, num_classes)
        self.branches = Branches(widths, config.channels_of(widths), config.kernel, config.rate)
        self.receptive_field = self.branches.receptive_field
        self.head = nn.Linear(sum(self.branches.widths.values()), num_classes)

    def classify(self, values: Mapping[str, Tensor], there: Mapping[str, Tensor], mask_BT: Tensor) -> Tensor:
        """Give the logits of every frame."""
        encoded = self.branches(values, there)
        return self.head(torch.cat([encoded[name] for name in self.modalities], dim=-1))
