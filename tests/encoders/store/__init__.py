"""Tests of `encoders/store`."""
