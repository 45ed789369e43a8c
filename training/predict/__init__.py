"""Prediction of raw recordings, by the same functions as extraction and evaluation.

inputs -> windows -> clips -> texts and vectors -> predictor -> results -> document
"""
