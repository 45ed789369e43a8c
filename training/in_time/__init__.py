"""Models in time: a prediction for each frame of a clip.

timed features, labels of frames -> windows -> model -> logits of frames, merged -> probabilities [T] -> segments, clip
"""
