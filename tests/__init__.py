"""Tests, which mirror the source: `tests/<package>/<room>/test_<file>.py`."""
