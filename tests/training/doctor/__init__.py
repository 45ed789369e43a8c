"""Tests of `training/doctor`."""
