"""Tests of `encoders/media`."""
