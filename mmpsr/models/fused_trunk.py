"""The trunk of a fused pass: projectors of all modalities and the graph layer, forward and backward by hand.

The backward pass takes the cotangents of all tasks at once, which autograd would take one after another.

Shape suffixes: T tasks, B clips, M modalities, R rows (clips by modalities), H hidden width, E narrow width of an
adapter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from mmpsr.layers.alike import AlikeLinears, AlikeNorms, AlikeVectors, Padded, add_gradient
from mmpsr.layers.dropout import draw_kept
from mmpsr.layers.graph.ucgnn import UCGNN
from mmpsr.models.mcdm import MCDM, Projector

__all__ = ["Exponentials", "Trunk", "TrunkGradients"]

MOST_PATTERNS = 10
"""Modalities up to which the exponentials of all sets of present ones are kept."""


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
        wide: `[4, M, T, B, H]`, at the projectors' first layers, at the adapters' second ones, at the biases of their
            norms, and at the gains.
        at_down: `[M, T, B, E]`, at the adapters' first layers.
        of_graph: `[2, T, B, M, H]`, at the graph layer's product and at its bias.
    """

    vectors: tuple[Tensor, ...]
    hidden: Tensor
    narrow: Tensor
    normal: Tensor
    nodes: Tensor
    wide: Tensor
    at_down: Tensor
    of_graph: Tensor

    def weighted(self, weights_TB: Tensor) -> TrunkGradients:
        """Sum over cotangents, each clip with its weights; T becomes 1."""
        wide, at_down = (
            (values * weights_TB.unsqueeze(-1)).sum(dim=-3, keepdim=True) for values in (self.wide, self.at_down)
        )
        of_graph = (self.of_graph * weights_TB[..., None, None]).sum(dim=1, keepdim=True)
        return replace(self, wide=wide, at_down=at_down, of_graph=of_graph)


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
            draw_kept(kept_MBH[index], cast(nn.Dropout, self.projectors[index][2]).p)
            draw_kept(kept_MBE[index], self.projectors[index].adapter.dropout.p)
        hidden_MBH = hidden_MBH.relu_().mul_(kept_MBH)
        narrow_MBE = self.down(hidden_MBH).relu_().mul_(kept_MBE)
        sums_MBH = self.up(narrow_MBE).add_(hidden_MBH)
        normal_MBH, _, scale_MB1 = torch.native_layer_norm(sums_MBH, (width,), None, None, self.norm.eps)
        nodes_RH = self.norm.scale(normal_MBH).transpose(0, 1).reshape(-1, width)
        mixed = nodes_RH @ self.graph.linear.weight.T
        mixed_RH = torch.bmm(exponentials_BMM, mixed.view(num_clips, 2 * num_nodes, -1)).view_as(mixed)
        kept_RH = torch.empty_like(mixed)
        draw_kept(kept_RH, self.graph.dropout.p)
        context_RH = mixed_RH.add_(self.graph.bias).relu_().mul_(kept_RH)
        self.kept = (vectors, hidden_MBH, narrow_MBE, normal_MBH, nodes_RH)
        self.slopes = (
            kept_MBH.mul_(hidden_MBH.sign()).unsqueeze(1),
            kept_MBE.mul_(narrow_MBE.sign()).unsqueeze(1),
            kept_RH.mul_(context_RH.sign()),
        )
        self.scale_M1B1, self.exponentials = scale_MB1.unsqueeze(1), exponentials_BMM
        return nodes_RH, context_RH

    @torch.no_grad()
    def backward(self, at_nodes_TRH: Tensor, at_context_TRH: Tensor) -> TrunkGradients:
        """Carry gradients at nodes and context back, for T cotangents at once."""
        num_tasks, _, width = at_nodes_TRH.shape
        (num_nodes, num_clips, _), num_halves = self.kept[1].shape, self.exponentials.shape[1]
        slope_MBH, slope_MBE, slope_RH = self.slopes
        of_graph = at_nodes_TRH.new_empty(2, num_tasks, num_clips, num_nodes, width)
        halves = of_graph.view(2, num_tasks, num_clips, num_halves, -1)
        torch.mul(at_context_TRH, slope_RH, out=of_graph[1].view_as(at_context_TRH))
        torch.matmul(self.exponentials.mT, halves[1], out=halves[0])
        at_graph = of_graph[0].view(-1, width)
        at_nodes = torch.addmm(at_nodes_TRH.reshape(-1, width), at_graph, self.graph.linear.weight)
        wide = at_nodes.new_empty(4, num_nodes, num_tasks, num_clips, width)
        at_first, at_up, at_norm, at_gain = wide.unbind()
        at_norm.copy_(at_nodes.view(num_tasks, num_clips, num_nodes, width).permute(2, 0, 1, 3))
        normal = self.kept[3].unsqueeze(1)
        gain = self.norm.gain_SI[:, None, None]
        torch.mul(at_norm, normal, out=at_gain)
        scaled, along = at_norm * gain, (at_gain * gain).mean(dim=-1, keepdim=True)
        torch.sub(scaled, scaled.mean(dim=-1, keepdim=True), out=at_up)
        at_up.addcmul_(normal, along, value=-1).mul_(self.scale_M1B1)
        flat_up = at_up.flatten(1, 2)
        at_down = torch.bmm(flat_up, self.up.weight_SOI).view(num_nodes, num_tasks, num_clips, -1).mul_(slope_MBE)
        torch.baddbmm(flat_up, at_down.flatten(1, 2), self.down.weight_SOI, out=at_first.flatten(1, 2))
        at_first.mul_(slope_MBH)
        return TrunkGradients(*self.kept, wide, at_down, of_graph)

    @torch.no_grad()
    def form(self, found: TrunkGradients) -> None:
        """Add the parameters' gradients, of one cotangent."""
        at_first, at_up, *_ = found.wide.squeeze(2).unbind()
        of_first, of_up, of_norm, of_gain = found.wide.sum(dim=(2, 3)).unbind()
        for layer, vectors_BD, gradients_BH in zip(self.first, found.vectors, at_first, strict=True):
            add_gradient(layer.weight, gradients_BH.T @ vectors_BD)
        self.down.form(found.hidden, found.at_down.squeeze(1))
        up = self.up.weights
        up.add_gradients(torch.bmm(at_up.mT, found.narrow, out=up.room()))
        self.first_biases.form(of_first)
        cast(Padded, self.up.biases).add_gradients(of_up)
        self.norm.biases.add_gradients(of_norm)
        self.norm.gains.add_gradients(of_gain)
        at_graph, at_bias = found.of_graph.flatten(1, -2)
        add_gradient(self.graph.linear.weight, at_graph.T @ found.nodes)
        add_gradient(self.graph.bias, at_bias.sum(dim=0))
