"""Tests of `training/bundle`."""
