"""CMU-MOSEI: segments of monologues, six emotions and sentiment, videos as groups, in each form it is passed on in.

labels (csd | answers | tables | MMSA) x folds x media (segments | whole videos) x transcripts -> one row a segment
"""

from corpora.mosei.corpus import MoseiCorpus

__all__ = ["MoseiCorpus"]
