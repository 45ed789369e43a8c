"""Tests of `mmpsr/metrics`."""
