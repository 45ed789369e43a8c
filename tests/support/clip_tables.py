"""Clip tables of dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from corpora.clips import ClipTable, conform, defect_frame


def table_of(rows: Iterable[Mapping[str, object]], defects: Iterable[Sequence[object]] = ()) -> ClipTable:
    """Build a table from dictionaries (absent columns become missing) and rows of `DEFECT_COLUMNS`."""
    return ClipTable(clips=conform(pd.DataFrame(list(rows))), defects=defect_frame(defects))
