"""Tests of `training.stacked`."""
