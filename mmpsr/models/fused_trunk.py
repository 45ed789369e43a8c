"""The trunk of a fused pass: projectors of all modalities and the graph layer, forward and backward by hand.

The backward pass takes the cotangents of all tasks at once, which autograd would take one after another.

Shape suffixes: T tasks, B clips, M modalities, R rows (clips by modalities), H hidden width, E narrow width of an
adapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.layers.alike import AlikeLinears, AlikeNorms, AlikeVectors, add_gradient
from mmpsr.layers.graph.ucgnn import UCGNN
from mmpsr.models.mcdm import MCDM, Projector

__all__ = ["Exponentials", "Trunk", "TrunkGradients", "draw_kept"]

MOST_PATTERNS = 10
"""Modalities up to which the exponentials of all sets of present ones are kept."""


def draw_kept(part: Tensor, dropout: nn.Dropout) -> None:
    """Fill with what dropout multiplies by, drawn as it draws."""
    if dropout.p == 0.0:
        part.fill_(1.0)
    elif part.device.type == "cpu":
        part.bernoulli_(1 - dropout.p).div_(1 - dropout.p)
    else:
        part.copy_(functional.dropout(torch.ones_like(part, memory_format=torch.contiguous_format), dropout.p))


class Exponentials:
    """exp(iA) of `UCGNN` for sets of present modalities, as real matrices `[B, 2 M, 2 M]` on halves of nodes."""

    def __init__(self, graph: UCGNN, num_nodes: int) -> None:
        self.graph, self.num_nodes = graph, num_nodes
        self.table: Tensor | None = None
        if num_nodes <= MOST_PATTERNS:
            weight = graph.linear.weight
            self.powers = 2 ** torch.arange(num_nodes, device=weight.device)
            patterns = torch.arange(2**num_nodes, device=weight.device)
            self.table = self._of((patterns.unsqueeze(1) & self.powers) > 0, weight.dtype)

    def _of(self, mask_BM: Tensor, dtype: torch.dtype) -> Tensor:
        size = 2 * self.num_nodes
        unit = torch.eye(size, dtype=dtype, device=mask_BM.device).view(1, self.num_nodes, 2 * size)
        return self.graph.propagate(unit.expand(len(mask_BM), -1, -1), mask_BM).reshape(-1, size, size)

    def of(self, mask_BM: Tensor, dtype: torch.dtype) -> Tensor:
        """Take those of a batch."""
        if self.table is None:
            return self._of(mask_BM, dtype)
        return self.table.index_select(0, (mask_BM * self.powers).sum(dim=1))


@dataclass(frozen=True)
class TrunkGradients:
    """What the trunk's layers took, and the gradients at what they gave, for each of T cotangents.

    Attributes:
        vectors: standardised, by modality `[B, D_m]`.
        hidden: what the adapters take, `[M, B, H]`.
        narrow: what their second layers take, `[M, B, E]`.
        normal: normalised, before gain and bias, `[M, B, H]`.
        nodes: what the graph layer takes, clip by clip, `[R, H]`.
        at_first: `[M, T, B, H]`, at the projectors' first layers; `at_down`, `at_up` and `at_norm` those of the
            adapters.
        at_down: `[M, T, B, E]`.
        at_up: `[M, T, B, H]`.
        at_norm: `[M, T, B, H]`.
        at_graph: `[T, B, M, H]`, at the graph layer's product.
        at_bias: `[T, B, M, H]`, at its bias.
    """

    vectors: tuple[Tensor, ...]
    hidden: Tensor
    narrow: Tensor
    normal: Tensor
    nodes: Tensor
    at_first: Tensor
    at_down: Tensor
    at_up: Tensor
    at_norm: Tensor
    at_graph: Tensor
    at_bias: Tensor

    def weighted(self, weights_TB: Tensor) -> TrunkGradients:
        """Sum over cotangents, each clip with its weights; T becomes 1."""
        of_modality, of_clip = weights_TB.unsqueeze(-1), weights_TB[..., None, None]
        of_first = [
            (values * of_modality).sum(dim=1, keepdim=True)
            for values in (self.at_first, self.at_down, self.at_up, self.at_norm)
        ]
        of_graph = [(values * of_clip).sum(dim=0, keepdim=True) for values in (self.at_graph, self.at_bias)]
        return TrunkGradients(self.vectors, self.hidden, self.narrow, self.normal, self.nodes, *of_first, *of_graph)


class Trunk:
    """Projectors of all modalities and the shared graph layer, forward and backward, without autograd."""

    def __init__(self, model: MCDM) -> None:
        projectors = [cast(Projector, model.projectors[name]) for name in model.modalities]
        adapters = [projector.adapter for projector in projectors]
        self.model, self.projectors, self.graph = model, projectors, cast(UCGNN, model.graph)
        self.first = [cast(nn.Linear, projector[0]) for projector in projectors]
        self.first_biases = AlikeVectors([layer.bias for layer in self.first])
        self.down, self.up = (AlikeLinears([getattr(part, name) for part in adapters]) for name in ("down", "up"))
        self.norm = AlikeNorms([cast(nn.LayerNorm, adapter.norm) for adapter in adapters])

    def forward(self, vectors: tuple[Tensor, ...], exponentials_BMM: Tensor) -> tuple[Tensor, Tensor]:
        """Give nodes and context, `[R, H]` each; what `backward` needs is kept."""
        for part in (self.first_biases, self.down, self.up, self.norm):
            part.refresh()
        num_clips, num_nodes = len(vectors[0]), len(vectors)
        width, narrow = self.graph.bias.shape[0], self.down.weight_SOI.shape[1]
        hidden_MBH = vectors[0].new_empty(num_nodes, num_clips, width)
        kept_MBH, kept_MBE = torch.empty_like(hidden_MBH), hidden_MBH.new_empty(num_nodes, num_clips, narrow)
        for index, (layer, vectors_BD) in enumerate(zip(self.first, vectors, strict=True)):
            torch.addmm(layer.bias, vectors_BD, layer.weight.T, out=hidden_MBH[index])
            draw_kept(kept_MBH[index], cast(nn.Dropout, self.projectors[index][2]))
            draw_kept(kept_MBE[index], self.projectors[index].adapter.dropout)
        hidden_MBH = hidden_MBH.relu_().mul_(kept_MBH)
        narrow_MBE = self.down(hidden_MBH).relu_().mul_(kept_MBE)
        sums_MBH = self.up(narrow_MBE).add_(hidden_MBH)
        normal_MBH, _, scale_MB1 = torch.native_layer_norm(sums_MBH, (width,), None, None, self.norm.eps)
        nodes_RH = self.norm.scale(normal_MBH).transpose(0, 1).reshape(-1, width)
        mixed = nodes_RH @ self.graph.linear.weight.T
        mixed_RH = torch.bmm(exponentials_BMM, mixed.view(num_clips, 2 * num_nodes, -1)).view_as(mixed)
        kept_RH = torch.empty_like(mixed)
        draw_kept(kept_RH, self.graph.dropout)
        context_RH = mixed_RH.add_(self.graph.bias).relu_().mul_(kept_RH)
        self.kept = (vectors, hidden_MBH, narrow_MBE, normal_MBH, nodes_RH)
        self.slopes = (
            kept_MBH.mul_(hidden_MBH.sign()).unsqueeze(1),
            kept_MBE.mul_(narrow_MBE.sign()).unsqueeze(1),
            kept_RH.mul_(context_RH.sign()),
        )
        self.scale_M1B1, self.exponentials = scale_MB1.unsqueeze(1), exponentials_BMM
        return nodes_RH, context_RH

    def backward(self, at_nodes_TRH: Tensor, at_context_TRH: Tensor) -> TrunkGradients:
        """Carry gradients at nodes and context back, for T cotangents at once."""
        num_tasks, _, width = at_nodes_TRH.shape
        num_clips = len(self.exponentials)
        shape = (num_tasks, num_clips, -1, width)
        slope_MBH, slope_MBE, slope_RH = self.slopes
        at_bias = at_context_TRH * slope_RH
        halves = at_bias.view(num_tasks, num_clips, self.exponentials.shape[1], -1)
        at_graph = (self.exponentials.mT @ halves).view_as(at_bias)
        at_nodes = torch.addmm(at_nodes_TRH.reshape(-1, width), at_graph.view(-1, width), self.graph.linear.weight)
        at_norm = at_nodes.view(shape).permute(2, 0, 1, 3).contiguous()
        normal = self.kept[3].unsqueeze(1)
        scaled = at_norm * self.norm.gain_SI[:, None, None]
        along = (scaled * normal).mean(dim=-1, keepdim=True)
        at_up = (scaled - scaled.mean(dim=-1, keepdim=True)).addcmul_(normal, along, value=-1).mul_(self.scale_M1B1)
        flat_up = at_up.flatten(1, 2)
        at_down = torch.bmm(flat_up, self.up.weight_SOI).view(*at_up.shape[:3], -1).mul_(slope_MBE)
        at_first = torch.baddbmm(flat_up, at_down.flatten(1, 2), self.down.weight_SOI).view_as(at_up).mul_(slope_MBH)
        return TrunkGradients(*self.kept, at_first, at_down, at_up, at_norm, at_graph.view(shape), at_bias.view(shape))

    def form(self, found: TrunkGradients) -> None:
        """Add the parameters' gradients, of one cotangent."""
        at_first, at_down, at_up, at_norm = (
            values.squeeze(1) for values in (found.at_first, found.at_down, found.at_up, found.at_norm)
        )
        for layer, vectors_BD, gradients_BH in zip(self.first, found.vectors, at_first, strict=True):
            add_gradient(layer.weight, gradients_BH.T @ vectors_BD)
        self.first_biases.form(at_first.sum(dim=1))
        self.down.form(found.hidden, at_down)
        self.up.form(found.narrow, at_up)
        self.norm.form(found.normal, at_norm)
        at_graph, at_bias = (values.reshape(-1, values.shape[-1]) for values in (found.at_graph, found.at_bias))
        add_gradient(self.graph.linear.weight, at_graph.T @ found.nodes)
        add_gradient(self.graph.bias, at_bias.sum(dim=0))
