"""Clips and vectors turned into a trained, evaluated and reported model."""
