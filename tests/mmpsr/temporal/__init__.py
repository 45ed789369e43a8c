"""Tests of `mmpsr/models`."""
