"""Graph layers over the modalities of a clip: `[B, M, d]` and presence `[B, M]` -> `[B, M, d]`.

One file a method; `build` makes the one that `model.graph` names.
"""

from mmpsr.layers.graph.build import GraphConfig, create_graph

__all__ = ["GraphConfig", "create_graph"]
