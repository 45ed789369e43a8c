from training.estimator.estimator import MultiTaskEstimator as MultiTaskEstimator
from training.interactive.runs import evaluate as evaluate
from training.interactive.runs import train as train
from training.predict.predictor import Predictor as Predictor

__all__ = ["MultiTaskEstimator", "Predictor", "evaluate", "train"]
