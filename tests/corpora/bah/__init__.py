"""Tests of `corpora/bah`."""
