"""MELD: utterances of the series Friends, seven emotions, dialogues as groups.

train_sent_emo.csv + train_splits/dia0_utt0.mp4 -> one row a clip
"""

from corpora.meld.corpus import MeldCorpus

__all__ = ["MeldCorpus"]
