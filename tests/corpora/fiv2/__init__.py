"""Tests of `corpora/fiv2`."""
