"""Searches over a run's configuration: plans of trials, workers that share them, and their results.

    space -> plan (slots) -> trial = a run's best dev figure -> results

A test clip is never seen.
"""
