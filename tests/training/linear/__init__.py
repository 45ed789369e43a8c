"""Tests of `training/linear`."""
