"""Fusion models: a batch of vectors per modality in, predictions per task out.

    Batch -> shared part -> one tower a task (+ its linear path) -> Predictions

`base` is what all share, `mcdm` and `conflict_aware` the two kinds, `build` makes the configured one, and
`published_weights` reads those of the paper's code.
"""

from mmpsr.models.base import FusionConfig, FusionModel
from mmpsr.models.build import create_model, restore_model
from mmpsr.models.conflict_aware import ConflictAware, ConflictAwareConfig
from mmpsr.models.mcdm import MCDM, ModelConfig
from mmpsr.models.published_weights import load_published

__all__ = [
    "MCDM",
    "ConflictAware",
    "ConflictAwareConfig",
    "FusionConfig",
    "FusionModel",
    "ModelConfig",
    "create_model",
    "load_published",
    "restore_model",
]
