"""The model as an estimator in the manner of scikit-learn: `fit`, `predict`, `predict_proba` on tables and arrays."""

from training.estimator.estimator import MultiTaskEstimator

__all__ = ["MultiTaskEstimator"]
