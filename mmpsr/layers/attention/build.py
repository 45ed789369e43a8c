"""Cross-attention between a task's view of the modalities and the shared one: which layers there are.

Every layer takes queries `[B, M, H]`, keys `[B, M, H]` and the bool presence `[B, M]`, and gives one token for each
modality, `[B, M, H]`, whose mean over present modalities stands for the clip. Absent modalities influence no present
one.

Shape suffixes: B clips, M modalities, H hidden width.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmpsr.layers.attention.config import AttentionConfig
from mmpsr.layers.attention.cross import FA, MTA, CrossAttention
from mmpsr.layers.attention.two_stream import BiCA, CrossMPT

__all__ = ["NoAttention", "create_attention"]


class NoAttention(nn.Module):
    """The switched-off attention: queries pass unchanged."""

    def forward(self, queries_BMH: Tensor, keys_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Return the queries."""
        return queries_BMH


def create_attention(
    kind: str, width: int, num_heads: int, dropout: float, num_nodes: int, options: AttentionConfig
) -> nn.Module:
    """Create the attention layer named `mha`, `mta`, `crossmpt`, `bica`, `fa` or `none`.

    Args:
        kind: name.
        width: H.
        num_heads: heads, a divisor of H.
        dropout: rate on the attention weights.
        num_nodes: M.
        options: what only some kinds read.

    Raises:
        ValueError: no layer has this name, or the heads do not divide the width.

    Example:
        >>> import torch
        >>> layer = create_attention("mta", 8, 2, 0.0, 3, AttentionConfig())
        >>> layer(torch.randn(4, 3, 8), torch.randn(4, 3, 8), torch.ones(4, 3, dtype=torch.bool)).shape
        torch.Size([4, 3, 8])
    """
    match kind:
        case "mha":
            return CrossAttention(width, num_heads, dropout)
        case "mta":
            return MTA(width, num_heads, dropout, num_nodes, options.query_reach, options.key_reach)
        case "crossmpt":
            return CrossMPT(width, num_heads, dropout)
        case "bica":
            return BiCA(width, num_heads, dropout)
        case "fa":
            return FA(width, num_heads, dropout)
        case "none":
            return NoAttention()
    raise ValueError(f"no attention layer is named {kind!r}; known are mha, mta, crossmpt, bica, fa, none")
