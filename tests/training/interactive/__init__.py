"""Tests of `training/interactive`."""
