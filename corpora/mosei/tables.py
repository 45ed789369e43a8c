"""CMU-MOSEI as others published it: the flat tables with descriptions, and MMSA's `label.csv` and pickles."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from corpora.clips import SPLIT_NAMES, SPLITS, CorpusError, Defects, Split, label_columns
from corpora.labels import LabelColumns, read_labels
from corpora.mosei.folds import Folds, folds_of
from corpora.mosei.labels import label_frame
from corpora.reading.cells import Cells, read_cells
from corpora.reading.paths import Tree
from mmpsr.delimited import SEPARATORS
from mmpsr.tasks import TaskSpec

__all__ = ["MMSA_LABELS", "mmsa_folds", "pickle_files", "read_mmsa", "read_tables", "table_files", "table_folds"]

MMSA_LABELS = "label.csv"
CLASSES = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")

_SPLIT = re.compile(rf"(?:.*[^a-z])?({'|'.join(SPLIT_NAMES)})(?:[^a-z].*)?\.csv", re.IGNORECASE)
_NAME = r"^(?P<vid>.+)_(?P<start>-?[0-9]{1,7}(?:\.[0-9]+)?)_(?P<end>-?[0-9]{1,7}(?:\.[0-9]+)?)$"
_MMSA_ID = r"^(.+)\$_\$(.+)$"


def table_files(tree: Tree) -> dict[Split, str]:
    """Find flat tables by split: CSV files named after a split, with the columns `video_name` and `CLASSES`.

    Raises:
        CorpusError: two different tables are of the same split.
    """
    tables: dict[Split, str] = {}
    for file, split in _named_tables(tree):
        if _lacking(tree, file):
            continue
        first = tables.setdefault(split, file)
        if tree.path(first).read_bytes() != tree.path(file).read_bytes():
            shown = f"{tree.shown(first)} and {tree.shown(file)}"
            raise CorpusError(f"{shown} differ, and either could be the table; set the corpus' path to one of them")
    return {split: tables[split] for split in SPLITS if split in tables}


def _named_tables(tree: Tree) -> Iterator[tuple[str, Split]]:
    for file in tree.files:
        if match := _SPLIT.fullmatch(file.rpartition("/")[2]):
            yield file, SPLIT_NAMES[match[1].lower()]


def _lacking(tree: Tree, file: str) -> list[str]:
    """List columns of a flat table that a file does not have."""
    with tree.path(file).open("rb") as opened:
        line = opened.readline(1 << 16).decode("utf-8-sig", errors="replace")
    parts = [{cell.strip().strip('"') for cell in line.split(separator)} for separator in SEPARATORS]
    return min(([name for name in ("video_name", *CLASSES) if name not in head] for head in parts), key=len)


def read_tables(tree: Tree, place: str, spec: TaskSpec, defects: Defects) -> pd.DataFrame:
    """Read the flat tables; their labels stay as they are (published as shares of 1, Neutral among them).

    Returns:
        Columns `clip_id` (the table's `video_name`), `vid`, `start`, `end`, `split`, `text`, `description`, `where`,
        labels and `raw.` columns.

    Raises:
        CorpusError: there is no table, or one cannot be read.
    """
    parts = [
        _read_table(read_cells(tree.path(file), tree.root, defects=defects), split, place, spec, defects)
        for split, file in table_files(tree).items()
    ]
    if not parts:
        near = [f"; {tree.shown(file)} has no column {_lacking(tree, file)[0]!r}" for file, _ in _named_tables(tree)]
        raise CorpusError(
            "no table named train*.csv, dev*.csv, val*.csv or test*.csv (a prefix is allowed) with columns video_name, "
            f"{', '.join(CLASSES)} in or below {os.path.abspath(tree.folder)}; set the corpus' path, or labels_from to "
            f"what the tree has{near[0] if near else ''}"
        )
    return pd.concat(parts, ignore_index=True)


def _read_table(cells: Cells, split: Split, place: str, spec: TaskSpec, defects: Defects) -> pd.DataFrame:
    names = cells.column("video_name").str.strip()
    frame = names.str.extract(_NAME).astype({"vid": "string", "start": "float64", "end": "float64"})
    source = LabelColumns(columns={name: name for name in CLASSES})
    labels = read_labels(cells, f"{place}: {cells.file}", "emotion", spec, source, (), defects)
    frame = frame.assign(clip_id=names, split=split, where=cells.places()).join(labels)
    for column, meaning in {"text": "text", "text_llm": "description"}.items():
        frame[meaning] = cells.select(column) if column in cells.frame else pd.NA
    if "Other" in cells.frame:
        frame["raw.Other"] = cells.column("Other")
    usable = frame["vid"].notna()
    for row in np.flatnonzero(~usable):
        reason = f"{names[row]!r} is not <video id>_<start>_<end>; not used"
        defects.add("unusable_row", f"{cells.where(int(row))}, column 'video_name'", reason)
    frame = frame[usable]
    unlabeled = frame[label_columns("emotion", spec)].isna().all(axis=1)
    defects.add_rows("missing_label", frame, unlabeled, "no emotion is annotated; the clip is kept without labels")
    return frame


def table_folds(tree: Tree) -> Folds | None:
    """Read the split of each video that the flat tables name, by the tables' own names."""
    tables = {split: read_cells(tree.path(file), tree.root) for split, file in table_files(tree).items()}
    pairs = [
        (video, split)
        for split, cells in tables.items()
        for video in cells.column("video_name").str.strip().str.extract(_NAME)["vid"].dropna()
    ]
    return folds_of(", ".join(cells.file for cells in tables.values()), pairs) if tables else None


def mmsa_folds(tree: Tree) -> Folds | None:
    """Read the split of each video by the column `mode` of MMSA's `label.csv`, where the tree has that."""
    if MMSA_LABELS not in tree.by_name:
        return None
    cells = read_cells(tree.path(tree.one([MMSA_LABELS], "label table")), tree.root)
    pairs = zip(cells.column("video_id").str.strip(), cells.column("mode"), strict=True)
    return folds_of(f"{cells.file}, column 'mode'", pairs)


def pickle_files(tree: Tree) -> list[str]:
    """List pickles that may be MMSA's, the smallest first."""
    files = [file for file in tree.files if file.lower().endswith((".pkl", ".pickle"))]
    return sorted(files, key=lambda file: (tree.path(file).stat().st_size, file))


def read_mmsa(tree: Tree, defects: Defects) -> pd.DataFrame:
    """Read MMSA's `label.csv`, or where there is none its smallest pickle (all hold the same labels); sentiment only.

    Returns:
        Columns `vid`, `clip`, `split`, `text`, `where`, unknown emotion labels, `raw.sentiment`, `raw.annotation`.

    Raises:
        CorpusError: there is neither, or it is not laid out as MMSA's.
    """
    if MMSA_LABELS in tree.by_name:
        table = tree.path(tree.one([MMSA_LABELS], "label table"))
        frame = _read_label_csv(read_cells(table, tree.root, defects=defects), defects)
    elif files := pickle_files(tree):
        frame = _read_pickle(tree, files[0], defects)
        for file in files[1:]:
            defects.add("ignored", tree.shown(file), f"labels are read from {tree.shown(files[0])}")
    else:
        raise CorpusError(
            f"no {MMSA_LABELS} and no pickle (.pkl) of MMSA in or below {os.path.abspath(tree.folder)}; set the "
            "corpus' path, or labels_from to what the tree has"
        )
    for row in np.flatnonzero(frame["split"].notna() & frame["split"].map(SPLIT_NAMES).isna()):
        reason = f"{frame['split'].iloc[row]!r} is no split; splits are {', '.join(SPLIT_NAMES)}"
        defects.add("unknown_split", frame["where"].iloc[row], reason)
    frame["split"] = frame["split"].map(SPLIT_NAMES).astype("string")
    usable = frame["vid"].ne("") & frame["clip"].ne("")
    for row in np.flatnonzero(~usable):
        defects.add("unusable_row", frame["where"].iloc[row], "a clip needs a video id and a clip id; not used")
    frame = frame[usable.astype(bool)].reset_index(drop=True)
    place = frame["where"] + ", video '" + frame["vid"] + "'"
    return frame.drop(columns="sentiment").join(label_frame(frame[["sentiment"]], place, defects))


def _read_label_csv(cells: Cells, defects: Defects) -> pd.DataFrame:
    frame = pd.DataFrame({"vid": cells.column("video_id").str.strip(), "clip": cells.column("clip_id").str.strip()})
    frame["split"] = cells.column("mode").str.strip().str.lower()
    frame["text"] = cells.select("text")
    frame["sentiment"] = cells.numbers(cells.column("label"), "column 'label'", (), defects, "bad_label")
    if "annotation" in cells.frame:
        frame["raw.annotation"] = cells.select("annotation")
    return frame.assign(where=cells.places())


def _read_pickle(tree: Tree, file: str, defects: Defects) -> pd.DataFrame:
    from corpora.reading.untrusted import load_pickle

    shown = tree.shown(file)
    content = load_pickle(tree.path(file), shown, arrays=True)
    expected = f"{shown} is not a pickle of MMSA: expected train, valid and test, each with id and regression_labels"
    if not isinstance(content, dict) or not content or not set(content) <= set(SPLIT_NAMES):
        raise CorpusError(expected)
    try:
        parts = [_read_part(shown, split, part) for split, part in content.items()]
    except Exception as error:  # whatever a foreign structure does not support
        raise CorpusError(f"{expected} ({type(error).__name__}: {error})") from None
    frame = pd.concat(parts, ignore_index=True)
    parted = frame["id"].str.extract(_MMSA_ID).fillna("")
    return frame.drop(columns="id").assign(vid=parted[0], clip=parted[1])


def _read_part(shown: str, split: str, part: Mapping[str, Any]) -> pd.DataFrame:
    ids = _texts(part["id"])
    frame = pd.DataFrame({"id": ids, "split": split})
    frame["split"] = frame["split"].astype("string")
    frame["sentiment"] = np.asarray(part["regression_labels"], dtype=np.float64).reshape(len(ids))
    for key, column in {"raw_text": "text", "annotations": "raw.annotation"}.items():
        text = _texts(part[key]).str.strip() if key in part else pd.Series(pd.NA, index=frame.index, dtype="string")
        frame[column] = text.mask(text.eq("").fillna(True).astype(bool)).set_axis(frame.index)
    return frame.assign(where=pd.Series([f"{shown}, {split}, row {row}" for row in range(len(ids))], dtype="string"))


def _texts(values: Any) -> pd.Series:
    return pd.Series([str(value) for value in np.ravel(np.asarray(values, dtype=object))], dtype="string")
