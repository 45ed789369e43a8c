"""First Impressions v2: 15-second clips of people speaking to a camera, five traits in [0, 1], videos as groups.

annotation_training.pkl + train/training80_01/<video>.<number>.mp4 -> one row a clip
"""

from corpora.fiv2.corpus import FirstImpressionsCorpus

__all__ = ["FirstImpressionsCorpus"]
