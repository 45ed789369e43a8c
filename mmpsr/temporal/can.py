"""CAN: every feature of a frame weighed against all others, whatever modality they are of.

Shape suffixes: B clips, T frames, M modalities, H width of a modality in the fusion, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmpsr.layers.by_modality import ByModality
from mmpsr.layers.nodes import masked_softmax
from mmpsr.temporal.base import TemporalModel
from mmpsr.temporal.batch_norm import MaskedBatchNorm
from mmpsr.temporal.config import TemporalConfig
from mmpsr.temporal.tcn import Branches

__all__ = ["CAN", "NormalizedHead"]


class NormalizedHead(nn.Module):
    """Classify frames with one hidden layer, normalised over the frames of the batch.

        logits = W2 LeakyReLU(BN(W1 z + b1)) + b2

    Args:
        width: of z, and of the hidden layer.
        num_classes: C.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.norm = MaskedBatchNorm(width)
        self.activation = nn.LeakyReLU()
        self.output = nn.Linear(width, num_classes)

    def forward(self, values_BTH: Tensor, mask_BT: Tensor) -> Tensor:
        """Give the logits of every frame, `[B, T, C]`; only those of the mask count in the statistics."""
        return self.output(self.activation(self.norm(self.hidden(values_BTH), mask_BT)))


class CAN(TemporalModel):
    """Channel attention network: temporal convolutions, and a softmax over the features of all modalities.

        x_m = BN(TCN(f_m)),   y = [P_1 x_1 + c_1; ...; P_M x_M + c_M],   w = softmax(W y + b)
        logits = NormalizedHead(w * y)

    The softmax is over all H M features of a frame, not over modalities; those of a modality that is not there are 0
    and take no weight. Causal. With video 512, audio 128 and text 768 wide and two classes, 5,767,234 parameters; in
    form `released` 49,280 more, of a convolution that nothing uses.

    Args:
        widths: of the modalities' features.
        num_classes: C.
        config: channels, kernel, width (H), dropout and form.

    References:
        Zhang, Zhao, Guan: Multimodal continuous emotion recognition: a technical report for ABAW5. CVPR workshops 2023.
        González-González et al.: BAH dataset for ambivalence/hesitancy recognition in videos for behavioural change.
        2025, arXiv:2505.19328.

    Example:
        >>> config = TemporalConfig(kind="can", channels={"video": (8, 4), "audio": (4,)}, width=6)
        >>> model = CAN({"video": 6, "audio": 5}, 2, config).eval()
        >>> features = {"video": torch.randn(3, 30, 6), "audio": torch.randn(3, 30, 5)}
        >>> model(features, torch.ones(3, 30, dtype=torch.bool)).shape
        torch.Size([3, 30, 2])
    """

    whole_clip = True

    def __init__(self, widths: Mapping[str, int], num_classes: int, config: TemporalConfig) -> None:
        super().__init__(widths, num_classes)
        self.branches = Branches(widths, config.channels_of(widths), config.kernel, config.rate)
        self.receptive_field = self.branches.receptive_field
        self.width = config.fusion_width
        fused = len(widths) * self.width
        self.projections = ByModality(
            {name: nn.Linear(each, self.width) for name, each in self.branches.widths.items()}
        )
        self.scorer = nn.Linear(fused, fused)
        self.head = NormalizedHead(fused, num_classes)
        self.unused = nn.Conv1d(fused, self.width, 1) if config.form == "released" else None

    def classify(self, values: Mapping[str, Tensor], there: Mapping[str, Tensor], mask_BT: Tensor) -> Tensor:
        """Give the logits of every frame."""
        encoded = self.branches(values, there)
        there_BTM = torch.stack([there[name] for name in self.modalities], dim=-1)
        projected = [self.projections[name](encoded[name]) for name in self.modalities]
        there_BTF = there_BTM.repeat_interleave(self.width, dim=-1)
        features_BTF = torch.where(there_BTF, torch.cat(projected, dim=-1), 0.0)
        weights_BTF = masked_softmax(self.scorer(features_BTF), there_BTF)
        return self.head(weights_BTF * features_BTF, mask_BT)
