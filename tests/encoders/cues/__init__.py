"""Tests of `encoders/cues`."""
