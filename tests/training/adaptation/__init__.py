"""Tests of `training/adaptation`."""
