"""Tests of `corpora/audformat`."""
