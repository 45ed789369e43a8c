"""Tests of `encoders`."""
