"""The trunk of a fused pass: projectors of all modalities and the graph layer, forward and backward by hand.

The backward pass takes the cotangents of all tasks at once, which autograd would take one after another. The trunks of
several models of one shape are one as well, each on clips of its own.

Shape suffixes: S models, T tasks, B clips of a model, M modalities, L = S M modalities of all models, model by model, R
rows (clips by modalities), H hidden width, E narrow width of an adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from mmpsr.layers.alike import AlikeLinears, AlikeNorms, AlikeVectors, Padded
from mmpsr.layers.dropout import MemberDraws, draw_rows
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
        vectors: standardised, by modality `[S, B, D_m]`.
        hidden: what the adapters take, `[L, B, H]`.
        narrow: what their second layers take, `[L, B, E]`.
        normal: normalised, before gain and bias, `[L, B, H]`.
        nodes: what the graph layer takes, clip by clip, `[S, R, H]`.
        wide: `[4, L, T, B, H]`, at the projectors' first layers, at the adapters' second ones, at the biases of their
            norms, and at the gains.
        at_down: `[L, T, B, E]`, at the adapters' first layers.
        of_graph: `[2, S, T, B, M, H]`, at the graph layer's product and at its bias.
    """

    vectors: tuple[Tensor, ...]
    hidden: Tensor
    narrow: Tensor
    normal: Tensor
    nodes: Tensor
    wide: Tensor
    at_down: Tensor
    of_graph: Tensor

    def members(self) -> list[TrunkGradients]:
        """Give those of each model, S being 1."""
        num_members, num_nodes = len(self.nodes), len(self.vectors)
        if num_members == 1:
            return [self]
        found = []
        for index in range(num_members):
            own, nodes = slice(index, index + 1), slice(index * num_nodes, (index + 1) * num_nodes)
            found.append(
                TrunkGradients(
                    tuple(values[own] for values in self.vectors),
                    self.hidden[nodes],
                    self.narrow[nodes],
                    self.normal[nodes],
                    self.nodes[own],
                    self.wide[:, nodes],
                    self.at_down[nodes],
                    self.of_graph[:, own],
                )
            )
        return found

    def weighted(self, weights_STB: Tensor) -> TrunkGradients:
        """Sum over cotangents, each clip with its weights; T becomes 1."""
        weights_LTB1 = weights_STB.repeat_interleave(len(self.vectors), dim=0).unsqueeze(-1)
        wide, at_down = ((values * weights_LTB1).sum(dim=-3, keepdim=True) for values in (self.wide, self.at_down))
        of_graph = (self.of_graph * weights_STB[..., None, None]).sum(dim=2, keepdim=True)
        return replace(self, wide=wide, at_down=at_down, of_graph=of_graph)


class Trunk:
    """Projectors of all modalities and the shared graph layer, forward and backward, without autograd.

    Args:
        models: of one shape.
        stay: see `mmpsr.layers.alike.Padded`.
    """

    def __init__(self, models: Sequence[MCDM], stay: bool = False) -> None:
        self.models, modalities = list(models), models[0].modalities
        self.projectors = [[cast(Projector, model.projectors[name]) for name in modalities] for model in models]
        self.graphs = [cast(UCGNN, model.graph) for model in models]
        all_of = [projector for projectors in self.projectors for projector in projectors]
        first, adapters = [cast(nn.Linear, each[0]) for each in all_of], [each.adapter for each in all_of]
        by_modality = (first[index :: len(modalities)] for index in range(len(modalities)))
        self.first = [Padded([cast(nn.Parameter, layer.weight) for layer in layers], stay) for layers in by_modality]
        self.first_biases = AlikeVectors([layer.bias for layer in first], stay)
        self.down, self.up = (AlikeLinears([getattr(part, name) for part in adapters], stay) for name in ("down", "up"))
        self.norm = AlikeNorms([cast(nn.LayerNorm, adapter.norm) for adapter in adapters], stay)
        self.mixing = Padded([cast(nn.Parameter, graph.linear.weight) for graph in self.graphs], stay)
        self.graph_biases = AlikeVectors([graph.bias for graph in self.graphs], stay)

    def forward(
        self, vectors: tuple[Tensor, ...], exponentials_SBMM: Tensor, draws: MemberDraws | None = None
    ) -> tuple[Tensor, Tensor]:
        """Give nodes and context, `[S, R, H]` each; what `backward` needs is kept.

        Args:
            vectors: by modality `[S, B, D_m]`.
            exponentials_SBMM: `[S, B, 2 M, 2 M]`, see `Exponentials`.
            draws: of several models; torch's own where left out.
        """
        for part in (self.first_biases, self.down, self.up, self.norm, self.graph_biases):
            part.refresh()
        (num_members, num_clips, _), num_nodes = vectors[0].shape, len(vectors)
        width, narrow = self.graph_biases.values.shape[1], self.down.weight_SOI.shape[1]
        hidden_LBH = vectors[0].new_empty(num_members * num_nodes, num_clips, width)
        kept_LBH, kept_LBE = torch.empty_like(hidden_LBH), hidden_LBH.new_empty(len(hidden_LBH), num_clips, narrow)
        kept_SRH = hidden_LBH.new_empty(num_members, num_clips * num_nodes, width)
        self._draw(kept_LBH, kept_LBE, kept_SRH, draws)
        by_member, biases = hidden_LBH.unflatten(0, (num_members, -1)), self.first_biases.values
        for index, (weights, vectors_SBD) in enumerate(zip(self.first, vectors, strict=True)):
            bias_S1H = biases[index::num_nodes].unsqueeze(1)
            torch.baddbmm(bias_S1H, vectors_SBD, weights.refresh().mT, out=by_member[:, index])
        hidden_LBH.relu_().mul_(kept_LBH)
        narrow_LBE = self.down(hidden_LBH).relu_().mul_(kept_LBE)
        sums_LBH = self.up(narrow_LBE).add_(hidden_LBH)
        normal_LBH, _, scale_LB1 = torch.native_layer_norm(sums_LBH, (width,), None, None, self.norm.eps)
        nodes_SBMH = self.norm.scale(normal_LBH).unflatten(0, (num_members, -1)).transpose(1, 2)
        nodes_SRH = nodes_SBMH.reshape(num_members, -1, width)
        mixed = torch.bmm(nodes_SRH, self.mixing.refresh().mT)
        halves = mixed.view(num_members * num_clips, 2 * num_nodes, -1)
        context_SRH = torch.bmm(exponentials_SBMM.flatten(0, 1), halves).view_as(mixed)
        context_SRH.add_(self.graph_biases.values.unsqueeze(1)).relu_().mul_(kept_SRH)
        self.kept = (vectors, hidden_LBH, narrow_LBE, normal_LBH, nodes_SRH)
        self.slopes = (
            kept_LBH.mul_(hidden_LBH.sign()).unsqueeze(1),
            kept_LBE.mul_(narrow_LBE.sign()).unsqueeze(1),
            kept_SRH.mul_(context_SRH.sign()).unsqueeze(1),
        )
        self.scale_L1B1, self.exponentials = scale_LB1.unsqueeze(1), exponentials_SBMM
        return nodes_SRH, context_SRH

    def _draw(self, kept_LBH: Tensor, kept_LBE: Tensor, kept_SRH: Tensor, draws: MemberDraws | None) -> None:
        """Draw dropout in the order of the model, member by member."""
        num_clips, rows = kept_LBH.shape[1], iter(range(len(kept_LBH)))
        num_nodes = kept_SRH.shape[1] // num_clips
        for index, (projectors, graph) in enumerate(zip(self.projectors, self.graphs, strict=True)):
            size, generator = num_clips, None
            if draws is not None:
                size, generator = draws.sizes[index], draws.generators[index]
            for projector in projectors:
                row = next(rows)
                draw_rows(kept_LBH[row], size, cast(nn.Dropout, projector[2]).p, generator)
                draw_rows(kept_LBE[row], size, projector.adapter.dropout.p, generator)
            draw_rows(kept_SRH[index], size * num_nodes, graph.dropout.p, generator)

    @torch.no_grad()
    def backward(self, at_nodes_STRH: Tensor, at_context_STRH: Tensor) -> TrunkGradients:
        """Carry gradients at nodes and context back, for T cotangents at once."""
        num_members, num_tasks, _, width = at_nodes_STRH.shape
        num_clips, num_halves = self.exponentials.shape[1:3]
        num_nodes = num_halves // 2
        slope_L1BH, slope_L1BE, slope_S1RH = self.slopes
        of_graph = at_nodes_STRH.new_empty(2, num_members, num_tasks, num_clips, num_nodes, width)
        halves = of_graph.view(2, num_members, num_tasks, num_clips, num_halves, -1)
        torch.mul(at_context_STRH, slope_S1RH, out=of_graph[1].view_as(at_context_STRH))
        torch.matmul(self.exponentials.mT.unsqueeze(1), halves[1], out=halves[0])
        at_graph = of_graph[0].view(num_members, -1, width)
        at_nodes = torch.baddbmm(at_nodes_STRH.reshape(num_members, -1, width), at_graph, self.mixing.stacked)
        wide = at_nodes.new_empty(4, num_members * num_nodes, num_tasks, num_clips, width)
        at_first, at_up, at_norm, at_gain = wide.unbind()
        by_node = at_nodes.view(num_members, num_tasks, num_clips, num_nodes, width).permute(0, 3, 1, 2, 4)
        at_norm.unflatten(0, (num_members, -1)).copy_(by_node)
        normal = self.kept[3].unsqueeze(1)
        gain = self.norm.gain_SI[:, None, None]
        torch.mul(at_norm, normal, out=at_gain)
        scaled, along = at_norm * gain, (at_gain * gain).mean(dim=-1, keepdim=True)
        torch.sub(scaled, scaled.mean(dim=-1, keepdim=True), out=at_up)
        at_up.addcmul_(normal, along, value=-1).mul_(self.scale_L1B1)
        flat_up = at_up.flatten(1, 2)
        at_down = torch.bmm(flat_up, self.up.weight_SOI).view(len(at_up), num_tasks, num_clips, -1).mul_(slope_L1BE)
        torch.baddbmm(flat_up, at_down.flatten(1, 2), self.down.weight_SOI, out=at_first.flatten(1, 2))
        at_first.mul_(slope_L1BH)
        return TrunkGradients(*self.kept, wide, at_down, of_graph)

    @torch.no_grad()
    def form(self, found: TrunkGradients) -> None:
        """Add the parameters' gradients, of one cotangent."""
        num_members, num_nodes = len(found.nodes), len(found.vectors)
        at_first, at_up, *_ = found.wide.squeeze(2).unbind()
        of_first, of_up, of_norm, of_gain = found.wide.sum(dim=(2, 3)).unbind()
        by_member = at_first.unflatten(0, (num_members, num_nodes))
        for index, (weights, vectors_SBD) in enumerate(zip(self.first, found.vectors, strict=True)):
            weights.add_gradients(torch.bmm(by_member[:, index].mT, vectors_SBD, out=weights.room()))
        self.down.form(found.hidden, found.at_down.squeeze(1))
        up = self.up.weights
        up.add_gradients(torch.bmm(at_up.mT, found.narrow, out=up.room()))
        self.first_biases.form(of_first)
        cast(Padded, self.up.biases).add_gradients(of_up)
        self.norm.biases.add_gradients(of_norm)
        self.norm.gains.add_gradients(of_gain)
        at_graph, at_bias = found.of_graph.flatten(2, -2)
        self.mixing.add_gradients(torch.bmm(at_graph.mT, found.nodes, out=self.mixing.room()))
        self.graph_biases.form(at_bias.sum(dim=1))
