"""Tests of `training/scoring`."""
