"""Training itself: baseline, step, loop, checkpoints, and what they cost.

for each epoch: for each batch: loss terms -> weights -> gradients -> step; then dev -> best epoch
"""
