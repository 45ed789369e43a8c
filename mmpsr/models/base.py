"""Base of all fusion models: a part that all tasks share, and a tower for each task.

The training step needs the gradients of single losses at the border between the two. So a model is called in two
halves: `encode` makes what all tasks see, `predict` a task's outputs from it, and nothing else connects them.

A model may have an auxiliary modality: besides taking part in the fusion, it has a head of its own in every tower, the
auxiliary head. In training the objective adds that head's loss; in evaluation its probabilities are blended with those
of the fusion, for clips that have the modality.

Shape suffixes: B clips, M modalities, D width of all modalities' features together, C outputs of a task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from mmpsr.batch import Batch, Predictions
from mmpsr.config import ConfigError
from mmpsr.layers.by_modality import ByModality
from mmpsr.layers.prototype_bank import Points, PrototypeBank
from mmpsr.layers.recorded import Linear
from mmpsr.layers.standardizer import Standardizer
from mmpsr.probabilities import blend, log_deviations
from mmpsr.tasks import TaskSpec

__all__ = ["FusionModel", "Outputs", "Shared", "Tower", "start_at_zero"]


@dataclass(frozen=True)
class Shared:
    """What all tasks see of a batch.

    Attributes:
        ends: what the shared part of a model made of it, `[B, ...]` each; gradients reach that part through these only.
        presence: bool `[B, M]`.
        inputs: what linear paths see, `[B, D]`, see `FusionModel.linear_inputs`.
        vectors: of each modality as they came, not standardised, by modality in the model's order.
    """

    ends: tuple[Tensor, ...]
    presence: Tensor
    inputs: Tensor
    vectors: Mapping[str, Tensor]

    def leaf(self) -> Shared:
        """Detach the ends, so that gradients can be asked for at the same numbers."""
        return replace(self, ends=tuple(end.detach().requires_grad_() for end in self.ends))


class Outputs(NamedTuple):
    """What the heads of a task give, `[B, C]` each.

    Attributes:
        main: logits, or scores in [0, 1] for regression.
        auxiliary: those of the auxiliary head, None without one.
        log_deviations: logarithms of the scores' standard deviations, None without a variance head.
    """

    main: Tensor
    auxiliary: Tensor | None = None
    log_deviations: Tensor | None = None


def start_at_zero(module: nn.Module) -> None:
    """Set all parameters of a module to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


class Tower(nn.Module):
    """Base of what belongs to one task, and how its output stands beside a linear path.

    Buffers: `share` (1 while training) scales what the tower adds; `spread` (1 while training) stretches scores about
    `center`, the training mean, since models fitted to errors vary less than what they predict.

    A regression that is trained by a negative log-likelihood has a variance head, `variance_head`: a linear map of what
    the task's head sees, zero at the start. What it says is of the scores as the network and the linear path give them
    in training, and is not stretched with `spread`, which moves scores for the sake of concordance.

    Args:
        spec: the task.
        width: of what the task's head sees.
    """

    share: Tensor
    spread: Tensor
    center: Tensor

    def __init__(self, spec: TaskSpec, width: int) -> None:
        super().__init__()
        self.register_buffer("share", torch.ones(()))
        self.variance_head: Linear | None = None
        if spec.is_heteroscedastic:
            self.variance_head = Linear(width, spec.num_outputs)
            start_at_zero(self.variance_head)
        self.regression = spec.kind == "regression"
        if self.regression:
            self.register_buffer("spread", torch.ones(()))
            self.register_buffer("center", torch.full((spec.num_outputs,), 0.5))

    def log_deviations(self, inputs_BH: Tensor) -> Tensor | None:
        """Give logarithms of the scores' standard deviations, `[B, C]`, None without a variance head.

        Args:
            inputs_BH: what the task's head sees, `[B, width]`.
        """
        return None if self.variance_head is None else log_deviations(self.variance_head(inputs_BH))

    def finish(self, output_BC: Tensor, offset_BC: Tensor | None) -> Tensor:
        """Make logits, or scores in [0, 1] for regression, of what a head gives; see `beside`."""
        return self.beside(torch.sigmoid(output_BC) if self.regression else output_BC, offset_BC)

    def beside(self, output_BC: Tensor, offset_BC: Tensor | None) -> Tensor:
        """Join the output of a head with what the linear path predicts, if there is one.

        Args:
            output_BC: logits, or scores in [0, 1] for regression.
            offset_BC: logits, or a score's distance from 0.5.
        """
        if offset_BC is None:
            return output_BC
        if self.regression:
            scores_BC = 0.5 + self.share * (output_BC - 0.5) + offset_BC
            return (self.center + self.spread * (scores_BC - self.center)).clamp(0.0, 1.0)
        return self.share * output_BC + offset_BC


class FusionModel(nn.Module, ABC):
    """Base of the fusion models: every task predicted for every clip, absent modalities masked per clip.

    A prediction never depends on the other clips of the batch, nor on what stands in an absent modality's features.
    Derived classes create `towers`, and call `add_linear_paths` after all their other layers.

    Args:
        widths: width of each modality's vectors, by modality, in the order of `Batch.features`.
        tasks: specifications by task name.
        auxiliary_modality: modality with a head of its own, None for none.
        auxiliary_share: of that head in the blend, between 0 and 1.
        points: of the classes in a text encoder's space, by task and modality, where they have texts.
        sees_absence: whether linear paths see which modalities are absent.

    Raises:
        ValueError: no modality or no task is given.
        ConfigError: the auxiliary modality is not among the modalities.
    """

    towers: nn.ModuleDict
    linear_paths: nn.ModuleDict
    own_trunks: tuple[str, ...] = ()
    """Tasks whose losses reach no shared parameter."""

    def __init__(
        self,
        widths: Mapping[str, int],
        tasks: Mapping[str, TaskSpec],
        auxiliary_modality: str | None = None,
        auxiliary_share: float = 0.5,
        points: Points | None = None,
        sees_absence: bool = False,
    ) -> None:
        super().__init__()
        if not widths or not tasks:
            raise ValueError(f"a model needs modalities and tasks; found {list(widths)} and {list(tasks)}")
        if auxiliary_modality is not None and auxiliary_modality not in widths:
            raise ConfigError(
                f"the model's guide is {auxiliary_modality!r}, which is not among the modalities {list(widths)}; "
                "add it to data.modalities, or switch the guide's head off"
            )
        self.modalities = tuple(widths)
        self.tasks = dict(tasks)
        self.auxiliary_index = None if auxiliary_modality is None else self.modalities.index(auxiliary_modality)
        self.auxiliary_share = auxiliary_share
        self.prototypes = PrototypeBank(points) if points else None
        self.sees_absence = sees_absence
        self.num_inputs = sum(widths.values()) + (self.prototypes.width if self.prototypes is not None else 0)
        self.num_inputs += len(widths) if sees_absence else 0
        self.standardizers = ByModality({name: Standardizer(width) for name, width in widths.items()})

    def add_linear_paths(self, kinds: Mapping[str, Literal["fixed", "trained"]]) -> None:
        """Create the linear paths, all zero; see `FusionConfig`."""
        self.linear_paths = nn.ModuleDict(
            {
                name: Linear(self.num_inputs, spec.num_outputs).requires_grad_(kinds[name] == "trained")
                for name, spec in self.tasks.items()
                if name in kinds
            }
        )
        start_at_zero(self.linear_paths)

    @torch.no_grad()
    def set_linear_path(self, task: str, weight_CD: Tensor, bias_C: Tensor, center_C: Tensor | None = None) -> None:
        """Fix the linear path of a task.

        Args:
            task: name.
            weight_CD: on the columns of `linear_inputs`, modalities in the model's order.
            bias_C: intercepts; both in logits, or for regression in scores.
            center_C: of a regression, mean of the training labels, which scores are spread about; the intercepts where
                left out.

        Raises:
            ValueError: the model was made without a linear path for the task.
        """
        if task not in self.linear_paths:
            raise ValueError(f"task {task!r} has no linear path; name it in the model's linear_path")
        weight, bias = self.linear_paths[task].parameters()
        weight.copy_(weight_CD)
        bias.copy_(bias_C)
        if self.tasks[task].kind == "regression":
            bias.sub_(0.5)
            cast(Tower, self.towers[task]).center.copy_(bias_C if center_C is None else center_C)

    @abstractmethod
    def shared_parameters(self) -> list[nn.Parameter]:
        """List the parameters that every task's loss reaches."""

    @abstractmethod
    def last_shared_parameters(self) -> list[nn.Parameter]:
        """List those of the last shared layer, for balancing at a lower cost."""

    def task_parameters(self) -> list[nn.Parameter]:
        """List the trained parameters that only one task's losses reach."""
        shared = set(map(id, self.shared_parameters()))
        return [part for part in self.parameters() if part.requires_grad and id(part) not in shared]

    def constrain(self) -> None:
        """Bring parameters with a range back into it, after an optimizer step."""
        for module in self._constrained:
            module.constrain_()

    @cached_property
    def _constrained(self) -> list[Any]:
        return [module for module in self.modules() if callable(getattr(module, "constrain_", None))]

    @property
    def one_pass(self) -> bool:
        """Whether every layer records the use of its parameters, see `mmpsr.layers.recorded`."""
        return not any(getattr(module, "undeferrable", False) for module in self.modules())

    def standardize(self, batch: Batch) -> dict[str, Tensor]:
        """Standardise features by modality, zero where absent.

        Raises:
            ValueError: the batch has other modalities than the model.
        """
        if tuple(batch.features) != self.modalities:
            raise ValueError(f"the model takes modalities {list(self.modalities)}, found {list(batch.features)}")
        return {
            name: self.standardizers[name](batch.features[name], batch.presence[:, index])
            for index, name in enumerate(self.modalities)
        }

    def linear_inputs(self, standardized: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Join what the linear paths see, `[B, D]`: standardised features, similarities to prototypes, and absences."""
        columns = list(standardized.values())
        if self.prototypes is not None:
            columns.append(self.prototypes(batch.features, batch.presence))
        if self.sees_absence:
            columns.append((~batch.presence).to(columns[0].dtype))
        return torch.cat(columns, dim=1)

    @abstractmethod
    def encode(self, batch: Batch) -> Shared:
        """Apply the part of the model that all tasks share.

        Raises:
            ValueError: the batch has other modalities than the model.
        """

    def fused(self, shared: Shared) -> Tensor:
        """Give one vector per clip of what all tasks see, `[B, H]`, which neighbours are found by; here the inputs."""
        return shared.inputs

    @abstractmethod
    def outputs(self, task: str, shared: Shared, offset_BC: Tensor | None) -> Outputs:
        """Give the outputs of a task's heads, main and auxiliary ones with the offset."""

    def predict(self, task: str, shared: Shared) -> Outputs:
        """Predict logits, or scores in [0, 1] for regression, of one task.

        Returns:
            In training those of the task's head and of the auxiliary one; in evaluation the blend of both as the main
            ones, and None. Without an auxiliary modality those of the head, and None.
        """
        offset_BC = self.linear_paths[task](shared.inputs) if task in self.linear_paths else None
        found = self.outputs(task, shared, offset_BC)
        if found.auxiliary is None or self.auxiliary_index is None or self.training:
            return found
        rows_B = shared.presence[:, self.auxiliary_index]
        main_BC = blend(found.main, found.auxiliary, rows_B, self.auxiliary_share, self.tasks[task])
        return Outputs(main_BC, None, found.log_deviations)

    def collect(self, outputs: Mapping[str, Outputs], shared: Shared) -> Predictions:
        """Make predictions of what `predict` gave for every task."""
        main = {task: found.main for task, found in outputs.items()}
        auxiliary = {task: found.auxiliary for task, found in outputs.items() if found.auxiliary is not None}
        deviations = {task: found.log_deviations for task, found in outputs.items() if found.log_deviations is not None}
        scores = {task: main_BC for task, main_BC in main.items() if self.tasks[task].kind == "regression"}
        logits = {task: main_BC for task, main_BC in main.items() if task not in scores}
        rows_B = shared.presence[:, self.auxiliary_index] if auxiliary and self.auxiliary_index is not None else None
        return Predictions(logits, scores, auxiliary, rows_B, deviations)

    def forward(self, batch: Batch) -> Predictions:
        """Predict every task for every clip of the batch.

        Raises:
            ValueError: the batch has other modalities than the model.
        """
        shared = self.encode(batch)
        return self.collect({task: self.predict(task, shared) for task in self.tasks}, shared)
