"""What every corpus entry of a configuration has in common, `[corpora.sources.<name>]`."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from pydantic import Field

from corpora.clips import ClipTable, CorpusError, Split
from mmpsr.config import Config
from mmpsr.tasks import TaskSpec

__all__ = ["CorpusSource", "missing_path", "require_splits", "require_unique"]


class CorpusSource(Config):
    """One corpus on a user's disk. Adapters add the field `adapter`, by which the configuration chooses them."""

    path: str = "."
    """Folder of the corpus, relative to `corpora.root`."""
    release: str | None = None
    """Which release of the corpus this is; noted with every clip."""
    zero_shot: bool = False
    """Never train on this corpus, only evaluate on it."""
    splits: tuple[Split, ...] | None = Field(default=None, min_length=1)
    """Use only these splits; left out, all that the corpus has."""
    metrics: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Metrics by task, reported for this corpus instead of the task's own."""

    @abstractmethod
    def label_tasks(self) -> tuple[str, ...]:
        """Tasks that this corpus has labels for."""

    @abstractmethod
    def read(self, name: str, root: Path, tasks: Mapping[str, TaskSpec]) -> ClipTable:
        """Read the corpus from disk.

        Args:
            name: the corpus' name in the configuration.
            root: `corpora.root`.
            tasks: specifications of at least `label_tasks()`.

        Returns:
            The clips and everything that could not be used.

        Raises:
            CorpusError: a file, column, label or split is not as declared.
        """


def missing_path(kind: str, path: Path, root: Path) -> CorpusError:
    """Error of a file or folder that is not there: the full path looked for, and where it comes from."""
    looked_for = f"there is no {kind} {os.path.abspath(path)}"
    return CorpusError(f"{looked_for} (corpora.root is {str(root)!r}); set corpora.root or the corpus' path")


def require_splits(name: str, clips: pd.DataFrame, defects: pd.DataFrame, wanted: Mapping[Split, str]) -> None:
    """Raise a `CorpusError` where a split has no clip; `wanted` says by split what asked for it."""
    for split, asked in wanted.items():
        if not clips["split"].eq(split).any():
            message = f"corpus {name!r} has no clip in split {split!r}, which {asked} asks for"
            if len(defects):
                first = defects.iloc[0]
                message += f"; {len(defects)} rows have defects, the first: {first['where']}: {first['reason']}"
            raise CorpusError(message)


def require_unique(ids: pd.Series, places: pd.Series) -> None:
    """Raise a `CorpusError` where an id occurs twice, naming both places."""
    repeated = ids[ids.duplicated()]
    if len(repeated):
        both = places[ids.eq(repeated.iloc[0])]
        raise CorpusError(
            f"{both.iloc[1]}: id {repeated.iloc[0]!r} occurs already in {both.iloc[0]}; ids must be unique"
        )
