"""Tests of `training/commands`."""
