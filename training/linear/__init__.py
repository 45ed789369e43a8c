"""Linear models: the baseline that every model is held against, and the path inside it."""
