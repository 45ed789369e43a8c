"""Runs on disk: the folder of a run, what is stored in it, and whether it is still what it was.

config.json, features.json, predictions.parquet, calibration.json, results.json, manifest.json, model
"""
