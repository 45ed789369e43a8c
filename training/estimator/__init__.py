"""The model as an estimator in the manner of scikit-learn: `fit`, `predict`, `predict_proba` on tables and arrays."""
