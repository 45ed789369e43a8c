"""Tests of `encoders/models`."""
