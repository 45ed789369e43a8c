"""Rows of `mmpsr measure` made up by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from encoders.cues.columns import COLUMNS


def measured(num_rows: int = 4, step: float = 0.5, start: float = 0.0, **columns: Any) -> pd.DataFrame:
    """Rows of `mmpsr measure` in which nothing is known but these columns."""
    values = {name: np.full(num_rows, np.nan) for name in COLUMNS}
    values |= {"time": start + step * np.arange(num_rows)}
    frame = pd.DataFrame({**values, **{name.replace("event_", "event."): each for name, each in columns.items()}})
    return frame.astype({"failure": "string"})
