"""Tests of `mmpsr`."""
