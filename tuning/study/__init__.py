"""Studies: rows of settings x seeds and folds, as tables.

study (TOML) -> cells (row, fold, seed) -> workers -> table -> Markdown, LaTeX, CSV, a report
"""
