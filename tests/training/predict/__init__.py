"""Tests of `training/predict`."""
