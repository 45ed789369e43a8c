"""Cross-attention layers that update queries and keys both, two streams of one token per modality.

Their `forward` gives the mean of a modality's two tokens. Both streams have the same modalities, so the mean of that
over the present ones is the mean over the tokens of both streams.

Shape suffixes: B clips, M modalities, H hidden width, N heads, D width of a head (H/N).
"""

from __future__ import annotations

from torch import Tensor, nn

from mmpsr.layers.attention.cross import CrossAttention, head_width, join_heads, split_heads
from mmpsr.layers.dropout import Dropout
from mmpsr.layers.nodes import masked_softmax
from mmpsr.layers.recorded import LayerNorm, Linear

__all__ = ["BiCA", "CrossMPT", "TwoStreams"]


class TwoStreams(nn.Module):
    """Base of CrossMPT and BiCA, which give the mean of both streams."""

    def forward(self, queries_BMH: Tensor, keys_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Attend both ways.

        Args:
            queries_BMH: the task's nodes.
            keys_BMH: the shared nodes.
            mask_BM: bool, which modalities are present.

        Returns:
            Float `[B, M, H]`, the mean of both streams.
        """
        first_BMH, second_BMH = self.streams(queries_BMH, keys_BMH, mask_BM)
        return (first_BMH + second_BMH) / 2

    def streams(self, queries_BMH: Tensor, keys_BMH: Tensor, mask_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Update queries and keys, each `[B, M, H]`."""
        raise NotImplementedError


class CrossMPT(TwoStreams):
    """Message passing by cross-attention: queries are updated from keys, then keys from the updated queries.

    Both updates have the same weights, with x the stream and c the other one as it stands:

        y = x + Attention(LN(x), c),  x' = y + W_2 GELU(W_1 LN(y) + b_1) + b_2

    with a hidden layer of 4 H; a last layer normalisation is shared by both streams. 12 H^2 + 15 H parameters; 24 M H^2
    + 4 M^2 H multiplications a clip.

    Args:
        width: H.
        num_heads: N, a divisor of H.
        dropout: rate on the attention weights and on the hidden layer.

    Raises:
        ValueError: N does not divide H.

    References:
        Park, Kwak, Kim, Kim, No: CrossMPT: cross-attention message-passing transformer for error correcting codes. ICLR
        2025.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(width)
        self.attention = CrossAttention(width, num_heads, dropout)
        self.hidden_norm = LayerNorm(width)
        self.hidden = nn.Sequential(Linear(width, 4 * width), nn.GELU(), Dropout(dropout), Linear(4 * width, width))
        self.norm = LayerNorm(width)

    def streams(self, queries_BMH: Tensor, keys_BMH: Tensor, mask_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Update queries and keys, each `[B, M, H]`."""
        # A residual carries what stands in an absent node through every norm, where large numbers would overflow.
        absent_BM1 = ~mask_BM.unsqueeze(-1)
        queries_BMH, keys_BMH = queries_BMH.masked_fill(absent_BM1, 0.0), keys_BMH.masked_fill(absent_BM1, 0.0)
        first_BMH = self._update(queries_BMH, keys_BMH, mask_BM)
        second_BMH = self._update(keys_BMH, first_BMH, mask_BM)
        return self.norm(first_BMH), self.norm(second_BMH)

    def _update(self, stream_BMH: Tensor, other_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        stream_BMH = stream_BMH + self.attention(self.attention_norm(stream_BMH), other_BMH, mask_BM)
        return stream_BMH + self.hidden(self.hidden_norm(stream_BMH))


class BiCA(TwoStreams):
    """Bidirectional cross-attention: one similarity of queries x and keys c, read by rows and by columns.

    With S = (W_a x)(W_b c)^T / sqrt(D) by head, over present modalities:

        x' = softmax_c(S) W_v c W_o + b_o,  c' = softmax_x(S)^T W_u x W_p + b_p

    6 H^2 + 2 H parameters; 6 M H^2 + 3 M^2 H multiplications a clip.

    Args:
        width: H.
        num_heads: N, a divisor of H.
        dropout: rate on the attention weights.

    Raises:
        ValueError: N does not divide H.

    References:
        Hiller, Ehinger, Drummond: Perceiving longer sequences with bi-directional cross-attention transformers. NeurIPS
        2024.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.scale = head_width(width, num_heads) ** -0.5
        self.num_heads = num_heads
        self.query_value = Linear(width, 2 * width, bias=False)
        self.key_value = Linear(width, 2 * width, bias=False)
        self.query_output = Linear(width, width)
        self.key_output = Linear(width, width)
        self.dropout = Dropout(dropout)

    def streams(self, queries_BMH: Tensor, keys_BMH: Tensor, mask_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Update queries and keys, each `[B, M, H]`."""
        queries, query_values, keys, key_values = (
            split_heads(part, self.num_heads)
            for part in (*self.query_value(queries_BMH).chunk(2, dim=-1), *self.key_value(keys_BMH).chunk(2, dim=-1))
        )
        scores_BNMM = queries @ keys.transpose(2, 3) * self.scale
        updated = []
        for scores, values in ((scores_BNMM, key_values), (scores_BNMM.transpose(2, 3), query_values)):
            weights = self.dropout(masked_softmax(scores, mask_BM[:, None, None, :]))
            updated.append(join_heads(weights @ values))
        return self.query_output(updated[0]), self.key_output(updated[1])
