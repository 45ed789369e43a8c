"""Cross-attention between a task's view of the modalities and the shared one.

Shape suffixes: B clips, M modalities, H hidden width, N heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.graph import masked_softmax

__all__ = ["CrossAttention"]


class CrossAttention(nn.Module):
    """Multi-head attention of queries over present keys, with the parameters of `torch.nn.MultiheadAttention`.

    Absent modalities are masked as keys; where none is present the attended value is zero (torch's own layer gives
    NaN there). 4 H^2 + 4 H parameters.

    Args:
        width: H.
        num_heads: N, a divisor of H.
        dropout: rate on the attention weights.

    Raises:
        ValueError: N does not divide H.

    References:
        Vaswani et al.: Attention is all you need. NeurIPS 2017.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"the number of heads ({num_heads}) must divide the hidden width ({width})")
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, queries_BMH: Tensor, keys_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Attend.

        Args:
            queries_BMH: the task's nodes.
            keys_BMH: the shared nodes, keys and values at once.
            mask_BM: bool, which modalities are present.

        Returns:
            Float `[B, M, H]`.
        """
        batch, nodes, width = queries_BMH.shape
        query_weight, key_weight = self.in_proj_weight.split([width, 2 * width])
        query_bias, key_bias = self.in_proj_bias.split([width, 2 * width])
        heads = (batch, nodes, self.num_heads, width // self.num_heads)
        queries = functional.linear(queries_BMH, query_weight, query_bias).view(heads).transpose(1, 2)
        keys, values = functional.linear(keys_BMH, key_weight, key_bias).chunk(2, dim=-1)
        keys, values = keys.reshape(heads).transpose(1, 2), values.reshape(heads).transpose(1, 2)
        scores_BNMM = queries @ keys.transpose(2, 3) / heads[-1] ** 0.5
        weights_BNMM = self.dropout(masked_softmax(scores_BNMM, mask_BM[:, None, None, :]))
        return self.out_proj((weights_BNMM @ values).transpose(1, 2).reshape(batch, nodes, width))
