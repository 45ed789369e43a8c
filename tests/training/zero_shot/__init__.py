"""Tests of `training/zero_shot`."""
