"""Tests of `encoders/maintenance`."""
