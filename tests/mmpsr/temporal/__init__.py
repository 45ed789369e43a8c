"""Tests of `mmpsr/temporal`."""
