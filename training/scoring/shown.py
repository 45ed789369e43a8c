"""Objects that print as a small table, and show as one in a notebook."""

from __future__ import annotations

from abc import abstractmethod

import pandas as pd

__all__ = ["ShownAsTable"]

WIDTH, MOST_ROWS = 140, 40


class ShownAsTable:
    """What has a table for people."""

    @abstractmethod
    def to_table(self) -> pd.DataFrame:
        """Make the table, its cells as they are to be read."""

    def _heading(self) -> str:
        """Say in a line what the table is of, or nothing."""
        return ""

    def __repr__(self) -> str:
        shown = self.to_table().to_string(index=False, max_rows=MOST_ROWS, line_width=WIDTH, max_colwidth=60)
        return "\n".join(part for part in (self._heading(), shown) if part)

    def _repr_html_(self) -> str:
        heading = self._heading().replace("&", "&amp;").replace("<", "&lt;")
        table = self.to_table().to_html(index=False, border=0, max_rows=MOST_ROWS, escape=True, justify="left")
        return f"<p>{heading}</p>{table}" if heading else table
