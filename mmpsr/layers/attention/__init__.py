"""Attention between a task's node and the modalities: `[B, d]`, `[B, M, d]`, present `[B, M]` -> `[B, d]`.

One file a family; `build` makes the layer that `model.attention` names.
"""

from mmpsr.layers.attention.build import AttentionConfig, create_attention

__all__ = ["AttentionConfig", "create_attention"]
