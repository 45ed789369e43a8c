"""Tests of `mmpsr.stacked`."""
