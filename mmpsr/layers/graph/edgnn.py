"""Continuous edge directions between a clip's present modalities.

Shape suffixes: B clips, M modalities (nodes), H hidden width, P pairs of modalities.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmpsr.layers.recorded import Linear, per_clip

__all__ = ["EDGNN"]

MIN_DEGREE = 1e-6


class EDGNN(nn.Module):
    """Graph convolution with a learned direction for every edge (CoED).

    Every pair i < j has an angle theta_ij in [0, pi/2]: at 0 the edge runs from i to j, at pi/2 from j to i, and at
    pi/4, where it starts, both ways alike; Theta_ij = theta_ij and Theta_ji = pi/2 - theta_ij. On present nodes

        A = cos^2(Theta) without self loops,  P = D_out^{-1/2} A D_in^{-1/2},
        out = alpha (P^T X W1 + b1) + (1 - alpha)(P X W2 + b2) + X Ws + bs

    with D_out the row sums of A and D_in its column sums, both at least 1e-6, so that a node that nothing enters or
    leaves gets no message that way. The last two terms are the self loop. A lone modality becomes
    alpha b1 + (1 - alpha) b2 + x Ws + bs: without the self loop, a constant.

    2(H^2 + H) + M(M - 1)/2 parameters (at least one angle), and H^2 + H more for the self loop; the cost is two or
    three linear maps and two products with an M by M matrix per clip.

    After every optimizer step `constrain_` clamps the angles; `learning_rates` holds their own rate, 0.01.

    Args:
        width: H.
        num_nodes: M, at least 1.
        alpha: share of messages along the edges, in [0, 1]; the rest comes against them.
        self_loop: add X Ws + bs.

    Raises:
        ValueError: `num_nodes` is below 1; in use: the batch has another number of modalities.

    References:
        Pahng, Hormoz: Improving graph neural networks by learning continuous edge directions. ICLR 2025.
    """

    learning_rates: ClassVar[dict[str, float]] = {"theta": 0.01}
    slots: Tensor

    def __init__(self, width: int, num_nodes: int, alpha: float = 0.5, self_loop: bool = True) -> None:
        super().__init__()
        if num_nodes < 1:
            raise ValueError(f"EDGNN learns an angle per pair of modalities and needs their number; found {num_nodes}")
        rows, columns = torch.triu_indices(num_nodes, num_nodes, offset=1)
        # A lone modality has an angle that nothing uses: optimizers and gradients want no empty parameters.
        num_pairs = max(1, len(rows))
        self.theta = nn.Parameter(torch.full((num_pairs,), math.pi / 4))
        self.incoming = Linear(width, width)
        self.outgoing = Linear(width, width)
        self.own = Linear(width, width) if self_loop else None
        self.alpha = alpha
        # Where in (cos^2 theta, sin^2 theta, 0) each entry of A stands.
        slots = torch.full((num_nodes, num_nodes), 2 * num_pairs)
        slots[rows, columns] = torch.arange(len(rows))
        slots[columns, rows] = torch.arange(len(rows)) + num_pairs
        self.register_buffer("slots", slots, persistent=False)

    @torch.no_grad()
    def constrain_(self) -> None:
        """Clamp the angles to [0, pi/2], in place."""
        self.theta.clamp_(0.0, math.pi / 2)

    def propagation(self, mask_BM: Tensor) -> Tensor:
        """Compute P of each clip, zero from and to absent modalities, `[B, M, M]`."""
        theta_BP = per_clip(self.theta, mask_BM.shape[0])
        zeros_B1 = theta_BP.new_zeros(mask_BM.shape[0], 1)
        entries = torch.cat([theta_BP.cos().square(), theta_BP.sin().square(), zeros_B1], dim=1)
        num_nodes = len(self.slots)
        weights_BMM = entries.index_select(1, self.slots.flatten()).unflatten(1, (num_nodes, num_nodes))
        weights_BMM = weights_BMM * (mask_BM.unsqueeze(1) & mask_BM.unsqueeze(2)).to(weights_BMM.dtype)
        out_BM1 = weights_BMM.sum(dim=2, keepdim=True).clamp(min=MIN_DEGREE)
        in_B1M = weights_BMM.sum(dim=1, keepdim=True).clamp(min=MIN_DEGREE)
        return out_BM1.rsqrt() * weights_BMM * in_B1M.rsqrt()

    def forward(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Map `[B, M, H]` nodes and bool `[B, M]` presence to `[B, M, H]`."""
        if nodes_BMH.shape[1] != len(self.slots):
            raise ValueError(f"EDGNN was made for {len(self.slots)} modalities; found {nodes_BMH.shape[1]}")
        along_BMM = self.propagation(mask_BM)
        incoming_BMH = self.incoming(along_BMM.transpose(1, 2) @ nodes_BMH)
        mixed_BMH = self.alpha * incoming_BMH + (1 - self.alpha) * self.outgoing(along_BMM @ nodes_BMH)
        return mixed_BMH if self.own is None else mixed_BMH + self.own(nodes_BMH)
