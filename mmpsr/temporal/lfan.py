"""LFAN: the modalities of each frame attend to each other, beside a leader.

Shape suffixes: B clips, T frames, M modalities, N heads, K width of a head, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmpsr.layers.by_modality import ByModality
from mmpsr.layers.dropout import Dropout
from mmpsr.layers.nodes import masked_softmax
from mmpsr.temporal.base import TemporalModel
from mmpsr.temporal.config import TemporalConfig
from mmpsr.temporal.tcn import Branches

__all__ = ["LFAN", "ModalityAttention"]


class ModalityAttention(nn.Module):
    """Attention over the modalities of a frame.

    With q, k, v = W_m x_m + b_m by modality m and head,

        v'_m = v_m + sum_n softmax_n(q_m . k_n / sqrt(K)) v_n,   y = LN(dropout(W v' + b))

    over the modalities n that are there; v' of one that is not is 0. v' is laid out by head, then by modality.

    Args:
        widths: of x, by modality.
        width: of a modality's v over all heads, N K.
        num_heads: N, a divisor of the width.
        dropout: rate.
    """

    def __init__(self, widths: Mapping[str, int], width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5
        self.projections = ByModality({name: nn.Linear(each, 3 * width) for name, each in widths.items()})
        self.output = nn.Linear(len(widths) * width, len(widths) * width)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(len(widths) * width)
        for layer in (*self.projections.values(), self.output):
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, values: Mapping[str, Tensor], there_BTM: Tensor) -> Tensor:
        """Give y, `[B, T, M N K]`.

        Args:
            values: x by modality, `[B, T, d_m]`.
            there_BTM: bool, which modalities are there.
        """
        projected = torch.stack([layer(values[name]) for name, layer in self.projections.items()], dim=2)
        by_head = projected.unflatten(-1, (self.num_heads, -1)).transpose(2, 3)  # [B, T, N, M, 3 K]
        queries, keys, values_BTNMK = by_head.chunk(3, dim=-1)
        scores_BTNMM = queries @ keys.transpose(-1, -2) * self.scale
        weights_BTNMM = masked_softmax(scores_BTNMM, there_BTM[:, :, None, None, :])
        mixed_BTNMK = weights_BTNMM @ values_BTNMK + values_BTNMK
        mixed_BTNMK = torch.where(there_BTM[:, :, None, :, None], mixed_BTNMK, 0.0)
        return self.norm(self.dropout(self.output(mixed_BTNMK.flatten(2))))


class LFAN(TemporalModel):
    """Leader-follower attentive network: temporal convolutions, attention over modalities, and a leader beside it.

        x_m = BN(TCN(f_m)),   logits = W [x_leader; ModalityAttention(x_1, ..., x_M)] + b

    The leader is the first modality. Attention never leaves a frame, so that the model is causal and sees as far as
    its TCNs (121 frames with four blocks): longer windows give no context. With video 512, audio 128 and text 768 wide
    and two classes, 5,001,378 parameters.

    Args:
        widths: of the modalities' features; the first leads.
        num_classes: C.
        config: channels, kernel, width, heads and dropout.

    References:
        Zhang, Ding, Wei, Guan: Continuous emotion recognition with audio-visual leader-follower attentive fusion. ICCV
        workshops 2021.
        González-González et al.: BAH dataset for ambivalence/hesitancy recognition in videos for behavioural change.
        2025, arXiv:2505.19328.

    Example:
        >>> config = TemporalConfig(kind="lfan", channels={"video": (8, 4), "audio": (4,)})
        >>> model = LFAN({"video": 6, "audio": 5}, 2, config).eval()
        >>> features = {"video": torch.randn(3, 30, 6), "audio": torch.randn(3, 30, 5)}
        >>> model(features, torch.ones(3, 30, dtype=torch.bool)).shape
        torch.Size([3, 30, 2])
    """

    whole_clip = False

    def __init__(self, widths: Mapping[str, int], num_classes: int, config: TemporalConfig) -> None:
        super().__init__(widths, num_classes)
        self.branches = Branches(widths, config.channels_of(widths), config.kernel, config.rate)
        self.receptive_field = self.branches.receptive_field
        self.attention = ModalityAttention(self.branches.widths, config.fusion_width, config.heads, config.rate)
        fused = self.branches.widths[self.modalities[0]] + len(widths) * config.fusion_width
        self.head = nn.Linear(fused, num_classes)

    def classify(self, values: Mapping[str, Tensor], there: Mapping[str, Tensor], mask_BT: Tensor) -> Tensor:
        """Give the logits of every frame."""
        encoded = self.branches(values, there)
        fused = self.attention(encoded, torch.stack([there[name] for name in self.modalities], dim=-1))
        return self.head(torch.cat([encoded[self.modalities[0]], fused], dim=-1))
