"""Tests of `training/app`."""
