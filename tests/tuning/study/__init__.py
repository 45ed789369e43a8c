"""Tests of `tuning/study`."""
