"""Tests of `mmpsr/layers`."""
