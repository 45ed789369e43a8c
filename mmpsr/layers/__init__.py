"""Layers that models are made of: linear maps that record for gradients by loss, standardisation, modality nodes.

`graph` and `attention` below hold the interchangeable layers: one interface, one file a method, `build` chooses.
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from mmpsr.layers.nodes import conflicts, masked_mean, masked_softmax, mean_conflict, present_pairs, spectral_filter
    from mmpsr.layers.recorded import LayerNorm, Linear, Record, Tape, per_clip
    from mmpsr.layers.standardizer import Standardizer
else:
    __getattr__ = on_demand(__name__, "nodes", "recorded", "standardizer")

__all__ = [
    "LayerNorm",
    "Linear",
    "Record",
    "Standardizer",
    "Tape",
    "conflicts",
    "masked_mean",
    "masked_softmax",
    "mean_conflict",
    "per_clip",
    "present_pairs",
    "spectral_filter",
]
