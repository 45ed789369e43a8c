"""Hugging Face datasets, in and out: folders that `save_to_disk` wrote, and clip tables as `DatasetDict`.

Example:
    >>> to_dataset(table, tasks).save_to_disk("exported")           # doctest: +SKIP
    >>> dataset_frame(load_dataset("csv", data_files="a.csv")["train"])  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from corpora.clips import ClipTable, CorpusError, Split, label_columns
from mmpsr.extras import require_extra
from mmpsr.tasks import TaskSpec

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

__all__ = ["dataset_frame", "is_dataset", "read_dataset", "to_dataset"]

STATE, DICT = "state.json", "dataset_dict.json"
"""File of a folder that holds one dataset, and of one that holds a dataset for each split."""
SPLIT_WORDS: Mapping[Split, str] = {"train": "train", "dev": "validation", "test": "test"}
"""Split -> its usual name in a `DatasetDict`."""


def is_dataset(path: Path) -> bool:
    """Tell whether a folder was written by `save_to_disk`."""
    return (path / STATE).is_file() or (path / DICT).is_file()


def read_dataset(path: Path, shown: str) -> pd.DataFrame:
    """Read a folder that `Dataset.save_to_disk` wrote, see `dataset_frame`.

    Args:
        path: the folder.
        shown: its path as a user knows it.

    Raises:
        CorpusError: it holds several splits, or is damaged.
        MissingExtraError: `datasets` is not installed.
    """
    if (path / DICT).is_file():
        splits = sorted(inner.name for inner in path.iterdir() if (inner / STATE).is_file())
        named = ", ".join(f'{split} = "{shown}/{split}"' for split in splits)
        raise CorpusError(f"{shown} holds a dataset for each split; name them: files = {{ {named} }}")
    require_extra("datasets")
    from datasets import load_from_disk

    try:
        return dataset_frame(load_from_disk(str(path)))
    except Exception as error:  # of pyarrow, json and the library itself
        raise CorpusError(f"{shown} cannot be read as a dataset: {' '.join(str(error).split())}") from None


def dataset_frame(dataset: Dataset) -> pd.DataFrame:
    """Make a frame of a dataset, a column for each of its own.

    Classes (`ClassLabel`) are their names, missing where the label is -1. Audio, images and videos are not decoded:
    they are their paths, and where they have none, words on the bytes that lie in the dataset itself.
    """
    from datasets import ClassLabel

    frame: pd.DataFrame = dataset.with_format("arrow")[:].to_pandas()
    for name, feature in dataset.features.items():
        if isinstance(feature, ClassLabel):
            names = dict(enumerate(feature.names))
            frame[name] = frame[name].map(names).astype("string")
        else:
            frame[name] = frame[name].map(_path_of, na_action="ignore")
    return frame


def to_dataset(table: ClipTable, tasks: Mapping[str, TaskSpec], root: str | Path | None = None) -> DatasetDict:
    """Make a dataset for each split of a clip table: `train`, `validation` and `test`.

    Columns are those of the clip table that are not empty. Labels of tasks with one class a clip are a `ClassLabel`,
    named as the task; others keep a number for each class, `<task>.<class>`. Unknown labels are missing. Media stay
    paths: `cast_column("media", datasets.Audio())` decodes them. Consents go along, as columns.

    Args:
        table: of `corpora.registry.read_corpora`.
        tasks: whose labels are wanted.
        root: folder that paths are written relative to; left out, they stay as they are.

    Raises:
        CorpusError: there are labels in time, which no such dataset holds, media outside `root`, or a clip of a task of
            one class whose label is no class.
        MissingExtraError: `datasets` is not installed.
    """
    require_extra("datasets")
    from datasets import ClassLabel, Dataset, DatasetDict, Features

    if table.timelines:
        corpus, clip = next(iter(table.timelines))
        raise CorpusError(
            f"{len(table.timelines)} clips have labels in time, the first {clip!r} of {corpus!r}, for which a dataset "
            "has no place; give the table without them: ClipTable(table.clips, table.defects)"
        )
    clips = table.validate(tasks).clips
    if root is not None:
        for column in ("media", "audio_media", "fallback_media", "faces"):
            clips[column] = (
                clips[column].map(lambda path: _below(Path(root), path), na_action="ignore").astype("string")
            )
    single = {task: spec for task, spec in tasks.items() if spec.kind == "single_label"}
    for task, spec in single.items():
        clips[task] = _classes(clips, task, spec)
    others = {column for task, spec in single.items() for column in label_columns(task, spec)}
    clips = clips.drop(
        columns=[*others, *(column for column in clips if clips[column].isna().all() and column not in single)]
    )
    features = Features.from_arrow_schema(pa.Schema.from_pandas(clips, preserve_index=False))
    features |= {task: ClassLabel(names=list(spec.classes)) for task, spec in single.items()}
    splits = {}
    for split, word in SPLIT_WORDS.items():
        rows = clips[clips["split"].eq(split)]
        if len(rows):
            splits[word] = Dataset.from_pandas(rows, features=features, preserve_index=False)
    return DatasetDict(splits)


def _classes(clips: pd.DataFrame, task: str, spec: TaskSpec) -> pd.Series:
    """Number each clip's class, missing where it is unknown."""
    values = clips[label_columns(task, spec)].to_numpy(dtype=np.float64)
    known = ~np.isnan(values).any(axis=1)
    graded = known & ~((values == 1.0).sum(axis=1) == 1)
    if graded.any():
        row = int(graded.argmax())
        raise CorpusError(
            f"{clips['corpus'].iloc[row]}/{clips['clip_id'].iloc[row]}: the label of {task} is "
            f"{values[row].tolist()}, which is no single class"
        )
    return pd.Series(np.where(known, values.argmax(axis=1), 0), index=clips.index, dtype="Int64").mask(~known)


def _path_of(cell: Any) -> Any:
    """Give the path of a cell that holds a file's content, and other cells as they are."""
    if isinstance(cell, dict) and cell.keys() == {"bytes", "path"}:
        return cell["path"] or (None if cell["bytes"] is None else f"({len(cell['bytes'])} bytes in the dataset)")
    return cell


def _below(root: Path, path: str) -> str:
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        raise CorpusError(f"{path} lies outside {root}, to which paths should be written relative") from None
