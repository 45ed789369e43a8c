"""MCDM: modality projectors, graph and cross-attention, one prediction per task for every clip.

Shape suffixes: B clips, M modalities (nodes), H hidden width, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.batch import Batch
from mmpsr.config import ConfigError
from mmpsr.layers.attention.build import create_attention
from mmpsr.layers.by_modality import ByModality
from mmpsr.layers.dropout import Dropout
from mmpsr.layers.graph.build import create_graph
from mmpsr.layers.nodes import masked_mean, mean_conflict
from mmpsr.layers.prototype_bank import Points
from mmpsr.layers.recorded import LayerNorm, Linear, per_clip
from mmpsr.layers.text_guides import TextGuides
from mmpsr.models.base import FusionModel, Outputs, Shared, Tower, start_at_zero
from mmpsr.models.config import ModelConfig
from mmpsr.tasks import TaskSpec

__all__ = ["MCDM", "Adapter", "Projector", "TaskTower"]


class Adapter(nn.Module):
    """Bottleneck with a residual, `[..., width] -> [..., width]`.

    out = LN(z + Up(drop(ReLU(Down(z)))))
    """

    def __init__(self, width: int, dropout: float, normalize: bool = True) -> None:
        super().__init__()
        narrow = max(width // 2, 1)
        self.down = Linear(width, narrow)
        self.up = Linear(narrow, width)
        self.dropout = Dropout(dropout)
        self.norm = LayerNorm(width) if normalize else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the adapter."""
        return self.norm(inputs + self.up(self.dropout(torch.relu(self.down(inputs)))))


class Projector(nn.Sequential):
    """Linear -> ReLU -> dropout -> adapter, `[..., width_in] -> [..., width_out]`.

    out = Adapter(drop(ReLU(W x + b)))
    """

    def __init__(self, width_in: int, width_out: int, dropout: float, normalize: bool = True) -> None:
        super().__init__(
            Linear(width_in, width_out), nn.ReLU(), Dropout(dropout), Adapter(width_out, dropout, normalize)
        )

    @property
    def adapter(self) -> Adapter:
        """The last layer."""
        return cast(Adapter, self[3])


class Trunk(nn.Module):
    """Projectors of modalities and the graph layer over them.

    Args:
        widths: width of each modality's vectors.
        config: width, graph and dropout.
    """

    def __init__(self, widths: Mapping[str, int], config: ModelConfig) -> None:
        super().__init__()
        self.projectors = ByModality(
            {name: Projector(width, config.hidden_width, config.dropout) for name, width in widths.items()}
        )
        self.graph = create_graph(
            config.graph, config.hidden_width, config.graph_dropout, len(widths), config.graph_options
        )

    def forward(self, inputs: Mapping[str, Tensor], mask_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Project standardised features, `[B, M, H]`, and apply the graph layer to them."""
        return _nodes(self.projectors, self.graph, inputs, mask_BM)


def _nodes(
    projectors: ByModality, graph: nn.Module, inputs: Mapping[str, Tensor], mask_BM: Tensor
) -> tuple[Tensor, Tensor]:
    nodes_BMH = torch.stack([projectors[name](vector) for name, vector in inputs.items()], dim=1)
    return nodes_BMH, graph(nodes_BMH, mask_BM)


class TaskTower(Tower):
    """Everything that belongs to one task, from the shared nodes to its logits or scores.

    The head and the guide bank are averaged:

        logits = (head(r) + cos(r, G)) / 2,   scores = (sigmoid(head(r)) + sigmoid(cos(r, G))) / 2

    Scores without a learned temperature lie within about (0.134, 0.866). Where the guides are texts, the similarity of
    `TextGuides` stands in place of cos(r, G). Beside a linear path the head starts at zero, and the temperature near
    it, so that training starts from the linear model; `share` (a buffer, 1 while training) scales what the network adds
    to it.

    With conflict features the head sees [r; W c], where c is the mean of |x_i - x_j| over present pairs of the shared
    nodes, zero for a single modality. The auxiliary head is of the same kind and sees the text's projection; what it
    gives for clips without text means nothing.

    Args:
        spec: the task.
        config: width, layers and switches.
        num_nodes: M.
        from_zero: whether the head's last layer starts at zero, beside a linear path.
        points: of the classes, by modality, where the guides are texts.
        widths: of each modality's vectors, where the task has a trunk of its own.
    """

    def __init__(
        self,
        spec: TaskSpec,
        config: ModelConfig,
        num_nodes: int,
        from_zero: bool = False,
        points: Mapping[str, Tensor] | None = None,
        widths: Mapping[str, int] | None = None,
    ) -> None:
        width, outputs, dropout = config.hidden_width, spec.num_outputs, config.dropout
        num_inputs = width * (2 if config.conflict_features else 1)
        super().__init__(spec, num_inputs)
        self.predictor: nn.Module | None = None
        if config.task_projectors:
            self.predictor = Projector(width, outputs, dropout, config.predictor_norm == "paper" and outputs > 1)
            self.projector = Projector(outputs, width, dropout)
            self.graph = create_graph(config.graph, width, config.graph_dropout, num_nodes, config.graph_options)
        self.attention = create_attention(
            config.attention, width, config.num_heads, dropout, num_nodes, config.attention_options
        )
        self.head = _head(num_inputs, config, outputs, from_zero)
        self.guides: nn.Parameter | None = None
        self.text_guides: TextGuides | None = None
        self.log_temperature: nn.Parameter | None = None
        if config.guide_bank:
            if points:
                self.text_guides = TextGuides(points, trained=config.guides == "texts")
            else:
                self.guides = nn.Parameter(torch.randn(outputs, width))
            if config.guide_temperature:
                self.log_temperature = nn.Parameter(torch.tensor(-3.0 if from_zero else 0.0))
        self.conflict = Linear(width, width, bias=False) if config.conflict_features else None
        self.text_head = _head(width, config, outputs, from_zero) if config.text_head else None
        self.trunk = Trunk(widths, config) if widths is not None else None

    def forward(
        self,
        nodes_BMH: Tensor,
        context_BMH: Tensor,
        mask_BM: Tensor,
        offset_BC: Tensor | None,
        vectors: Mapping[str, Tensor],
    ) -> Outputs:
        """Predict.

        Args:
            nodes_BMH: projected modalities.
            context_BMH: the same after the shared graph layer.
            mask_BM: bool, which modalities are present.
            offset_BC: what the linear path predicts, as logits or as a score's distance from 0.5, or None.
            vectors: of each modality as they came, which guides that are texts see.

        Returns:
            Without those of the auxiliary head.
        """
        queries = context_BMH
        if self.predictor is not None:
            queries = self.graph(self.projector(self.predictor(nodes_BMH)), mask_BM)
        pooled_BH = masked_mean(self.attention(queries, context_BMH, mask_BM), mask_BM)
        inputs = pooled_BH
        if self.conflict is not None:
            inputs = torch.cat([pooled_BH, self.conflict(mean_conflict(context_BMH, mask_BM))], dim=1)
        output_BC = torch.sigmoid(self.head(inputs)) if self.regression else self.head(inputs)
        similarity_BC = None
        if self.text_guides is not None:
            similarity_BC = self.text_guides(vectors, mask_BM)
        elif self.guides is not None:
            guides_BCH = per_clip(self.guides, pooled_BH.shape[0])
            similarity_BC = functional.cosine_similarity(pooled_BH.unsqueeze(1), guides_BCH, dim=-1)
        if similarity_BC is not None:
            if self.log_temperature is not None:
                similarity_BC = similarity_BC * per_clip(self.log_temperature, pooled_BH.shape[0]).exp().unsqueeze(1)
            output_BC = (output_BC + (torch.sigmoid(similarity_BC) if self.regression else similarity_BC)) / 2
        return Outputs(self.beside(output_BC, offset_BC), None, self.log_deviations(inputs))


def _head(width: int, config: ModelConfig, outputs: int, from_zero: bool) -> nn.Sequential:
    head = nn.Sequential(
        Linear(width, config.head_width), nn.ReLU(), Dropout(config.dropout), Linear(config.head_width, outputs)
    )
    if from_zero:
        start_at_zero(head[3])
    return head


class MCDM(FusionModel):
    """Projected modalities, a shared graph over them, and for each task cross-attention from a view of its own.

        Z_m = projector_m(x_m) by modality,   K = graph(Z),   Q_t = graph_t(projector_t(predictor_t(Z))) by task
        r_t = mean over present modalities of attention_t(Q_t, K)

    and `TaskTower` makes logits or scores of r_t. Without task projectors Q_t is K. Tasks of `own_trunks` have
    projectors and a graph of their own, and so a Z and a K.

    Args:
        widths: width of each modality's vectors, by modality, in the order of `Batch.features`.
        tasks: specifications by task name.
        config: width, layers and switches.
        points: of the classes in a text encoder's space, by task and modality, where they have texts.
        sees_absence: whether linear paths see which modalities are absent.
        guide_points: likewise of the classes, for guides that are texts; tasks that it lacks have learned ones.

    Raises:
        ValueError: no modality or no task is given.
        ConfigError: every task has a trunk of its own.

    References:
        Semi-supervised cross-domain learning framework for multitask multimodal psychological states recognition
        (SCD-MMPSR).

    Example:
        >>> from mmpsr.tasks import AMBIVALENCE
        >>> model = MCDM({"text": 8, "audio": 6}, {"ambivalence": AMBIVALENCE}, ModelConfig(hidden_width=16))
        >>> features = {"text": torch.randn(3, 8), "audio": torch.randn(3, 6)}
        >>> model(Batch(features, torch.ones(3, 2, dtype=torch.bool))).logits["ambivalence"].shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        tasks: Mapping[str, TaskSpec],
        config: ModelConfig,
        points: Points | None = None,
        sees_absence: bool = False,
        guide_points: Points | None = None,
    ) -> None:
        super().__init__(widths, tasks, "text" if config.text_head else None, config.text_share, points, sees_absence)
        self.own_trunks = tuple(name for name in tasks if name in config.own_trunks)
        if len(self.own_trunks) == len(tasks):
            raise ConfigError(
                f"model.own_trunks names every task ({', '.join(tasks)}), so that the shared trunk has none; leave one "
                "out, which then has that for itself"
            )
        trunk, self.widths = Trunk(widths, config), dict(widths)
        self.projectors, self.graph = trunk.projectors, trunk.graph
        points_of = guide_points or {}
        self.towers = nn.ModuleDict(
            {
                name: TaskTower(
                    spec, config, len(widths), name in config.linear_path, points_of.get(name),
                    widths if name in self.own_trunks else None,
                )
                for name, spec in tasks.items()
            }
        )  # fmt: skip
        self.add_linear_paths(config.linear_path)

    def shared_parameters(self) -> list[nn.Parameter]:
        """List those of modality projectors and the shared graph layer, which all losses reach but of `own_trunks`."""
        return [*self.projectors.parameters(), *self.graph.parameters()]

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """List the parameters of the shared graph layer; without one, those of the projectors' adapters."""
        last = list(self.graph.parameters())
        adapters = [cast(Projector, projector)[3] for projector in self.projectors.values()]
        return last or [parameter for adapter in adapters for parameter in adapter.parameters()]

    def encode(self, batch: Batch) -> Shared:
        """Encode as `FusionModel.encode`; the ends are the nodes and, after the graph layer, the context."""
        inputs = self.standardize(batch)
        ends = _nodes(self.projectors, self.graph, inputs, batch.presence)
        return Shared(ends, batch.presence, self.linear_inputs(inputs, batch), batch.features)

    def fused(self, shared: Shared) -> Tensor:
        """Average the nodes of present modalities after the graph layer, `[B, H]`."""
        return masked_mean(shared.ends[1], shared.presence)

    def outputs(self, task: str, shared: Shared, offset_BC: Tensor | None) -> Outputs:
        """Give the outputs of a task's head and of its auxiliary head."""
        (nodes_BMH, context_BMH), tower = shared.ends, cast(TaskTower, self.towers[task])
        if tower.trunk is not None:
            columns = shared.inputs[:, : sum(self.widths.values())].split(list(self.widths.values()), dim=1)
            nodes_BMH, context_BMH = tower.trunk(dict(zip(self.widths, columns, strict=True)), shared.presence)
        found = tower(nodes_BMH, context_BMH, shared.presence, offset_BC, shared.vectors)
        if self.auxiliary_index is None or tower.text_head is None:
            return found
        auxiliary_BC = tower.finish(tower.text_head(nodes_BMH[:, self.auxiliary_index]), offset_BC)
        return found._replace(auxiliary=auxiliary_BC)
