"""Tests of `corpora/reading`."""
