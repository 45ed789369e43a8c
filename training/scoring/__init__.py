"""Scores: predictions of clips, their figures, and tables of both.

model, rows -> predictions -> calibrate -> figure per corpus, split, task and metric
"""
