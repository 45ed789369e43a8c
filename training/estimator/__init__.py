"""The model as an estimator in the manner of scikit-learn: `fit`, `predict`, `predict_proba` on tables and arrays."""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from training.estimator.estimator import MultiTaskEstimator
    from training.estimator.single import FusionClassifier, FusionRegressor
else:
    __getattr__ = on_demand(__name__, "estimator", "single")

__all__ = ["FusionClassifier", "FusionRegressor", "MultiTaskEstimator"]
