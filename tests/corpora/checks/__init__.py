"""Tests of `corpora/checks`."""
