"""What is wrong with a corpus, and what is in it: findings within a corpus, overlap between splits, counts.

clip table -> findings (kind, severity, cases) and statistics (clips, groups, labels per split)
"""

from corpora.checks.dev_choice import weak_dev
from corpora.checks.findings import Case, Finding, between_corpora, between_splits, check_corpus
from corpora.checks.statistics import CorpusFigures, corpus_figures

__all__ = [
    "Case", "CorpusFigures", "Finding", "between_corpora", "between_splits", "check_corpus", "corpus_figures",
    "weak_dev",
]  # fmt: skip
