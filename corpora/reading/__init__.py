"""Reading of files that nobody checked: tables of any kind, folders as they lie on disks, tiers, YAML and pickles.

Every error says file, row and column; nothing in a file can run, and no file can use up the memory.
"""

from corpora.reading.cells import Cells, ColumnPattern, RawCells, Selector, plain_numbers, read_cells
from corpora.reading.hugging_face import dataset_frame, to_dataset
from corpora.reading.paths import MEDIA_SUFFIXES, Tree, missing_path, shown_path, walk
from corpora.reading.tiers import Interval, Tier, read_tiers
from corpora.reading.untrusted import ForbiddenTagError, as_text, load_pickle, load_yaml, read_yaml

__all__ = [
    "MEDIA_SUFFIXES",
    "Cells",
    "ColumnPattern",
    "ForbiddenTagError",
    "Interval",
    "RawCells",
    "Selector",
    "Tier",
    "Tree",
    "as_text",
    "dataset_frame",
    "load_pickle",
    "load_yaml",
    "missing_path",
    "plain_numbers",
    "read_cells",
    "read_tiers",
    "read_yaml",
    "shown_path",
    "to_dataset",
    "walk",
]
