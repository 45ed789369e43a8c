"""Bundles: a trained model that others can use, without a pickle.

run -> collect -> format (bundle.json) + weights (safetensors) + model card -> check
"""
