"""Evaluation of finished runs: figures with intervals, comparisons, breakdowns, other corpora, leakage."""
