"""Attention between a task's node and the modalities: `[B, d]`, `[B, M, d]`, present `[B, M]` -> `[B, d]`.

One file a family; `build` makes the layer that `model.attention` names.
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from mmpsr.layers.attention.build import create_attention
    from mmpsr.layers.attention.config import AttentionConfig
else:
    __getattr__ = on_demand(__name__, "build", "config")

__all__ = ["AttentionConfig", "create_attention"]
