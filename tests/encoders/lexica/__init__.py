"""Tests of `encoders/lexica`."""
