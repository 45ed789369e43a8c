"""Fusion models: a batch of vectors per modality in, predictions per task out.

    Batch -> shared part -> one tower a task (+ its linear path) -> Predictions

`base` is what all share, `mcdm` and `conflict_aware` the two kinds, `build` makes the configured one, and
`published_weights` reads those of the paper's code.
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from mmpsr.models.base import FusionModel
    from mmpsr.models.build import create_model, restore_model
    from mmpsr.models.config import ConflictAwareConfig, FusionConfig, ModelConfig
    from mmpsr.models.conflict_aware import ConflictAware
    from mmpsr.models.mcdm import MCDM
    from mmpsr.models.published_weights import load_published
else:
    __getattr__ = on_demand(__name__, "base", "build", "config", "conflict_aware", "mcdm", "published_weights")

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
