"""Data of a run: clip tables and vectors joined into tensors.

corpora -> load -> (clips, store) -> joined: vectors [N, d], presence [N, M], labels [N, C] -> sampling -> batches
"""

from training.data.joined import JoinedCorpora, active_features, gather, join

__all__ = ["JoinedCorpora", "active_features", "gather", "join"]
