"""Tests of `encoders/extraction`."""
