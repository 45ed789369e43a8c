"""Media and text turned into fixed-width vectors in the feature store."""
