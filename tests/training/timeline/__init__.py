"""Tests of `training/timeline`."""
