"""BAH: people answering questions on camera, ambivalence or hesitancy or none, participants as groups.

    lists of a split + annotation of each video -> one row a video, a segment or a window of frames

`corpus` reads the official layout with `files`, `annotation` and `levels`.
"""

from corpora.bah.corpus import BahCorpus

__all__ = ["BahCorpus"]
