"""Random walks over a clip's present modalities, read by recurrent networks.

A walk has L nodes and never stays where it is, except at a node without present neighbours, where all its nodes are
that one. The anonymous form of a walk keeps, of each of its nodes, the rank of its first appearance: (3, 1, 3, 0)
becomes (0, 1, 0, 2).

Shape suffixes: B clips, M modalities (nodes), H hidden width, I inner width, W walks, K walks from each node, L nodes
of a walk.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from mmpsr.layers.dropout import Dropout
from mmpsr.layers.recorded import Linear

__all__ = ["NCGNN", "GRUCell", "all_walks", "anonymous_ranks", "sample_walks", "walk_probabilities"]

# Up to these, all walks are read at evaluation.
MAX_EXACT_LENGTH = 4
MAX_EXACT_NODES = 4


class GRUCell(nn.Module):
    """`torch.nn.GRUCell` made of `mmpsr.layers.recorded.Linear`, with its formula, start and order of gates r, z, n.

        r = sigmoid(V_r x + W_r h),  z = sigmoid(V_z x + W_z h),  n = tanh(V_n x + r W_n h),  h' = (1 - z) n + z h

    with a bias of its own for each product. The part of x is a call of `from_input`, for all steps at once.

    Args:
        width_in: width of x.
        width: I, of h.

    References:
        Cho et al.: Learning phrase representations using RNN encoder-decoder for statistical machine translation.
        EMNLP 2014.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.from_input = Linear(width_in, 3 * width)
        self.from_state = Linear(width, 3 * width)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, gates: Tensor, state: Tensor) -> Tensor:
        """Map `from_input(x)` `[..., 3 I]` and h `[..., I]` to h' `[..., I]`."""
        input_reset, input_update, input_new = gates.chunk(3, dim=-1)
        state_reset, state_update, state_new = self.from_state(state).chunk(3, dim=-1)
        update = torch.sigmoid(input_update + state_update)
        new = torch.tanh(input_new + torch.sigmoid(input_reset + state_reset) * state_new)
        return (1 - update) * new + update * state


class NCGNN(nn.Module):
    """Random walks with unifying memory (RUM).

        out = x + mean over walks of GRU(x along the walk; h_0 = mean of GRU(r along the walk) in both directions)

    From each node run uniform random walks of L nodes over the present ones; where no other is present, the walk stays
    at its node. A walk is read backwards, so that it ends at its start. Its anonymous form, the rank r of the first
    appearance of each of its nodes, is encoded as (sin, cos)(2 pi r/L); a bidirectional GRU reads it, and the mean of
    its two final states is the initial state of the GRU that reads x along the walk. The final states are averaged
    over walks; with an inner width I other than H a linear map brings them back to H. Then follow dropout and the skip
    connection.

    In training, K walks are drawn from each node by torch's generator. At evaluation all walks are read and weighted
    by their probability, which gives the expectation, for up to 4 modalities and walks of up to 4 nodes; beyond, K
    walks fixed when the layer is made, so that a prediction depends on nothing but its clip.

    9 I^2 + 30 I + 3 H I parameters, 3.16 million at I = H = 512, and I H + H more for another I. Per clip, training
    takes 3 L steps of a GRU for each of M K walks; evaluation L steps for each of M ((M - 1)^{L - 1} + 1) walks (108
    + 4 at M = L = 4), since there are few anonymous forms. At H = 512 and M = L = K = 4 this is about 65 times the
    cost of `GAT`, and 7 times with an inner width of 128.

    Args:
        width: H.
        num_nodes: M, at least 1.
        walk_length: L, at least 2, the start included.
        num_walks: K.
        inner_width: I; None for H.
        dropout: rate before the skip connection.

    Raises:
        ValueError: `num_nodes` or `walk_length` is too small; in use: the batch has another number of modalities.

    References:
        Wang, Cho: Non-convolutional graph neural networks. NeurIPS 2024.
    """

    walks: Tensor
    scores: Tensor
    forms: Tensor
    form_of_walk: Tensor

    def __init__(
        self,
        width: int,
        num_nodes: int,
        walk_length: int = 4,
        num_walks: int = 4,
        inner_width: int | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if num_nodes < 1 or walk_length < 2:
            raise ValueError(
                f"NCGNN needs the number of modalities, at least 1, and walks of at least 2 nodes; found {num_nodes} "
                f"and {walk_length}"
            )
        inner = inner_width or width
        self.forward_cell = GRUCell(2, inner)
        self.backward_cell = GRUCell(2, inner)
        self.cell = GRUCell(width, inner)
        self.up = nn.Identity() if inner == width else Linear(inner, width)
        self.dropout = Dropout(dropout)
        self.num_nodes = num_nodes
        self.exact = num_nodes <= MAX_EXACT_NODES and walk_length <= MAX_EXACT_LENGTH
        # Even where parameters are made without values.
        with torch.device("cpu"):
            # [1, L - 1, M, K, M]: what chooses the walks where not all are read.
            shape = (1, walk_length - 1, num_nodes, num_walks, num_nodes)
            self.register_buffer(
                "scores", torch.rand(shape, generator=torch.Generator().manual_seed(0)), persistent=False
            )
            if self.exact:
                walks = all_walks(num_nodes, walk_length)
                forms, form_of_walk = anonymous_ranks(walks[0]).unique(dim=0, return_inverse=True)
                self.register_buffer("walks", walks, persistent=False)
                self.register_buffer("forms", forms, persistent=False)
                self.register_buffer("form_of_walk", form_of_walk, persistent=False)

    def initial_states(self, ranks_BWL: Tensor) -> Tensor:
        """Read the anonymous forms, `[B, W, L] -> [B, W, I]`."""
        length = ranks_BWL.shape[-1]
        angles_BWL = ranks_BWL.flip(-1).to(self.cell.from_input.weight.dtype) * (2 * math.pi / length)
        encoded = torch.stack([angles_BWL.sin(), angles_BWL.cos()], dim=-1)
        finals = []
        for cell, order in ((self.forward_cell, range(length)), (self.backward_cell, reversed(range(length)))):
            gates = cell.from_input(encoded)
            state = gates.new_zeros(*gates.shape[:2], gates.shape[-1] // 3)
            for position in order:
                state = cell(gates[:, :, position], state)
            finals.append(state)
        return (finals[0] + finals[1]) / 2

    def read(self, gates_BMI: Tensor, walks_BWL: Tensor, state_BWI: Tensor) -> Tensor:
        """Give final states after the nodes of each walk, its start last, `[B, W, I]`; `gates_BMI` is 3 I wide."""
        names = torch.arange(self.num_nodes, device=gates_BMI.device)
        for nodes_BW in reversed(walks_BWL.unbind(dim=-1)):
            # A product instead of an index: its gradient is the same at every run, on any device.
            onehot_BWM = (nodes_BW.unsqueeze(-1) == names).to(gates_BMI.dtype)
            state_BWI = self.cell(onehot_BWM @ gates_BMI, state_BWI)
        return state_BWI

    def expectation(self, gates_BMI: Tensor, mask_BM: Tensor) -> Tensor:
        """Average the final states over all walks from each node, `[B, M, I]`; zero for absent nodes."""
        num_clips = mask_BM.shape[0]
        states = self.initial_states(self.forms.expand(num_clips, -1, -1))
        states_BWI = states.index_select(1, self.form_of_walk)
        means = []
        for walks_WL in self.walks:
            finals_BWI = self.read(gates_BMI, walks_WL.expand(num_clips, -1, -1), states_BWI)
            probabilities_BW = walk_probabilities(walks_WL, mask_BM, finals_BWI.dtype)
            means.append((probabilities_BW.unsqueeze(1) @ finals_BWI).squeeze(1))
        return torch.stack(means, dim=1)

    def sample(self, gates_BMI: Tensor, mask_BM: Tensor, scores: Tensor) -> Tensor:
        """Average the final states over sampled walks from each node, `[B, M, I]`."""
        walks = sample_walks(scores, mask_BM)
        walks_BWL = walks.flatten(1, 2)
        states_BWI = self.initial_states(anonymous_ranks(walks_BWL))
        return self.read(gates_BMI, walks_BWL, states_BWI).unflatten(1, walks.shape[1:3]).mean(dim=2)

    def forward(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Map `[B, M, H]` nodes and bool `[B, M]` presence to `[B, M, H]`."""
        if nodes_BMH.shape[1] != self.num_nodes:
            raise ValueError(f"NCGNN was made for {self.num_nodes} modalities; found {nodes_BMH.shape[1]}")
        gates_BMI = self.cell.from_input(nodes_BMH)
        if self.training:
            scores = torch.rand(mask_BM.shape[0], *self.scores.shape[1:], device=mask_BM.device)
            means_BMI = self.sample(gates_BMI, mask_BM, scores)
        elif self.exact:
            means_BMI = self.expectation(gates_BMI, mask_BM)
        else:
            means_BMI = self.sample(gates_BMI, mask_BM, self.scores)
        return nodes_BMH + self.dropout(self.up(means_BMI))


def anonymous_ranks(walks: Tensor) -> Tensor:
    """Rank the first appearance of every node of a walk, `[..., L] -> [..., L]`.

    Example:
        >>> anonymous_ranks(torch.tensor([3, 1, 3, 0]))
        tensor([0, 1, 0, 2])
    """
    first = (walks.unsqueeze(-1) == walks.unsqueeze(-2)).int().argmax(dim=-1)
    is_new = first == torch.arange(walks.shape[-1], device=walks.device)
    return (is_new.long().cumsum(dim=-1) - 1).gather(-1, first)


def all_walks(num_nodes: int, length: int) -> Tensor:
    """List every walk from every node, `[M, W, L]`: the (M - 1)^(L - 1) that move, and last the one that stays.

    Walks of the same place W have the same anonymous form.

    Example:
        >>> all_walks(2, 3).tolist()
        [[[0, 1, 0], [0, 0, 0]], [[1, 0, 1], [1, 1, 1]]]
    """
    moving = [
        walk
        for walk in itertools.product(range(num_nodes), repeat=length)
        if walk[0] == 0 and all(now != after for now, after in itertools.pairwise(walk))
    ]
    from_zero = torch.tensor([*moving, (0,) * length])
    # From node i: every name moves up by i.
    return (from_zero + torch.arange(num_nodes).view(-1, 1, 1)) % num_nodes


def walk_probabilities(walks_WL: Tensor, mask_BM: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute the probability of each of `all_walks` from one node, `[B, W]`; zeros where the node is absent.

    Example:
        >>> mask = torch.tensor([[True, True, True], [True, False, True], [True, False, False]])
        >>> walk_probabilities(torch.tensor([[0, 1], [0, 2], [0, 0]]), mask, torch.float32)
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 1.0000, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """
    present_BWL = mask_BM[:, walks_WL]
    num_present_B1 = mask_BM.sum(dim=1, keepdim=True)
    stays_W = walks_WL[:, 0] == walks_WL[:, 1]
    # A node stays only where it is the only present one, and moves only where it is not.
    possible_BW = present_BWL.all(dim=2) & (stays_W == (num_present_B1 == 1))
    steps = walks_WL.shape[1] - 1
    return possible_BW.to(dtype) / (num_present_B1 - 1).clamp(min=1) ** steps


def sample_walks(scores: Tensor, mask_BM: Tensor) -> Tensor:
    """Walk, at each step, to the present neighbour of the highest score.

    Args:
        scores: independent and uniform in [0, 1), `[B or 1, L - 1, M, K, M]`: by step, start, walk and next node.
        mask_BM: bool, which nodes are present.

    Returns:
        K walks from each node, `[B, M, K, L]`.
    """
    _, _, num_nodes, num_walks, _ = scores.shape
    nodes = torch.arange(num_nodes, device=mask_BM.device)
    current = nodes.view(1, -1, 1).expand(mask_BM.shape[0], num_nodes, num_walks)
    walks = [current]
    for step_scores in scores.unbind(dim=1):
        allowed = mask_BM[:, None, None, :] & (nodes != current.unsqueeze(-1))
        best = step_scores.masked_fill(~allowed, -1.0).argmax(dim=-1)
        current = torch.where(allowed.any(dim=-1), best, current)
        walks.append(current)
    return torch.stack(walks, dim=-1)
