"""Tests of `training/class_texts`."""
