"""Tests of `corpora/meld`."""
