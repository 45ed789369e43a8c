"""Searches over a training run's configuration."""
