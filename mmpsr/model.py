"""MCDM: modality projectors, graph and cross-attention, one prediction per task for every clip.

Shape suffixes: B clips, M modalities (nodes), H hidden width, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.attention import CrossAttention
from mmpsr.batch import Batch, Predictions
from mmpsr.config import Config
from mmpsr.graph import create_graph, masked_mean
from mmpsr.standardizer import Standardizer
from mmpsr.tasks import TaskSpec

__all__ = ["MCDM", "Adapter", "ModelConfig", "Projector", "TaskTower"]


class ModelConfig(Config):
    """Width, layers and switches of the model."""

    hidden_width: int = Field(default=256, ge=2)
    """H: width of a modality node."""
    head_width: int = Field(default=256, ge=1)
    """Width of the hidden layer in each task's head."""
    num_heads: int = Field(default=8, ge=1)
    """Attention heads."""
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Dropout rate everywhere but in graph layers."""
    graph_dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Dropout rate after a graph layer's activation."""
    graph: Literal["none", "gat", "ucgnn"] = "ucgnn"
    """Graph layer over a clip's modalities."""
    attention: Literal["none", "mha"] = "mha"
    """Cross-attention from a task's nodes to the shared ones."""
    guide_bank: bool = True
    """Average each head with the cosine similarity to learned class prototypes."""
    guide_temperature: bool = False
    """Learn a factor on the cosine, which otherwise confines it to [-1, 1]; 1 at the start, near 0 beside a linear
    path."""
    task_projectors: bool = True
    """Give each task its own projection of every modality as queries."""
    predictor_norm: Literal["paper", "none"] = "paper"
    """Layer normalisation of width C in a task's predictor; at C = 2 it saturates and passes hardly any gradient."""
    linear_path: dict[str, Literal["fixed", "trained"]] = Field(default_factory=dict)
    """By task: add a linear model of the features, fitted before training, to every prediction, so that the network
    learns what it misses; `fixed` keeps it as fitted, `trained` lets it learn on."""


class Adapter(nn.Module):
    """Bottleneck with a residual: LN(z + Up(drop(ReLU(Down(z))))), `[..., width] -> [..., width]`."""

    def __init__(self, width: int, dropout: float, normalize: bool = True) -> None:
        super().__init__()
        self.down = nn.Linear(width, width // 2)
        self.up = nn.Linear(width // 2, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width) if normalize else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the adapter."""
        return self.norm(inputs + self.up(self.dropout(torch.relu(self.down(inputs)))))


class Projector(nn.Sequential):
    """Linear -> ReLU -> dropout -> adapter, `[..., width_in] -> [..., width_out]`."""

    def __init__(self, width_in: int, width_out: int, dropout: float, normalize: bool = True) -> None:
        super().__init__(
            nn.Linear(width_in, width_out), nn.ReLU(), nn.Dropout(dropout), Adapter(width_out, dropout, normalize)
        )


class TaskTower(nn.Module):
    """Everything that belongs to one task, from the shared nodes to its logits or scores.

    The head and the guide bank are averaged: (head + cos(r, G)) / 2, for regression (sigmoid(head) +
    sigmoid(cos(r, G))) / 2, which without a learned temperature lies within about (0.134, 0.866). Beside a linear path
    the head starts at zero, and the temperature near it, so that training starts from the linear model; `share` (a
    buffer, 1 while training) scales what the network adds to it.

    Args:
        spec: the task.
        config: width, layers and switches.
        from_zero: whether the head's last layer starts at zero, beside a linear path.
    """

    share: Tensor

    def __init__(self, spec: TaskSpec, config: ModelConfig, from_zero: bool = False) -> None:
        super().__init__()
        self.register_buffer("share", torch.ones(()))
        width, outputs, dropout = config.hidden_width, spec.num_outputs, config.dropout
        self.regression = spec.kind == "regression"
        self.predictor: nn.Module | None = None
        if config.task_projectors:
            self.predictor = Projector(width, outputs, dropout, config.predictor_norm == "paper")
            self.projector = Projector(outputs, width, dropout)
            self.graph = create_graph(config.graph, width, config.graph_dropout)
        self.attention: nn.Module | None = None
        if config.attention == "mha":
            self.attention = CrossAttention(width, config.num_heads, dropout)
        self.head = nn.Sequential(
            nn.Linear(width, config.head_width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(config.head_width, outputs)
        )
        if from_zero:
            for parameter in self.head[3].parameters():
                nn.init.zeros_(parameter)
        self.guides: nn.Parameter | None = None
        self.log_temperature: nn.Parameter | None = None
        if config.guide_bank:
            self.guides = nn.Parameter(torch.randn(outputs, width))
            if config.guide_temperature:
                self.log_temperature = nn.Parameter(torch.tensor(-3.0 if from_zero else 0.0))

    def forward(self, nodes_BMH: Tensor, context_BMH: Tensor, mask_BM: Tensor, offset_BC: Tensor | None) -> Tensor:
        """Predict.

        Args:
            nodes_BMH: projected modalities.
            context_BMH: the same after the shared graph layer.
            mask_BM: bool, which modalities are present.
            offset_BC: what the linear path predicts, as logits or as a score's distance from 0.5, or None.

        Returns:
            Logits, or scores in [0, 1] for regression, `[B, C]`.
        """
        queries = context_BMH
        if self.predictor is not None:
            queries = self.graph(self.projector(self.predictor(nodes_BMH)), mask_BM)
        attended = queries if self.attention is None else self.attention(queries, context_BMH, mask_BM)
        pooled_BH = masked_mean(attended, mask_BM)
        output_BC = torch.sigmoid(self.head(pooled_BH)) if self.regression else self.head(pooled_BH)
        if self.guides is not None:
            similarity_BC = functional.cosine_similarity(pooled_BH.unsqueeze(1), self.guides, dim=-1)
            if self.log_temperature is not None:
                similarity_BC = similarity_BC * self.log_temperature.exp()
            output_BC = (output_BC + (torch.sigmoid(similarity_BC) if self.regression else similarity_BC)) / 2
        if offset_BC is None:
            return output_BC
        if self.regression:
            return (0.5 + self.share * (output_BC - 0.5) + offset_BC).clamp(0.0, 1.0)
        return self.share * output_BC + offset_BC


class MCDM(nn.Module):
    """The fusion model: every task predicted for every clip, absent modalities masked per clip.

    A prediction never depends on the other clips of the batch, nor on what stands in an absent modality's features.

    Args:
        widths: width of each modality's vectors, by modality, in the order of `Batch.features`.
        tasks: specifications by task name.
        config: width, layers and switches.

    Raises:
        ValueError: no modality or no task is given.

    Example:
        >>> from mmpsr.tasks import AMBIVALENCE
        >>> model = MCDM({"text": 8, "audio": 6}, {"ambivalence": AMBIVALENCE}, ModelConfig(hidden_width=16))
        >>> features = {"text": torch.randn(3, 8), "audio": torch.randn(3, 6)}
        >>> model(Batch(features, torch.ones(3, 2, dtype=torch.bool))).logits["ambivalence"].shape
        torch.Size([3, 2])
    """

    def __init__(self, widths: Mapping[str, int], tasks: Mapping[str, TaskSpec], config: ModelConfig) -> None:
        super().__init__()
        if not widths or not tasks:
            raise ValueError(f"a model needs modalities and tasks; found {list(widths)} and {list(tasks)}")
        self.modalities = tuple(widths)
        self.tasks = dict(tasks)
        self.standardizers = nn.ModuleDict({name: Standardizer(width) for name, width in widths.items()})
        self.projectors = nn.ModuleDict(
            {name: Projector(width, config.hidden_width, config.dropout) for name, width in widths.items()}
        )
        self.graph = create_graph(config.graph, config.hidden_width, config.graph_dropout)
        self.towers = nn.ModuleDict(
            {name: TaskTower(spec, config, name in config.linear_path) for name, spec in tasks.items()}
        )
        self.linear_paths = nn.ModuleDict(
            {
                name: nn.Linear(sum(widths.values()), spec.num_outputs).requires_grad_(
                    config.linear_path[name] == "trained"
                )
                for name, spec in tasks.items()
                if name in config.linear_path
            }
        )
        for parameter in self.linear_paths.parameters():
            nn.init.zeros_(parameter)

    @torch.no_grad()
    def set_linear_path(self, task: str, weight_CD: Tensor, bias_C: Tensor) -> None:
        """Fix the linear path of a task.

        Args:
            task: name.
            weight_CD: on the standardised features of all modalities, concatenated in the model's order.
            bias_C: intercepts; both in logits, or for regression in scores.

        Raises:
            ValueError: the model was made without a linear path for the task.
        """
        if task not in self.linear_paths:
            raise ValueError(f"task {task!r} has no linear path; name it in the model's linear_path")
        weight, bias = self.linear_paths[task].parameters()
        weight.copy_(weight_CD)
        bias.copy_(bias_C - 0.5 if self.tasks[task].kind == "regression" else bias_C)

    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters that every task's loss reaches: modality projectors and the shared graph layer."""
        return [*self.projectors.parameters(), *self.graph.parameters()]

    def forward(self, batch: Batch) -> Predictions:
        """Predict every task for every clip of the batch.

        Raises:
            ValueError: the batch has other modalities than the model.
        """
        if tuple(batch.features) != self.modalities:
            raise ValueError(f"the model takes modalities {list(self.modalities)}, found {list(batch.features)}")
        mask_BM = batch.presence
        inputs = {
            name: self.standardizers[name](batch.features[name], mask_BM[:, index])
            for index, name in enumerate(self.modalities)
        }
        nodes_BMH = torch.stack([self.projectors[name](vector) for name, vector in inputs.items()], dim=1)
        context_BMH = self.graph(nodes_BMH, mask_BM)
        logits: dict[str, Tensor] = {}
        scores: dict[str, Tensor] = {}
        joined = torch.cat(list(inputs.values()), dim=1)
        for task, tower in self.towers.items():
            offset_BC = self.linear_paths[task](joined) if task in self.linear_paths else None
            target = scores if self.tasks[task].kind == "regression" else logits
            target[task] = tower(nodes_BMH, context_BMH, mask_BM, offset_BC)
        return Predictions(logits, scores)
