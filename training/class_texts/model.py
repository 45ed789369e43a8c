"""Nearness to class texts as a fusion model, alone or beside a trained one, so that whatever takes a model takes it.

Shape suffixes: B clips, M modalities, W width of a text encoder's space, P poles, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmpsr.batch import Batch
from mmpsr.layers.standardizer import Standardizer
from mmpsr.models.base import FusionModel, Outputs, Shared
from mmpsr.prototypes.points import similarities
from mmpsr.tasks import TaskSpec

__all__ = ["TEMPERATURE", "NearestTexts", "TrainedAndNearest"]

TEMPERATURE = 0.1
"""What similarities are divided by; a round number, set before any corpus was asked."""


class NearestTexts(FusionModel):
    """Predict the classes whose texts a clip's words, and its described behaviour, are nearest to.

        l_c = mean over present modalities of s_c / 0.1,   scores: sigmoid(l_t)

    with s of `mmpsr.prototypes.points.similarities`. Nothing in it is trained, and a clip without any of the modalities
    has equal logits.

    Args:
        widths: of each modality's vectors, whose first W numbers are the mean over tokens.
        prototypes: by task and modality `[P, C, W]`; a task may leave modalities out.
        tasks: specifications by task name.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        prototypes: Mapping[str, Mapping[str, NDArray[np.float32]]],
        tasks: Mapping[str, TaskSpec],
    ) -> None:
        super().__init__(widths, tasks)
        self.towers = nn.ModuleDict()
        self._names: dict[tuple[str, str], str] = {}
        for task, by_modality in prototypes.items():
            for modality, points_PCW in by_modality.items():
                name = self._names[task, modality] = f"prototypes{len(self._names)}"
                self.register_buffer(name, torch.from_numpy(points_PCW))
        self.add_linear_paths({})
        self.eval()

    def shared_parameters(self) -> list[nn.Parameter]:
        """List none."""
        return []

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """List none."""
        return []

    def compared(self, task: str) -> tuple[str, ...]:
        """List the modalities that a task compares with its texts."""
        return tuple(name for name in self.modalities if (task, name) in self._names)

    def encode(self, batch: Batch) -> Shared:
        """Take the vectors as they are, zeros where absent."""
        seen = self.standardize(batch)
        inputs = torch.cat(list(seen.values()), dim=1)
        return Shared(tuple(seen.values()), batch.presence, inputs, batch.features)

    def outputs(self, task: str, shared: Shared, offset_BC: Tensor | None) -> Outputs:
        """Give similarities over the temperature, averaged over the modalities that are present."""
        vectors = dict(zip(self.modalities, shared.ends, strict=True))
        total_BC = torch.zeros(len(shared.presence), self.tasks[task].num_outputs, dtype=torch.float64)
        count_B = torch.zeros(len(shared.presence), dtype=torch.float64)
        for modality in self.compared(task):
            points_PCW = self.get_buffer(self._names[task, modality]).cpu().numpy()
            seen_BW = vectors[modality][:, : points_PCW.shape[-1]].detach().cpu().double().numpy()
            is_there_B = shared.presence[:, self.modalities.index(modality)].cpu().double()
            total_BC += is_there_B.unsqueeze(1) * torch.from_numpy(similarities(seen_BW, points_PCW))
            count_B += is_there_B
        logits_BC = total_BC / count_B.clamp(min=1).unsqueeze(1) / TEMPERATURE
        logits_BC = logits_BC.float().to(shared.presence.device)
        return Outputs(torch.sigmoid(logits_BC) if self.tasks[task].kind == "regression" else logits_BC)


@dataclass(frozen=True)
class _Both(Shared):
    near: Shared


class TrainedAndNearest(FusionModel):
    """Predict a trained model's tasks as it does, and others by class texts, from the same vectors.

    Args:
        trained: the model, some of whose modalities are those of `nearest`.
        nearest: of tasks that the model has not.
    """

    def __init__(self, trained: FusionModel, nearest: NearestTexts) -> None:
        widths = {}
        for name, standardizer in trained.standardizers.items():
            assert isinstance(standardizer, Standardizer)
            widths[name] = len(standardizer.mean)
        super().__init__({name: widths[name] for name in trained.modalities}, {**trained.tasks, **nearest.tasks})
        self.trained, self.nearest = trained, nearest
        self.standardizers, self.towers, self.linear_paths = trained.standardizers, trained.towers, trained.linear_paths
        self.auxiliary_index, self.auxiliary_share = trained.auxiliary_index, trained.auxiliary_share
        if hasattr(trained, "sequence_standardizers"):
            self.sequence_standardizers = trained.sequence_standardizers
        self.eval()

    def shared_parameters(self) -> list[nn.Parameter]:
        """List those of the trained model."""
        return self.trained.shared_parameters()

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """List those of the trained model."""
        return self.trained.last_shared_parameters()

    def encode(self, batch: Batch) -> Shared:
        """Apply both models' shared parts."""
        own, names = self.trained.encode(batch), self.nearest.modalities
        columns = [self.modalities.index(name) for name in names]
        features = {name: batch.features[name] for name in names}
        near = replace(batch, features=features, presence=batch.presence[:, columns], sequences={})
        return _Both(own.ends, own.presence, own.inputs, own.vectors, self.nearest.encode(near))

    def outputs(self, task: str, shared: Shared, offset_BC: Tensor | None) -> Outputs:
        """Give what the model that has the task gives."""
        if task in self.nearest.tasks:
            assert isinstance(shared, _Both)
            return self.nearest.outputs(task, shared.near, None)
        return self.trained.outputs(task, shared, offset_BC)
