"""Helpers of tests: trees of corpora, small runs, fake encoders and writers, tiny checkpoints."""
