"""Tests of `training/estimator`."""
