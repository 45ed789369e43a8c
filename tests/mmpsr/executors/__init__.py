"""Tests of `mmpsr/executors`."""
