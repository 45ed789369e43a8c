"""Tests of `tuning/search`."""
