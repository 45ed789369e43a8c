"""Tests of `encoders/face`."""
