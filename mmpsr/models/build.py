"""A fusion model from its configuration, and back from its stored weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from mmpsr.layers.prototype_bank import Points, stored_points
from mmpsr.layers.standardizer import restored, stored_widths
from mmpsr.models.base import FusionModel
from mmpsr.models.config import ConflictAwareConfig, ModelConfig
from mmpsr.models.conflict_aware import ConflictAware
from mmpsr.models.mcdm import MCDM
from mmpsr.tasks import TaskSpec

__all__ = ["create_model", "restore_model"]


def create_model(
    config: ModelConfig | ConflictAwareConfig,
    widths: Mapping[str, int],
    tasks: Mapping[str, TaskSpec],
    sequence_widths: Mapping[str, int] | None = None,
    points: Points | None = None,
    sees_absence: bool = False,
    guide_points: Points | None = None,
) -> FusionModel:
    """Create a model with random weights.

    Args:
        config: which model, and its settings.
        widths: width of each modality's vectors, by modality.
        tasks: specifications by task name.
        sequence_widths: width of the elements of the modalities that are kept over time; `mcdm` does not read them.
        points: of the classes in a text encoder's space, by task and modality, where they have texts.
        sees_absence: whether linear paths see which modalities are absent.
        guide_points: likewise of the classes, for guide banks of texts (`ModelConfig.guides`).
    """
    if isinstance(config, ConflictAwareConfig):
        return ConflictAware(widths, tasks, config, sequence_widths, points, sees_absence)
    return MCDM(widths, tasks, config, points, sees_absence, guide_points)


def restore_model(
    config: ModelConfig | ConflictAwareConfig,
    modalities: Sequence[str],
    tasks: Mapping[str, TaskSpec],
    weights: Mapping[str, Tensor],
) -> FusionModel:
    """Restore the trained model that these weights are of, in evaluation mode; widths are those of its standardisers.

    Args:
        config: that the model was trained with.
        modalities: in the model's order, which names in a file do not keep.
        tasks: that it was trained for.
        weights: its state, by name.

    Raises:
        ValueError: the weights are those of another model; what differs is named.
    """
    sequences = stored_widths(weights, "sequence_standardizers.") or None
    points, guide_points = stored_points(weights), stored_points(weights, "towers.", ".text_guides.")
    columns = sum(stored_widths(weights).values()) + sum(
        each.shape[1] for of_task in points.values() for each in of_task.values()
    )
    paths = [tensor for name, tensor in weights.items() if name.startswith("linear_paths.") and tensor.ndim == 2]
    sees_absence = any(path.shape[1] > columns for path in paths)

    def create(widths: dict[str, int]) -> FusionModel:
        return create_model(config, widths, tasks, sequences, points, sees_absence, guide_points)

    return restored(create, modalities, weights)
