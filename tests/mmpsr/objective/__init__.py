"""Tests of `mmpsr/objective`."""
