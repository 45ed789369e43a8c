"""Models in time: features of every frame of a clip in, logits of every frame out.

    features [B, T, D_m] -> TCN of each modality -> fusion of modalities -> logits [B, T, C]

`base` is what all share, `tcn` and `batch_norm` their parts; `per_frame`, `lfan`, `can` and `joint` are the kinds,
`build` makes the configured one, and `windows` cuts clips and puts them together.
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from mmpsr.temporal.base import TemporalModel
    from mmpsr.temporal.build import create_temporal, restore_temporal
    from mmpsr.temporal.config import TemporalConfig
    from mmpsr.temporal.windows import merge_windows, predict_clip, stack_windows, window_starts
else:
    __getattr__ = on_demand(__name__, "base", "build", "config", "windows")

__all__ = [
    "TemporalConfig",
    "TemporalModel",
    "create_temporal",
    "merge_windows",
    "predict_clip",
    "restore_temporal",
    "stack_windows",
    "window_starts",
]
