"""Prediction of raw recordings, by the same functions as extraction and evaluation.

inputs -> windows -> clips -> texts and vectors -> predictor -> results -> document
"""

from training.predict.predictor import Predictor, open_predictor

__all__ = ["Predictor", "open_predictor"]
