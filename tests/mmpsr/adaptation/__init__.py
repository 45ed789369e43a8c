"""Tests of `mmpsr/adaptation`."""
