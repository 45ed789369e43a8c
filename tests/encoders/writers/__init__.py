"""Tests of `encoders/writers`."""
