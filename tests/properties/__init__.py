"""Invariances that every implementation must have."""
