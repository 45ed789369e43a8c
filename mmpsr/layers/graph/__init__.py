"""Graph layers over the modalities of a clip: `[B, M, d]` and presence `[B, M]` -> `[B, M, d]`.

One file a method; `build` makes the one that `model.graph` names.
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from mmpsr.layers.graph.build import create_graph
    from mmpsr.layers.graph.config import GraphConfig
else:
    __getattr__ = on_demand(__name__, "build", "config")

__all__ = ["GraphConfig", "create_graph"]
