"""Tests of `mmpsr/calibration`."""
