"""Multi-head cross-attention with one token per modality: the plain layer, and those that weigh keys in another way.

Shape suffixes: B clips, M modalities, H hidden width, N heads, D width of a head (H/N), R rows and C columns of a
convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.layers.dropout import Dropout
from mmpsr.layers.nodes import masked_softmax
from mmpsr.layers.recorded import Linear, per_clip

__all__ = ["FA", "MTA", "CrossAttention", "head_width", "join_heads", "split_heads"]


def head_width(width: int, num_heads: int) -> int:
    """Find D, the width of one head.

    Raises:
        ValueError: the number of heads does not divide the width.
    """
    if width % num_heads:
        raise ValueError(f"the number of heads ({num_heads}) must divide the hidden width ({width})")
    return width // num_heads


def split_heads(nodes_BMH: Tensor, num_heads: int) -> Tensor:
    """Split nodes into heads, `[B, M, H] -> [B, N, M, D]`."""
    return nodes_BMH.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def join_heads(heads_BNMD: Tensor) -> Tensor:
    """Join heads into nodes, `[B, N, M, D] -> [B, M, H]`."""
    return heads_BNMD.transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    """Multi-head attention of queries over present keys, as `torch.nn` has it.

        out = softmax(Q K^T / sqrt(D)) V W_o, the softmax by head over present keys

    Absent modalities are masked as keys; where none is present the attended value is zero (`MultiheadAttention` gives
    NaN there). The same seed gives the same weights as that layer. 4 H^2 + 4 H parameters, 4 H^2 without biases;
    4 M H^2 + 2 M^2 H multiplications a clip.

    Args:
        width: H.
        num_heads: N, a divisor of H.
        dropout: rate on the attention weights.
        bias: whether the four projections have biases.

    Raises:
        ValueError: N does not divide H.

    References:
        Vaswani et al.: Attention is all you need. NeurIPS 2017.
    """

    def __init__(self, width: int, num_heads: int, dropout: float, bias: bool = True) -> None:
        super().__init__()
        self.scale = head_width(width, num_heads) ** -0.5
        self.num_heads = num_heads
        with torch.random.fork_rng(devices=()):  # draws that are replaced below
            self.query = Linear(width, width, bias=bias)
            self.key_value = Linear(width, 2 * width, bias=bias)
        self.output = Linear(width, width, bias=bias)
        self.dropout = Dropout(dropout)
        bound = (6 / (3 * width + width)) ** 0.5  # Xavier's, of queries, keys and values as one matrix
        for layer in (self.query, self.key_value):
            nn.init.uniform_(layer.weight, -bound, bound)
        if bias:
            for layer in (self.query, self.key_value, self.output):
                nn.init.zeros_(layer.bias)

    def forward(self, queries_BMH: Tensor, keys_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Attend.

        Args:
            queries_BMH: the task's nodes.
            keys_BMH: the shared nodes, keys and values at once.
            mask_BM: bool, which modalities are present.

        Returns:
            Float `[B, M, H]`.
        """
        queries = split_heads(self.query(queries_BMH), self.num_heads)
        keys, values = (split_heads(part, self.num_heads) for part in self.key_value(keys_BMH).chunk(2, dim=-1))
        scores_BNMM = queries @ keys.transpose(2, 3) * self.scale
        weights_BNMM = self.dropout(self.weigh(scores_BNMM, keys_BMH, mask_BM))
        return self.output(join_heads(self.finish(weights_BNMM @ values)))

    def weigh(self, scores_BNMM: Tensor, keys_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Turn scores into attention weights, `[B, N, M, M]`, the last dimension being keys; zero for absent ones."""
        return masked_softmax(scores_BNMM, mask_BM[:, None, None, :])

    def finish(self, heads_BNMD: Tensor) -> Tensor:
        """Finish each head's outputs before they are joined; here they stay."""
        return heads_BNMD


class MTA(CrossAttention):
    """Multi-token attention: scores and weights are convolved over neighbouring queries and keys, and mixed over heads.

    With C a two-dimensional convolution by head, X a mixing of heads and p the pairs of present modalities:

        A = softmax(X1 C1(p S)),  P = p X2 C2(p A),  out = (sigmoid(g u + b) u) W_o,  u = RMSNorm(P V) by head

    A score depends on those of neighbours in the order of modalities, before and after. Kernels have 2 reach + 1 rows
    and columns, centred, reach being at most M - 1: farther pairs do not exist. Kernels and mixings start as the
    identity. No biases but the gate's.

    An absent modality is zero in every convolution, like what lies outside the first and the last one. It keeps its
    place: removing it (not masking it) brings its neighbours together, which is the same only at either end of the
    order, or where the kernels are the identity.

    4 H^2 + 2 N R C + 2 N^2 + 2 D + 1 parameters: at H = 512 and 8 heads 1,049,617 for four modalities (7 x 7), and with
    the published kernels of 6 x 11, which look back only, 1,049,889. Above plain attention 2 N M^2 (R C + N)
    multiplications a clip.

    Args:
        width: H.
        num_heads: N, a divisor of H.
        dropout: rate on the attention weights, after the second mixing.
        num_nodes: M.
        query_reach: queries to either side that a convolution sees.
        key_reach: keys to either side.

    References:
        Golovneva, Wang, Weston, Sukhbaatar: Multi-token attention. COLM 2025.
    """

    def __init__(
        self, width: int, num_heads: int, dropout: float, num_nodes: int, query_reach: int, key_reach: int
    ) -> None:
        super().__init__(width, num_heads, dropout, bias=False)
        rows, columns = (min(reach, num_nodes - 1) for reach in (query_reach, key_reach))
        identity = torch.zeros(num_heads, 2 * rows + 1, 2 * columns + 1)
        identity[:, rows, columns] = 1.0
        self.score_kernel, self.weight_kernel = (nn.Parameter(identity.clone()) for _ in range(2))
        self.score_mixing, self.weight_mixing = (
            nn.Parameter(torch.zeros(num_heads, num_heads).fill_diagonal_(1.0)) for _ in range(2)
        )
        self.gain = nn.Parameter(torch.ones(width // num_heads))
        self.gate = Linear(width // num_heads, 1)

    def weigh(self, scores_BNMM: Tensor, keys_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Turn scores into weights `[B, N, M, M]`, which need not sum to one; zero for absent queries and keys."""
        absent_B1MM = ~(mask_BM.unsqueeze(1) & mask_BM.unsqueeze(2)).unsqueeze(1)
        scores = _convolve(scores_BNMM.masked_fill(absent_B1MM, 0.0), self.score_kernel, self.score_mixing)
        weights = super().weigh(scores, keys_BMH, mask_BM).masked_fill(absent_B1MM, 0.0)
        return _convolve(weights, self.weight_kernel, self.weight_mixing).masked_fill(absent_B1MM, 0.0)

    def finish(self, heads_BNMD: Tensor) -> Tensor:
        """Normalise by head to a root mean square of 1, and gate what that gives."""
        gain_BD = per_clip(self.gain, heads_BNMD.shape[0])
        normed = functional.rms_norm(heads_BNMD, heads_BNMD.shape[-1:], eps=1e-5) * gain_BD[:, None, None]
        return normed * torch.sigmoid(self.gate(normed))


def _convolve(maps_BNMM: Tensor, kernel_NRC: nn.Parameter, mixing_NN: nn.Parameter) -> Tensor:
    """Correlate by head, zero outside the map, then mix heads, `[B, N, M, M] -> [B, N, M, M]`."""
    num_clips, (rows, columns) = maps_BNMM.shape[0], kernel_NRC.shape[-2:]
    padded = functional.pad(maps_BNMM, (columns // 2, columns // 2, rows // 2, rows // 2))
    windows_BNMMRC = padded.unfold(2, rows, 1).unfold(3, columns, 1)
    convolved = torch.einsum("bnijrc,bnrc->bnij", windows_BNMMRC, per_clip(kernel_NRC, num_clips))
    return torch.einsum("bmn,bnij->bmij", per_clip(mixing_NN, num_clips), convolved)


class FA(CrossAttention):
    """Forgetting attention: every key fades by the forget gates of the present keys after it.

    With f = sigmoid(W_f c + b_f), one for each key and head, the score of key j is

        S_ij = q_i.k_j / sqrt(D) + sum_{l > j} log f_l

    Gates are read in the order of modalities, the last of which never fades, whatever the query.
    An absent key has log f = 0. Gates are added up in 32 bits or more, whatever the precision of the scores. They start
    about 1/2: the first of four modalities then counts an eighth of the last. No biases but the gates'.

    4 H^2 + N H + N parameters; 4 M H^2 + N M H + 2 M^2 H multiplications a clip.

    Args:
        width: H.
        num_heads: N, a divisor of H.
        dropout: rate on the attention weights.

    References:
        Lin, Nikishin, He, Courville: Forgetting transformer: softmax attention with a forget gate. ICLR 2025 (with
        causal scores, where a query sees the keys before it).
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__(width, num_heads, dropout, bias=False)
        self.forget = Linear(width, num_heads)

    def weigh(self, scores_BNMM: Tensor, keys_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Turn scores and forget gates into attention weights `[B, N, M, M]`."""
        gates_BMN = self.forget(keys_BMH)
        log_gates_BMN = functional.logsigmoid(gates_BMN.to(torch.promote_types(gates_BMN.dtype, torch.float32)))
        log_gates_BNM = log_gates_BMN.masked_fill(~mask_BM.unsqueeze(-1), 0.0).transpose(1, 2)
        earlier_MM = mask_BM.new_ones(mask_BM.shape[1], mask_BM.shape[1]).tril()
        decay_BNM = log_gates_BNM.unsqueeze(2).masked_fill(earlier_MM, 0.0).sum(dim=-1)
        return super().weigh(scores_BNMM + decay_BNM.unsqueeze(2), keys_BMH, mask_BM).to(scores_BNMM.dtype)
