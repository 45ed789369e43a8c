"""One training pass of MCDM in few large products: the towers of all tasks as one, the trunk backward for all tasks.

The towers and trunks of several models of one shape are one as well, each on clips of its own.

`MCDM` as it stands starts a kernel for each layer of each task, and small models train for the start of kernels. Here
the towers' layers are stacks (`mmpsr.layers.alike`), the trunk's gradients are taken for all tasks at once by hand, and
the mean over queries is taken before the products that it commutes with. Outputs and gradients are those of the model
but for rounding, dropout included: numbers are drawn in the model's order.

Shape suffixes: S models, X towers (tasks of a model, model by model), B clips of a model, M modalities, R rows (clips
by modalities), H hidden width, E narrow width of an adapter, N heads, D width of a head, C classes of the task that has
most, K losses of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmpsr.batch import Batch
from mmpsr.layers.alike import AlikeLinears, AlikeNorms, AlikeVectors, Padded
from mmpsr.layers.attention.cross import CrossAttention
from mmpsr.layers.dropout import MemberDraws, draw_rows
from mmpsr.layers.graph.ucgnn import UCGNN
from mmpsr.models.base import FusionModel, Outputs, Shared
from mmpsr.models.fused_trunk import Exponentials, Trunk, TrunkGradients
from mmpsr.models.mcdm import MCDM, Projector, TaskTower

__all__ = ["FusedMCDM", "FusedPass", "fits"]

LEAST_NORM = 1e-8
"""Of a vector in a cosine."""
MOST_PRODUCTS = 512
"""Clips of a model, by tasks, up to which scores of attention are sums of products, which take memory; matrix products
beyond."""


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
    """Projectors of all towers, `Linear -> ReLU -> dropout -> adapter`, `[X, R, I] -> [X, R, O]`."""

    def __init__(self, projectors: list[Projector], stay: bool) -> None:
        adapters = [projector.adapter for projector in projectors]
        self.first = AlikeLinears([cast(nn.Linear, projector[0]) for projector in projectors], stay)
        self.down, self.up = (AlikeLinears([getattr(part, name) for part in adapters], stay) for name in ("down", "up"))
        norms = [adapter.norm for adapter in adapters]
        self.norm = None if isinstance(norms[0], nn.Identity) else AlikeNorms(cast(list[nn.LayerNorm], norms), stay)

    def __call__(self, inputs_XRI: Tensor, kept_XRO: Tensor, kept_XRE: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Apply them; give outputs, and the outputs of each layer that gradients are wanted at."""
        for part in (self.first, self.down, self.up, self.norm):
            if part is not None:
                part.refresh()
        first = self.first(inputs_XRI)
        hidden = torch.relu(first) * kept_XRO
        down = self.down(hidden)
        narrow = torch.relu(down) * kept_XRE
        outputs = sums = self.up(narrow) + hidden
        self.inputs, asked = (inputs_XRI, hidden.detach(), narrow.detach()), [first, down, sums]
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
    """The training pass of a model, or of several at once, in few products; it shares the models' parameters.

    The parameters of one model's alike layers are laid one after another in memory. Those of several stay where they
    are, and gradients replace those that they have. What a pass keeps is held until the next one.

    Args:
        models: of one shape, each one that `fits`.
        whole: of several, the model that standardises clips and finishes outputs, see `mmpsr.stacked.StackedModel`.
        draws: of several, what each draws from.
    """

    def __init__(self, models: Sequence[MCDM], whole: MCDM | None = None, draws: MemberDraws | None = None) -> None:
        self.models, self.model, self.draws = list(models), whole or models[0], draws
        stay = whole is not None
        self.trunk = Trunk(self.models, stay)
        self.kept: _Kept | None = None
        towers = [cast(TaskTower, tower) for model in models for tower in model.towers.values()]
        attentions = [cast(CrossAttention, tower.attention) for tower in towers]
        self.towers, self.num_tasks = towers, len(self.model.tasks)
        self.num_heads, self.scale = attentions[0].num_heads, attentions[0].scale
        self.exponentials = Exponentials(cast(UCGNN, models[0].graph), len(self.model.modalities))
        self.predictor = _Bottleneck([cast(Projector, tower.predictor) for tower in towers], stay)
        self.projector = _Bottleneck([tower.projector for tower in towers], stay)
        graphs = [cast(UCGNN, tower.graph) for tower in towers]
        self.graph = AlikeLinears([graph.linear for graph in graphs], stay)
        self.graph_biases = AlikeVectors([graph.bias for graph in graphs], stay)
        self.query, self.output = (AlikeLinears([getattr(part, name) for part in attentions], stay) for name in _ENDS)
        self.key_value = AlikeLinears([part.key_value for part in attentions], stay)
        heads = ([cast(nn.Linear, tower.head[at]) for tower in towers] for at in (0, 3))
        self.head, self.last = (AlikeLinears(layers, stay) for layers in heads)
        self.paths = {
            task: AlikeLinears([cast(nn.Linear, model.linear_paths[task]) for model in models], stay)
            for task in self.model.linear_paths
        }
        self.guides = self.temperatures = None
        if towers[0].guides is not None:
            self.guides = AlikeVectors([cast(nn.Parameter, tower.guides) for tower in towers], stay)
        if towers[0].log_temperature is not None:
            self.temperatures = AlikeVectors([cast(nn.Parameter, tower.log_temperature) for tower in towers], stay)

    def draw(self, num_clips: int, num_nodes: int) -> _Kept:
        """Draw dropout in the towers, in memory that serves every batch of the same size."""
        if self.kept is None or self.kept.size != (num_clips, num_nodes):
            self.kept = _Kept(self, num_clips, num_nodes)
        self.kept.draw()
        return self.kept

    def of_towers(self, of_models: Tensor) -> Tensor:
        """Repeat what each model has for its towers, `[S, ...] -> [X, ...]`."""
        shape = (len(self.models), self.num_tasks, *of_models.shape[1:])
        return of_models.unsqueeze(1).expand(shape).flatten(0, 1)

    def __call__(self, batch: Batch) -> FusedPass:
        """Predict every task for every clip, as the model does in training mode.

        Args:
            batch: clips of every model, model after model and as many of each.

        Raises:
            ValueError: the batch has other modalities than the model.
        """
        return FusedPass(self, batch)


_ENDS = ("query", "output")


class _Kept:
    """What dropout in the towers multiplies by, drawn tower by tower in the order of the model."""

    def __init__(self, fused: FusedMCDM, num_clips: int, num_nodes: int) -> None:
        num_towers, rows = len(fused.towers), num_clips * num_nodes
        new, num_heads = fused.graph.weight_SOI.new_zeros, fused.num_heads
        widths = [layer.weight_SOI.shape[1] for layer in (fused.predictor.first, fused.predictor.down)]
        self.classes, self.few = (new(num_towers, rows, width) for width in widths)
        widths = [layer.weight_SOI.shape[1] for layer in (fused.projector.first, fused.projector.down, fused.graph)]
        self.projected, self.narrow, self.nodes = (new(num_towers, rows, width) for width in widths)
        self.weights = new(num_towers, num_clips, num_heads, num_nodes, num_nodes)
        self.head = new(num_towers, num_clips, fused.head.weight_SOI.shape[1])
        self.size, self.fused = (num_clips, num_nodes), fused

    def draw(self) -> None:
        """Draw anew."""
        fused, (size, num_nodes), generator = self.fused, self.size, None
        for index, tower in enumerate(fused.towers):
            if fused.draws is not None:
                member = index // fused.num_tasks
                size, generator = fused.draws.sizes[member], fused.draws.generators[member]
            predictor, rows = cast(Projector, tower.predictor), size * num_nodes
            adapter = predictor.adapter
            own = (self.classes, cast(nn.Linear, predictor[0])), (self.few, adapter.down)
            for (values, layer), dropout in zip(own, (predictor[2], adapter.dropout), strict=True):
                draw_rows(values[index, :, : layer.out_features], rows, cast(nn.Dropout, dropout).p, generator)
            draw_rows(self.projected[index], rows, cast(nn.Dropout, tower.projector[2]).p, generator)
            draw_rows(self.narrow[index], rows, tower.projector.adapter.dropout.p, generator)
            draw_rows(self.nodes[index], rows, cast(UCGNN, tower.graph).dropout.p, generator)
            draw_rows(self.weights[index], size, cast(CrossAttention, tower.attention).dropout.p, generator)
            draw_rows(self.head[index], size, cast(nn.Dropout, tower.head[2]).p, generator)


class FusedPass:
    """One pass: predictions, then gradients at what layers gave, then those of parameters.

    Args:
        fused: the layers.
        batch: clips.

    Attributes:
        predictions: of the batch, with gradients.
    """

    def __init__(self, fused: FusedMCDM, batch: Batch) -> None:
        self.fused, model = fused, fused.model
        with torch.no_grad():
            standardized = model.standardize(batch)
            found = fused.exponentials.of(batch.presence, fused.graph.weight_SOI.dtype)
            vectors, exponentials_SBMM = tuple(map(self._by_model, standardized.values())), self._by_model(found)
            ends = fused.trunk.forward(vectors, exponentials_SBMM, fused.draws)
            self.inputs = model.linear_inputs(standardized, batch) if model.linear_paths else batch.presence
        self.nodes_XRH, self.context_XRH = (fused.of_towers(values).detach().requires_grad_() for values in ends)
        with torch.enable_grad():
            outputs = self.predict(*map(fused.of_towers, (self._by_model(batch.presence), exponentials_SBMM)))
        self.predictions = model.collect(outputs, Shared((), batch.presence, self.inputs, batch.features))

    def predict(self, mask_XBM: Tensor, exponentials_XBMM: Tensor) -> dict[str, Outputs]:
        """Run the towers, and keep what the gradients of their parameters need."""
        kept = self.fused.draw(*mask_XBM.shape[1:])
        queries_XRH = self._queries(kept, exponentials_XBMM.flatten(0, 1))
        pooled_XBH = self._attend(queries_XRH, mask_XBM, kept)
        outputs_XBC, self.similarity = self._head(pooled_XBH, kept)
        self.offsets = self._offsets()
        return {task: self._finish(index, task, outputs_XBC) for index, task in enumerate(self.fused.model.tasks)}

    def _queries(self, kept: _Kept, exponentials_BMM: Tensor) -> Tensor:
        fused, (num_towers, num_rows, width) = self.fused, self.nodes_XRH.shape
        classes, self.at_predictor = fused.predictor(self.nodes_XRH, kept.classes, kept.few)
        self.projected, self.at_projector = fused.projector(classes, kept.projected, kept.narrow)
        fused.graph.refresh()
        fused.graph_biases.refresh()
        mixed = fused.graph(self.projected)
        halves = mixed.view(-1, exponentials_BMM.shape[1], width // 2)
        turned = torch.bmm(exponentials_BMM, halves).view(num_towers, num_rows, width)
        summed = turned + fused.graph_biases.values.unsqueeze(1)
        self.at_graph = [mixed, summed]
        return torch.relu(summed) * kept.nodes

    def _attend(self, queries_XRH: Tensor, mask_XBM: Tensor, kept: _Kept) -> Tensor:
        """Average over present queries what they attend to.

        The mean commutes with all that follows the softmax: weights are averaged, then nodes mixed by head, and both
        products with weights taken of one row a clip.
        """
        fused, num_heads = self.fused, self.fused.num_heads
        for layer in (fused.query, fused.key_value, fused.output):
            layer.refresh()
        (num_towers, num_clips, num_nodes), width = mask_XBM.shape, queries_XRH.shape[2]
        weight_XOH, bias_XO = fused.key_value.weight_SOI, cast(Tensor, fused.key_value.bias_SO)
        queries = fused.query(queries_XRH)
        keys = torch.baddbmm(bias_XO[:, None, :width], self.context_XRH, weight_XOH[:, :width].mT)
        by_head = [each.view(-1, num_nodes, num_heads, width // num_heads) for each in (queries, keys)]
        scores = _scores(by_head[0], by_head[1], fused.num_tasks * num_clips <= MOST_PRODUCTS)
        absent_MB11 = (~mask_XBM).flatten(0, 1).T[..., None, None]
        lowest = torch.finfo(scores.dtype).min
        weights = torch.softmax((scores * fused.scale).masked_fill(absent_MB11, lowest), dim=0)
        present_XBM = mask_XBM.to(scores.dtype)
        shares_XBM = present_XBM / present_XBM.sum(dim=2, keepdim=True).clamp(min=1)
        factors = kept.weights * (shares_XBM.unsqueeze(3) * present_XBM.unsqueeze(2)).unsqueeze(2)
        factors = factors.flatten(0, 1).permute(3, 0, 2, 1)  # as the scores: keys, clips, queries, heads
        mean_MBN = (weights * factors).sum(dim=2)
        mixed_BNH = torch.bmm(mean_MBN.permute(1, 2, 0), self.context_XRH.reshape(-1, num_nodes, width))
        nodes = mixed_BNH.view(num_towers, num_clips, num_heads, width).transpose(1, 2).flatten(0, 1)
        sums = mean_MBN.sum(dim=0).view(num_towers, num_clips, num_heads).transpose(1, 2).reshape(-1, num_clips, 1)
        values = torch.bmm(nodes, weight_XOH[:, width:].reshape(len(nodes), -1, width).mT)
        values = torch.addcmul(values, sums, bias_XO[:, width:].reshape(len(nodes), 1, -1))
        heads = values.view(num_towers, num_heads, num_clips, -1).transpose(1, 2).reshape(num_towers, num_clips, width)
        self.some_XB1 = (shares_XBM.sum(dim=2, keepdim=True) > 0).to(scores.dtype)
        pooled = torch.bmm(heads, fused.output.weight_SOI.mT)
        pooled = torch.addcmul(pooled, self.some_XB1, cast(Tensor, fused.output.bias_SO).unsqueeze(1))
        self.attended = [part.detach() for part in (queries_XRH, nodes, sums, heads)]
        self.at_attention = [queries, keys, values, pooled]
        return pooled

    def _head(self, pooled_XBH: Tensor, kept: _Kept) -> tuple[Tensor, Tensor | None]:
        """Give what heads give, `[X, B, C]`, and similarities to guides."""
        fused = self.fused
        fused.head.refresh()
        fused.last.refresh()
        hidden = fused.head(pooled_XBH)
        active = torch.relu(hidden) * kept.head
        outputs = fused.last(active)
        self.headed, self.at_head = (pooled_XBH.detach(), active.detach()), [hidden, outputs]
        if fused.guides is None:
            return outputs, None
        fused.guides.refresh()
        self.unit_XCH, self.norm_XC1 = _unit(fused.guides.values)
        seen_XBH = _unit(pooled_XBH)[0]
        similarity = torch.bmm(seen_XBH, self.unit_XCH.mT)
        self.seen_XBH = seen_XBH.detach()
        if fused.temperatures is not None:
            fused.temperatures.refresh()
            similarity = similarity * fused.temperatures.values.exp()[:, None, None]
        return outputs, similarity

    def _offsets(self) -> dict[str, Tensor]:
        """Give what linear paths predict, by task."""
        inputs_SBD, offsets = self._by_model(self.inputs), {}
        for task, path in self.fused.paths.items():
            path.refresh()
            is_trained = path.weights.parameters[0].requires_grad
            offsets[task] = path(inputs_SBD).flatten(0, 1).detach().requires_grad_(is_trained)
        return offsets

    def _by_model(self, of_clips: Tensor) -> Tensor:
        return of_clips.unflatten(0, (len(self.fused.models), -1))

    def _finish(self, index: int, task: str, outputs_XBC: Tensor) -> Outputs:
        tower, width = cast(TaskTower, self.fused.model.towers[task]), self.fused.model.tasks[task].num_outputs
        output_BC = self._of_task(index, outputs_XBC, width)
        output_BC = torch.sigmoid(output_BC) if tower.regression else output_BC
        if self.similarity is not None:
            near_BC = self._of_task(index, self.similarity, width)
            output_BC = (output_BC + (torch.sigmoid(near_BC) if tower.regression else near_BC)) / 2
        return Outputs(tower.beside(output_BC, self.offsets.get(task)))

    def _of_task(self, index: int, values_XBC: Tensor, width: int) -> Tensor:
        return values_XBC[index :: self.fused.num_tasks, :, :width].flatten(0, 1)

    def gradients(self, loss: Tensor) -> None:
        """Take the gradient of a sum of losses at what every layer of the towers gave."""
        trained = [self.offsets[task] for task in self._trained_paths()]
        similarity = [] if self.similarity is None else [self.similarity]
        parts = [
            self.at_predictor, self.at_projector, self.at_graph, self.at_attention, self.at_head, similarity, trained,
            [self.nodes_XRH, self.context_XRH],
        ]  # fmt: skip
        asked = [tensor for part in parts for tensor in part]
        *self.found, self.at_nodes, self.at_context = torch.autograd.grad(
            loss, asked, allow_unused=True, materialize_grads=True
        )

    @torch.no_grad()
    def trunk_gradients(self, by_task: bool) -> TrunkGradients:
        """Carry the gradient at the nodes to the trunk, by task (T cotangents) or of all tasks together (one)."""
        ends = (self._by_model(values) for values in (self.at_nodes, self.at_context))
        return self.fused.trunk.backward(*(values if by_task else values.sum(dim=1, keepdim=True) for values in ends))

    def _trained_paths(self) -> list[str]:
        return [task for task, offset in self.offsets.items() if offset.requires_grad]

    @torch.no_grad()
    def form(self, weights_XB: Tensor | None) -> None:
        """Add the gradients of the towers' parameters.

        Args:
            weights_XB: weight of each clip's loss, by tower; None where the loss was weighted.
        """
        fused, found = self.fused, self.found if weights_XB is None else self._weighted(weights_XB)
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
        for task in self._trained_paths():
            fused.paths[task].form(self._by_model(self.inputs), self._by_model(next(gradients)))

    def _weighted(self, weights_XB: Tensor) -> list[Tensor]:
        """Multiply each clip's gradients by its weight."""
        of_clips, num_clips = weights_XB.unsqueeze(2), weights_XB.shape[1]
        of_rows = of_clips.repeat_interleave(self.nodes_XRH.shape[1] // num_clips, dim=1)
        of_heads = of_clips.repeat_interleave(self.fused.num_heads, dim=0)
        sizes = {of_rows.shape[:2]: of_rows, of_heads.shape[:2]: of_heads, of_clips.shape[:2]: of_clips}
        owners = self._trained_paths()
        stacked = self.found[: len(self.found) - len(owners)]
        weighted = torch._foreach_mul(stacked, [sizes[part.shape[:2]] for part in stacked])
        places = [list(self.fused.model.tasks).index(task) for task in owners]
        offsets = (
            part * of_clips[place :: self.fused.num_tasks].flatten(0, 1)
            for place, part in zip(places, self.found[len(stacked) :], strict=True)
        )
        return [*weighted, *offsets]

    def _form_attention(self, at_queries: Tensor, at_keys: Tensor, at_values: Tensor, at_pooled: Tensor) -> None:
        fused = self.fused
        queries_XRH, nodes, sums, heads_XBH = self.attended
        num_towers, _, width = queries_XRH.shape
        fused.query.form(queries_XRH, at_queries)
        weight = fused.key_value.weights.room()
        context_XRH, num_heads = self.context_XRH.detach(), fused.num_heads
        for index, part in enumerate(weight.unbind()):
            own = slice(index * num_heads, (index + 1) * num_heads)
            torch.mm(at_keys[index].T, context_XRH[index], out=part[:width])
            torch.bmm(at_values[own].mT, nodes[own], out=part[width:].view(num_heads, -1, width))
        of_values = (at_values * sums).sum(dim=1).view(num_towers, width)
        fused.key_value.weights.add_gradients(weight)
        cast(Padded, fused.key_value.biases).add_gradients(torch.cat([at_keys.sum(dim=1), of_values], dim=1))
        output = fused.output.weights
        output.add_gradients(torch.bmm(at_pooled.mT, heads_XBH, out=output.room()))
        cast(Padded, fused.output.biases).add_gradients((at_pooled * self.some_XB1).sum(dim=1))

    def _form_guides(self, at_similarity_XBC: Tensor) -> None:
        fused, similarity = self.fused, cast(Tensor, self.similarity).detach()
        if fused.temperatures is not None:
            fused.temperatures.form((at_similarity_XBC * similarity).sum(dim=(1, 2)))
            at_similarity_XBC = at_similarity_XBC * fused.temperatures.values.exp()[:, None, None]
        at_unit_XCH = torch.bmm(at_similarity_XBC.mT, self.seen_XBH)
        along = (at_unit_XCH * self.unit_XCH).sum(dim=2, keepdim=True)
        cast(AlikeVectors, fused.guides).form((at_unit_XCH - along * self.unit_XCH) / self.norm_XC1)


def _unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Divide vectors by their norms, and give these, at least `LEAST_NORM`."""
    norms = (vectors * vectors).sum(dim=-1, keepdim=True).clamp(min=LEAST_NORM**2).sqrt()
    return vectors / norms, norms


def _scores(queries_BMND: Tensor, keys_BMND: Tensor, are_few: bool) -> Tensor:
    """Multiply every query by every key, by head, `[M keys, B, M queries, N]`."""
    if are_few:
        return (queries_BMND * keys_BMND.transpose(0, 1).unsqueeze(2)).sum(dim=-1)
    return torch.einsum("bqnd,bknd->kbqn", queries_BMND, keys_BMND)
