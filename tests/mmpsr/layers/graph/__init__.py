"""Tests of `mmpsr/layers/graph`."""
