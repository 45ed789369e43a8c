"""Reports: one HTML file that needs nothing else, of a run, a study or a prediction.

run folder -> sections (charts, tables, text) -> page
"""
