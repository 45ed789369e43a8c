"""Data of a run: clip tables and vectors joined into tensors.

corpora -> load -> (clips, store) -> joined: vectors [N, d], presence [N, M], labels [N, C] -> sampling -> batches
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from training.data.joined import JoinedCorpora, gather, join
    from training.data.selection import active_features
else:
    __getattr__ = on_demand(__name__, "joined", "selection")

__all__ = ["JoinedCorpora", "active_features", "gather", "join"]
