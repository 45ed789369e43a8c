"""A model in time from its configuration."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mmpsr.layers.standardizer import restored
from mmpsr.temporal.base import TemporalModel
from mmpsr.temporal.can import CAN
from mmpsr.temporal.config import TemporalConfig
from mmpsr.temporal.joint import JMT, MT
from mmpsr.temporal.lfan import LFAN
from mmpsr.temporal.per_frame import FrameClassifier, TCNClassifier

__all__ = ["create_temporal", "restore_temporal"]


def create_temporal(config: TemporalConfig, widths: Mapping[str, int], num_classes: int) -> TemporalModel:
    """Create a model with random weights.

    Args:
        config: which model, and its settings.
        widths: of the modalities' features, by modality; their order is the model's, the first leads.
        num_classes: C.

    Raises:
        ConfigError: the kind is not defined for these modalities, or channels are given of what is none.
    """
    match config.kind:
        case "frame":
            return FrameClassifier(widths, num_classes, config)
        case "tcn":
            return TCNClassifier(widths, num_classes, config)
        case "lfan":
            return LFAN(widths, num_classes, config)
        case "can":
            return CAN(widths, num_classes, config)
        case "mt" | "mt_extended":
            return MT(widths, num_classes, config)
        case "jmt" | "jmt_extended":
            return JMT(widths, num_classes, config)


def restore_temporal(
    config: TemporalConfig, modalities: tuple[str, ...], num_classes: int, weights: Mapping[str, Tensor]
) -> TemporalModel:
    """Restore the trained model that these weights are of, in evaluation mode; widths are those of its standardisers.

    Args:
        config: that the model was trained with.
        modalities: in the model's order, which names in a file do not keep.
        num_classes: C.
        weights: its state, by name.

    Raises:
        ValueError: the weights are those of another model; what differs is named.
    """
    return restored(lambda widths: create_temporal(config, widths, num_classes), modalities, weights)
