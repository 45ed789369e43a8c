"""Tests of `mmpsr/layers/attention`."""
