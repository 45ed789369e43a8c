"""Runs that are trained together: models of one shape in one stack, each with the course that it would take alone.

courses (one of each run) -> a step of all of them at once -> each run's own epochs, best weights and checkpoints
"""
