"""One training pass of MCDM in few large products: the towers of all tasks as one, the trunk backward for all tasks.

`MCDM` as it stands starts a kernel for each layer of each task, and small models train for the start of kernels. Here
the towers' layers are stacks (`mmpsr.layers.alike`), the trunk's gradients are taken for all tasks at once by hand, and
the mean over queries is taken before the products that it commutes with. Outputs and gradients are those of the model
but for rounding, dropout included: numbers are drawn in the model's order.

Shape suffixes: T tasks, B clips, M modalities, R rows (clips by modalities), H hidden width, E narrow width of an
adapter, N heads, D width of a head, C classes of the task that has most, K losses of a task.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.batch import Batch
from mmpsr.layers.alike import AlikeLinears, AlikeNorms, AlikeVectors, Padded, add_gradient
from mmpsr.layers.attention.cross import CrossAttention
from mmpsr.layers.dropout import draw_kept
from mmpsr.layers.graph.ucgnn import UCGNN
from mmpsr.models.base import FusionModel, Outputs, Shared
from mmpsr.models.fused_trunk import Exponentials, Trunk, TrunkGradients
from mmpsr.models.mcdm import MCDM, Projector, TaskTower

__all__ = ["FusedMCDM", "FusedPass", "fits"]

LEAST_NORM = 1e-8
"""Of a vector in a cosine."""
MOST_PRODUCTS = 512
"""Clips by tasks up to which scores of attention are sums of products, which take memory; matrix products beyond."""


def fits(model: FusionModel) -> bool:
    """Tell whether the model is made of the layers that are fused: those published, and their switches."""
    if not isinstance(model, MCDM) or model.auxiliary_index is not None or model.own_trunks:
        return False
    towers = [cast(TaskTower, tower) for tower in model.towers.values()]
    return _is_plain(model.graph) and all(
        tower.predictor is not None
        and _is_plain(tower.graph)
        and type(tower.attention) is CrossAttention
        and tower.attention.query.bias is not None
        and tower.text_guides is None
        and tower.conflict is None
        and tower.variance_head is None
        and _has_norm(tower) == _has_norm(towers[0])
        for tower in towers
    )


def _has_norm(tower: TaskTower) -> bool:
    return not isinstance(cast(Projector, tower.predictor).adapter.norm, nn.Identity)


def _is_plain(graph: nn.Module) -> bool:
    return type(graph) is UCGNN and graph.activation is torch.relu


class _Bottleneck:
    """Projectors of all towers, `Linear -> ReLU -> dropout -> adapter`, `[T, R, I] -> [T, R, O]`."""

    def __init__(self, projectors: list[Projector]) -> None:
        adapters = [projector.adapter for projector in projectors]
        self.first = AlikeLinears([cast(nn.Linear, projector[0]) for projector in projectors])
        self.down, self.up = (AlikeLinears([getattr(part, name) for part in adapters]) for name in ("down", "up"))
        norms = [adapter.norm for adapter in adapters]
        self.norm = None if isinstance(norms[0], nn.Identity) else AlikeNorms(cast(list[nn.LayerNorm], norms))

    def __call__(self, inputs_TRI: Tensor, kept_TRO: Tensor, kept_TRE: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Apply them; give outputs, and the outputs of each layer that gradients are wanted at."""
        for part in (self.first, self.down, self.up, self.norm):
            if part is not None:
                part.refresh()
        first = self.first(inputs_TRI)
        hidden = torch.relu(first) * kept_TRO
        down = self.down(hidden)
        narrow = torch.relu(down) * kept_TRE
        outputs = sums = self.up(narrow) + hidden
        self.inputs, asked = (inputs_TRI, hidden.detach(), narrow.detach()), [first, down, sums]
        if self.norm is not None:
            normal = self.norm.normalize(sums)
            outputs = self.norm.scale(normal)
            self.normal = normal.detach()
            asked.append(outputs)
        return outputs, asked

    def form(self, gradients: Iterator[Tensor]) -> None:
        """Add the parameters' gradients, from those at what was asked."""
        for layer, inputs in zip((self.first, self.down, self.up), self.inputs, strict=True):
            layer.form(inputs, next(gradients))
        if self.norm is not None:
            self.norm.form(self.normal, next(gradients))


class FusedMCDM:
    """A model's training pass in few products, which shares the model's parameters.

    The parameters of alike layers are laid one after another in memory. What a pass keeps is held until the next one.

    Args:
        model: one that `fits`.
    """

    def __init__(self, model: MCDM) -> None:
        self.model, self.trunk = model, Trunk(model)
        self.kept: _Kept | None = None
        towers = [cast(TaskTower, tower) for tower in model.towers.values()]
        attentions = [cast(CrossAttention, tower.attention) for tower in towers]
        self.towers = towers
        self.num_heads, self.scale = attentions[0].num_heads, attentions[0].scale
        self.exponentials = Exponentials(cast(UCGNN, model.graph), len(model.modalities))
        self.predictor = _Bottleneck([cast(Projector, tower.predictor) for tower in towers])
        self.projector = _Bottleneck([tower.projector for tower in towers])
        graphs = [cast(UCGNN, tower.graph) for tower in towers]
        self.graph = AlikeLinears([graph.linear for graph in graphs])
        self.graph_biases = AlikeVectors([graph.bias for graph in graphs])
        self.query, self.output = (AlikeLinears([getattr(part, name) for part in attentions]) for name in _ENDS)
        self.key_value = AlikeLinears([part.key_value for part in attentions])
        self.head, self.last = (AlikeLinears([cast(nn.Linear, tower.head[at]) for tower in towers]) for at in (0, 3))
        self.guides = self.temperatures = None
        if towers[0].guides is not None:
            self.guides = AlikeVectors([cast(nn.Parameter, tower.guides) for tower in towers])
        if towers[0].log_temperature is not None:
            self.temperatures = AlikeVectors([cast(nn.Parameter, tower.log_temperature) for tower in towers])

    def draw(self, num_clips: int, num_nodes: int) -> _Kept:
        """Draw dropout in the towers, in memory that serves every batch of the same size."""
        if self.kept is None or self.kept.size != (num_clips, num_nodes):
            self.kept = _Kept(self, num_clips, num_nodes)
        self.kept.draw()
        return self.kept

    def __call__(self, batch: Batch) -> FusedPass:
        """Predict every task for every clip, as the model does in training mode.

        Raises:
            ValueError: the batch has other modalities than the model.
        """
        return FusedPass(self, batch)


_ENDS = ("query", "output")


class _Kept:
    """What dropout in the towers multiplies by, drawn tower by tower in the order of the model."""

    def __init__(self, fused: FusedMCDM, num_clips: int, num_nodes: int) -> None:
        num_tasks, rows = len(fused.towers), num_clips * num_nodes
        new, num_heads = fused.graph.weight_SOI.new_zeros, fused.num_heads
        widths = [layer.weight_SOI.shape[1] for layer in (fused.predictor.first, fused.predictor.down)]
        self.classes, self.few = (new(num_tasks, rows, width) for width in widths)
        widths = [layer.weight_SOI.shape[1] for layer in (fused.projector.first, fused.projector.down, fused.graph)]
        self.projected, self.narrow, self.nodes = (new(num_tasks, rows, width) for width in widths)
        self.weights = new(num_tasks, num_clips, num_heads, num_nodes, num_nodes)
        self.head = new(num_tasks, num_clips, fused.head.weight_SOI.shape[1])
        self.size, self.towers = (num_clips, num_nodes), fused.towers

    def draw(self) -> None:
        """Draw anew."""
        for index, tower in enumerate(self.towers):
            predictor = cast(Projector, tower.predictor)
            adapter = predictor.adapter
            own = (self.classes, cast(nn.Linear, predictor[0])), (self.few, adapter.down)
            for (values, layer), dropout in zip(own, (predictor[2], adapter.dropout), strict=True):
                draw_kept(values[index, :, : layer.out_features], cast(nn.Dropout, dropout).p)
            draw_kept(self.projected[index], cast(nn.Dropout, tower.projector[2]).p)
            draw_kept(self.narrow[index], tower.projector.adapter.dropout.p)
            draw_kept(self.nodes[index], cast(UCGNN, tower.graph).dropout.p)
            draw_kept(self.weights[index], cast(CrossAttention, tower.attention).dropout.p)
            draw_kept(self.head[index], cast(nn.Dropout, tower.head[2]).p)


class FusedPass:
    """One pass: predictions, then gradients at what layers gave, then those of parameters.

    Args:
        fused: the layers.
        batch: clips.

    Attributes:
        predictions: of the batch, with gradients.
    """

    def __init__(self, fused: FusedMCDM, batch: Batch) -> None:
        self.fused, model, mask_BM = fused, fused.model, batch.presence
        with torch.no_grad():
            standardized = model.standardize(batch)
            exponentials = fused.exponentials.of(mask_BM, fused.graph.weight_SOI.dtype)
            nodes_RH, context_RH = fused.trunk.forward(tuple(standardized.values()), exponentials)
            self.inputs = model.linear_inputs(standardized, batch) if model.linear_paths else batch.presence
        self.nodes_TRH, self.context_TRH = (
            values.expand(len(fused.towers), -1, -1).detach().requires_grad_() for values in (nodes_RH, context_RH)
        )
        with torch.enable_grad():
            outputs = self.predict(mask_BM, exponentials)
        self.predictions = model.collect(outputs, Shared((), mask_BM, self.inputs, batch.features))

    def predict(self, mask_BM: Tensor, exponentials_BMM: Tensor) -> dict[str, Outputs]:
        """Run the towers, and keep what the gradients of their parameters need."""
        kept = self.fused.draw(*mask_BM.shape)
        queries_TRH = self._queries(kept, exponentials_BMM)
        pooled_TBH = self._attend(queries_TRH, mask_BM, kept)
        outputs_TBC, self.similarity = self._head(pooled_TBH, kept)
        self.offsets = self._offsets()
        return {task: self._finish(index, task, outputs_TBC) for index, task in enumerate(self.fused.model.tasks)}

    def _queries(self, kept: _Kept, exponentials_BMM: Tensor) -> Tensor:
        fused, (num_tasks, num_rows, width) = self.fused, self.nodes_TRH.shape
        classes, self.at_predictor = fused.predictor(self.nodes_TRH, kept.classes, kept.few)
        self.projected, self.at_projector = fused.projector(classes, kept.projected, kept.narrow)
        fused.graph.refresh()
        fused.graph_biases.refresh()
        mixed = fused.graph(self.projected)
        halves = mixed.view(-1, exponentials_BMM.shape[1], width // 2)
        turned = torch.bmm(exponentials_BMM.repeat(num_tasks, 1, 1), halves).view(num_tasks, num_rows, width)
        summed = turned + fused.graph_biases.values.unsqueeze(1)
        self.at_graph = [mixed, summed]
        return torch.relu(summed) * kept.nodes

    def _attend(self, queries_TRH: Tensor, mask_BM: Tensor, kept: _Kept) -> Tensor:
        """Average over present queries what they attend to.

        The mean commutes with all that follows the softmax: weights are averaged, then nodes mixed by head, and both
        products with weights taken of one row a clip.
        """
        fused, num_heads = self.fused, self.fused.num_heads
        for layer in (fused.query, fused.key_value, fused.output):
            layer.refresh()
        num_tasks, _, width = queries_TRH.shape
        num_clips, num_nodes = mask_BM.shape
        weight_TOH, bias_TO = fused.key_value.weight_SOI, cast(Tensor, fused.key_value.bias_SO)
        queries = fused.query(queries_TRH)
        keys = torch.baddbmm(bias_TO[:, None, :width], self.context_TRH, weight_TOH[:, :width].mT)
        scores = _scores(*(each.view(-1, num_nodes, num_heads, width // num_heads) for each in (queries, keys)))
        absent_MB11 = (~mask_BM).T[..., None, None].repeat(1, num_tasks, 1, 1)
        lowest = torch.finfo(scores.dtype).min
        weights = torch.softmax((scores * fused.scale).masked_fill(absent_MB11, lowest), dim=0)
        present_BM = mask_BM.to(scores.dtype)
        shares_BM = present_BM / present_BM.sum(dim=1, keepdim=True).clamp(min=1)
        factors = kept.weights * (shares_BM.unsqueeze(2) * present_BM.unsqueeze(1)).unsqueeze(1)
        factors = factors.flatten(0, 1).permute(3, 0, 2, 1)  # as the scores: keys, clips, queries, heads
        mean_MBN = (weights * factors).sum(dim=2)
        mixed_BNH = torch.bmm(mean_MBN.permute(1, 2, 0), self.context_TRH.reshape(-1, num_nodes, width))
        by_head = mixed_BNH.view(num_tasks, num_clips, num_heads, width).transpose(1, 2).flatten(0, 1)
        sums = mean_MBN.sum(dim=0).view(num_tasks, num_clips, num_heads).transpose(1, 2).reshape(-1, num_clips, 1)
        values = torch.bmm(by_head, weight_TOH[:, width:].reshape(len(by_head), -1, width).mT)
        values = torch.addcmul(values, sums, bias_TO[:, width:].reshape(len(by_head), 1, -1))
        heads = values.view(num_tasks, num_heads, num_clips, -1).transpose(1, 2).reshape(num_tasks, num_clips, width)
        self.some_B1 = (shares_BM.sum(dim=1, keepdim=True) > 0).to(scores.dtype)
        pooled = torch.bmm(heads, fused.output.weight_SOI.mT)
        pooled = torch.addcmul(pooled, self.some_B1, cast(Tensor, fused.output.bias_SO).unsqueeze(1))
        self.attended = [part.detach() for part in (queries_TRH, by_head, sums, heads)]
        self.at_attention = [queries, keys, values, pooled]
        return pooled

    def _head(self, pooled_TBH: Tensor, kept: _Kept) -> tuple[Tensor, Tensor | None]:
        """Give what heads give, `[T, B, C]`, and similarities to guides."""
        fused = self.fused
        fused.head.refresh()
        fused.last.refresh()
        hidden = fused.head(pooled_TBH)
        active = torch.relu(hidden) * kept.head
        outputs = fused.last(active)
        self.headed, self.at_head = (pooled_TBH.detach(), active.detach()), [hidden, outputs]
        if fused.guides is None:
            return outputs, None
        fused.guides.refresh()
        self.unit_TCH, self.norm_TC1 = _unit(fused.guides.values)
        seen_TBH = _unit(pooled_TBH)[0]
        similarity = torch.bmm(seen_TBH, self.unit_TCH.mT)
        self.seen_TBH = seen_TBH.detach()
        if fused.temperatures is not None:
            fused.temperatures.refresh()
            similarity = similarity * fused.temperatures.values.exp()[:, None, None]
        return outputs, similarity

    def _offsets(self) -> list[Tensor | None]:
        """Give what linear paths predict, by task."""
        model = self.fused.model
        offsets: list[Tensor | None] = []
        for task in model.tasks:
            if task not in model.linear_paths:
                offsets.append(None)
                continue
            path = cast(nn.Linear, model.linear_paths[task])
            offset_BC = functional.linear(self.inputs, path.weight, path.bias).detach()
            offsets.append(offset_BC.requires_grad_(path.weight.requires_grad))
        return offsets

    def _finish(self, index: int, task: str, outputs_TBC: Tensor) -> Outputs:
        tower, width = self.fused.towers[index], self.fused.model.tasks[task].num_outputs
        output_BC = outputs_TBC[index, :, :width]
        output_BC = torch.sigmoid(output_BC) if tower.regression else output_BC
        if self.similarity is not None:
            near_BC = self.similarity[index, :, :width]
            output_BC = (output_BC + (torch.sigmoid(near_BC) if tower.regression else near_BC)) / 2
        return Outputs(tower.beside(output_BC, self.offsets[index]))

    def gradients(self, loss: Tensor) -> None:
        """Take the gradient of a sum of losses at what every layer of the towers gave."""
        trained = [offset for offset in self.offsets if offset is not None and offset.requires_grad]
        similarity = [] if self.similarity is None else [self.similarity]
        parts = [
            self.at_predictor, self.at_projector, self.at_graph, self.at_attention, self.at_head, similarity, trained,
            [self.nodes_TRH, self.context_TRH],
        ]  # fmt: skip
        asked = [tensor for part in parts for tensor in part]
        *self.found, self.at_nodes, self.at_context = torch.autograd.grad(
            loss, asked, allow_unused=True, materialize_grads=True
        )

    @torch.no_grad()
    def trunk_gradients(self, by_task: bool) -> TrunkGradients:
        """Carry the gradient at the nodes to the trunk, by task (T cotangents) or of all tasks together (one)."""
        ends = self.at_nodes, self.at_context
        if not by_task:
            ends = ends[0].sum(dim=0, keepdim=True), ends[1].sum(dim=0, keepdim=True)
        return self.fused.trunk.backward(*ends)

    @torch.no_grad()
    def form(self, weights_TB: Tensor | None) -> None:
        """Add the gradients of the towers' parameters.

        Args:
            weights_TB: weight of each clip's loss, by task; None where the loss was weighted.
        """
        fused, found = self.fused, self.found if weights_TB is None else self._weighted(weights_TB)
        gradients = iter(found)
        fused.predictor.form(gradients)
        fused.projector.form(gradients)
        fused.graph.form(self.projected.detach(), next(gradients))
        fused.graph_biases.form(next(gradients).sum(dim=1))
        self._form_attention(*(next(gradients) for _ in range(4)))
        for layer, inputs in zip((fused.head, fused.last), self.headed, strict=True):
            layer.form(inputs, next(gradients))
        if self.similarity is not None:
            self._form_guides(next(gradients))
        for task, offset in zip(fused.model.tasks, self.offsets, strict=True):
            if offset is not None and offset.requires_grad:
                path, gradient_BC = cast(nn.Linear, fused.model.linear_paths[task]), next(gradients)
                add_gradient(path.weight, gradient_BC.T @ self.inputs)
                add_gradient(path.bias, gradient_BC.sum(dim=0))

    def _weighted(self, weights_TB: Tensor) -> list[Tensor]:
        """Multiply each clip's gradients by its weight."""
        of_clips, num_clips = weights_TB.unsqueeze(2), weights_TB.shape[1]
        of_rows = of_clips.repeat_interleave(self.nodes_TRH.shape[1] // num_clips, dim=1)
        of_heads = of_clips.repeat_interleave(self.fused.num_heads, dim=0)
        sizes = {of_rows.shape[:2]: of_rows, of_heads.shape[:2]: of_heads, of_clips.shape[:2]: of_clips}
        num_offsets = sum(offset is not None and offset.requires_grad for offset in self.offsets)
        stacked = self.found[: len(self.found) - num_offsets]
        weighted = torch._foreach_mul(stacked, [sizes[part.shape[:2]] for part in stacked])
        owners = [index for index, offset in enumerate(self.offsets) if offset is not None and offset.requires_grad]
        offsets = self.found[len(stacked) :]
        return [*weighted, *(part * of_clips[owner] for owner, part in zip(owners, offsets, strict=True))]

    def _form_attention(self, at_queries: Tensor, at_keys: Tensor, at_values: Tensor, at_pooled: Tensor) -> None:
        fused = self.fused
        queries_TRH, by_head, sums, heads_TBH = self.attended
        num_tasks, _, width = queries_TRH.shape
        fused.query.form(queries_TRH, at_queries)
        weight = fused.key_value.weights.room()
        context_TRH, num_heads = self.context_TRH.detach(), fused.num_heads
        for index, part in enumerate(weight.unbind()):
            own = slice(index * num_heads, (index + 1) * num_heads)
            torch.mm(at_keys[index].T, context_TRH[index], out=part[:width])
            torch.bmm(at_values[own].mT, by_head[own], out=part[width:].view(num_heads, -1, width))
        of_values = (at_values * sums).sum(dim=1).view(num_tasks, width)
        fused.key_value.weights.add_gradients(weight)
        cast(Padded, fused.key_value.biases).add_gradients(torch.cat([at_keys.sum(dim=1), of_values], dim=1))
        output = fused.output.weights
        output.add_gradients(torch.bmm(at_pooled.mT, heads_TBH, out=output.room()))
        cast(Padded, fused.output.biases).add_gradients((at_pooled * self.some_B1).sum(dim=1))

    def _form_guides(self, at_similarity_TBC: Tensor) -> None:
        fused, similarity = self.fused, cast(Tensor, self.similarity).detach()
        if fused.temperatures is not None:
            fused.temperatures.form((at_similarity_TBC * similarity).sum(dim=(1, 2)))
            at_similarity_TBC = at_similarity_TBC * fused.temperatures.values.exp()[:, None, None]
        at_unit_TCH = torch.bmm(at_similarity_TBC.mT, self.seen_TBH)
        along = (at_unit_TCH * self.unit_TCH).sum(dim=2, keepdim=True)
        cast(AlikeVectors, fused.guides).form((at_unit_TCH - along * self.unit_TCH) / self.norm_TC1)


def _unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Divide vectors by their norms, and give these, at least `LEAST_NORM`."""
    norms = (vectors * vectors).sum(dim=-1, keepdim=True).clamp(min=LEAST_NORM**2).sqrt()
    return vectors / norms, norms


def _scores(queries_BMND: Tensor, keys_BMND: Tensor) -> Tensor:
    """Multiply every query by every key, by head, `[M keys, B, M queries, N]`."""
    if len(queries_BMND) <= MOST_PRODUCTS:
        return (queries_BMND * keys_BMND.transpose(0, 1).unsqueeze(2)).sum(dim=-1)
    return torch.einsum("bqnd,bknd->kbqn", queries_BMND, keys_BMND)
