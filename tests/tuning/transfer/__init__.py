"""Tests of `tuning/transfer`."""
