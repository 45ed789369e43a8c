"""Tests of `mmpsr/balancing`."""
