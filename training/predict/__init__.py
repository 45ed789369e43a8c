"""Prediction of raw recordings, by the same functions as extraction and evaluation.

inputs -> windows -> clips -> texts and vectors -> predictor -> results -> document
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from training.predict.predictor import Predictor, open_predictor
else:
    __getattr__ = on_demand(__name__, "predictor")

__all__ = ["Predictor", "open_predictor"]
