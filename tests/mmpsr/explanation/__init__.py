"""Tests of `mmpsr/explanation`."""
