"""Tests of `corpora/demo`."""
