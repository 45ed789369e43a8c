"""Graph attention with one head over a clip's present modalities.

Shape suffixes: B clips, M modalities (nodes), H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.layers.nodes import masked_softmax
from mmpsr.layers.recorded import Linear, per_clip

__all__ = ["GAT"]


class GAT(nn.Module):
    """Graph attention with one head.

        h = X W,  alpha_ij = softmax_j LeakyReLU(a1.h_i + a2.h_j),  out = alpha h

    The softmax runs over present j, i itself included. Scores are two dot products and a broadcast addition; H^2 + 2H
    parameters.

    Args:
        width: H.
        negative_slope: slope of the leaky ReLU.

    References:
        Veličković et al.: Graph attention networks. ICLR 2018.
    """

    def __init__(self, width: int, negative_slope: float = 0.2) -> None:
        super().__init__()
        self.linear = Linear(width, width, bias=False)
        self.target = nn.Parameter(torch.empty(width))
        self.source = nn.Parameter(torch.empty(width))
        self.negative_slope = negative_slope
        nn.init.xavier_uniform_(self.linear.weight)
        for vector in (self.target, self.source):
            nn.init.xavier_uniform_(vector.data.unsqueeze(0))

    def forward(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Map `[B, M, H]` nodes and bool `[B, M]` presence to `[B, M, H]`; zero where no modality is present."""
        hidden_BMH = self.linear(nodes_BMH)
        target_BM1, source_BM1 = (
            hidden_BMH @ per_clip(vector, nodes_BMH.shape[0]).unsqueeze(-1) for vector in (self.target, self.source)
        )
        scores_BMM = functional.leaky_relu(target_BM1 + source_BM1.transpose(1, 2), self.negative_slope)
        return masked_softmax(scores_BMM, mask_BM.unsqueeze(1)) @ hidden_BMH
