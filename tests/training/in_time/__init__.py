"""Tests of `training/in_time`."""
