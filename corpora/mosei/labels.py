"""CMU-MOSEI's labels: sentiment in [-3, 3] and six intensities in [0, 3], from the CSD or from the raw AMT answers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from corpora.clips import CorpusError, Defects, label_column
from corpora.reading.cells import Cells, read_cells
from corpora.reading.paths import Tree

if TYPE_CHECKING:
    import h5py

__all__ = ["CSD", "EMOTIONS", "NAMES", "answer_files", "as_text", "label_frame", "read_answers", "read_csd"]

CSD = "CMU_MOSEI_Labels.csd"
EMOTIONS: Mapping[str, str] = {
    "happiness": "Happiness", "sadness": "Sadness", "anger": "Anger", "surprise": "Surprise", "disgust": "Disgust",
    "fear": "Fear",
}  # fmt: skip
"""Intensity -> class."""
NAMES = ("sentiment", *EMOTIONS)
"""The columns of the CSD, in the order that it has where it does not name them."""
RANGES: Mapping[str, tuple[float, float]] = {"sentiment": (-3.0, 3.0), **{name: (0.0, 3.0) for name in EMOTIONS}}
MOST_SEGMENTS = 2000  # of one video; the corpus has about a hundred

_ALIASES = {"happy": "happiness", "sad": "sadness", "angry": "anger", "surprised": "surprise", "disgusted": "disgust"}
_SLACK = 1e-4  # single precision
_ANSWERS = {"Input.VIDEO_ID": "vid", "Input.CLIP": "clip", **{f"Answer.{name}": name for name in NAMES}}


def label_frame(
    intensities: pd.DataFrame, where: pd.Series, defects: Defects, votes: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Label the task `emotion`, intensity / 3 or the share of workers, so that what is present (> 0) stays present.

    Neutral is 1 where all six intensities are 0, and 0 where one is present.

    Args:
        intensities: columns `sentiment` and, where known, those of `EMOTIONS`; NaN is unknown.
        where: place of each row, for messages.
        defects: notes numbers outside their range (unknown from then on), and rows without any emotion.
        votes: columns of `EMOTIONS`, shares in [0, 1] to label with in place of the intensities.

    Returns:
        Columns `emotion.<class>` and, as text, `raw.sentiment` and `raw.<emotion>`.
    """
    values_by_name: dict[str, pd.Series] = {}
    wrong = pd.Series(False, index=intensities.index)
    for name in intensities:
        (low, high), values = RANGES[str(name)], intensities[name]
        outside = (values < low - _SLACK) | (values > high + _SLACK)
        for row in np.flatnonzero(outside):
            defects.add("bad_label", where.iloc[row], f"{name} is {values.iloc[row]:g}, outside [{low:g}, {high:g}]")
        values_by_name[str(name)] = values.mask(outside).clip(low, high)
        wrong |= outside
    labels = pd.DataFrame({f"raw.{name}": as_text(values) for name, values in values_by_name.items()})
    if not set(EMOTIONS) <= set(values_by_name):
        return labels.assign(**{label_column("emotion", name): np.nan for name in ("Neutral", *EMOTIONS.values())})
    emotions = pd.DataFrame({name: values_by_name[name] for name in EMOTIONS})
    labels["emotion.Neutral"] = np.select(
        [(emotions > 0.0).any(axis=1), emotions.eq(0.0).all(axis=1)], [0.0, 1.0], np.nan
    )
    for name, emotion in EMOTIONS.items():
        labels[label_column("emotion", emotion)] = emotions[name] / 3.0 if votes is None else votes[name]
    for row in np.flatnonzero(emotions.isna().all(axis=1) & ~wrong):
        defects.add("missing_label", where.iloc[row], "no emotion is annotated; the clip is kept without labels")
    return labels


def as_text(values: pd.Series) -> pd.Series:
    """Write numbers with at most seven digits, missing where unknown."""
    return values.map({value: f"{value:.7g}" for value in values.dropna().unique()}).astype("string")


def read_csd(tree: Tree, defects: Defects) -> pd.DataFrame:
    """Read `CMU_MOSEI_Labels.csd`: columns `vid`, `start`, `end` (seconds as annotated), `NAMES` and `where`.

    Rows of a video are counted from 0, as the file counts them. An interval that a video has twice is used once.

    Raises:
        CorpusError: the file is not there, or not laid out as the SDK writes it.
    """
    import h5py

    file = tree.one([CSD], "file of the labels")
    shown = tree.shown(file)
    try:
        with h5py.File(tree.path(file), "r") as opened:
            videos, parts = _read_parts(opened, shown)
    except CorpusError:
        raise
    except Exception as error:  # damaged HDF5 raises whatever it pleases
        raise CorpusError(f"{shown} cannot be read as HDF5 ({error}); fetch it again") from None
    lengths = [len(part) for part in parts]
    vid = pd.Series(np.repeat(np.array(videos, dtype=object), lengths), dtype="string")
    frame = pd.DataFrame(np.concatenate(parts), columns=["start", "end", *NAMES]).assign(vid=vid)
    rows = np.concatenate([np.arange(length) for length in lengths])
    frame["where"] = [f"{shown}, video {video!r}, row {row}" for video, row in zip(vid, rows, strict=True)]
    repeated = frame.duplicated(["vid", "start", "end"])
    differs = repeated & ~frame.duplicated(["vid", "start", "end", *NAMES])
    for row in np.flatnonzero(repeated):
        kind, what = ("disagreement", "other") if differs.iloc[row] else ("ignored", "the same")
        segment = frame.iloc[row]
        reason = (
            f"an earlier row has {segment['start']:g} to {segment['end']:g} s with {what} labels; the first is used"
        )
        defects.add(kind, segment["where"], reason)
    endless = ~np.isfinite(frame[["start", "end"]]).all(axis=1)
    for where in frame.loc[endless, "where"]:
        defects.add("unusable_row", where, "its interval is not made of numbers; not used")
    return frame[~repeated & ~endless].reset_index(drop=True)


def _read_parts(opened: h5py.File, shown: str) -> tuple[list[str], list[np.ndarray]]:
    """Read the names of the videos, and by video `[n, 9]`: start, end, then `NAMES`."""
    roots = [name for name in opened if "data" in opened[name]]
    name = "All Labels" if "All Labels" in roots else next(iter(roots), "All Labels")
    if name not in roots or not len(opened[name]["data"]):
        raise CorpusError(f"{shown} has no videos at {name}/data; it should be the SDK's file of all labels")
    order = _order(opened[name], shown)
    videos, parts = [], []
    for video, group in opened[name]["data"].items():
        features, intervals = group["features"], group["intervals"]
        count = len(intervals)
        if features.shape != (count, len(NAMES)) or intervals.shape != (count, 2) or count > MOST_SEGMENTS:
            raise CorpusError(
                f"{shown}, video {video!r}: features are {list(features.shape)} and intervals "
                f"{list(intervals.shape)}, expected [n, {len(NAMES)}] and [n, 2]"
            )
        video.encode()  # a name that is no text is a damaged file
        videos.append(video)
        parts.append(np.hstack([intervals[()].astype(np.float64), features[()].astype(np.float64)[:, order]]))
    return videos, parts


def _order(root: h5py.Group, shown: str) -> list[int]:
    """Find the column of each of `NAMES`, by the file's dimension names where it has them."""
    noted = root.get("metadata", {})
    written: Any = json.loads(noted["dimension names"][0]) if "dimension names" in noted else None
    if not written:
        return list(range(len(NAMES)))
    names = [_ALIASES.get(name, name) for name in (str(part).strip().lower() for part in written)]
    if sorted(names) != sorted(NAMES):
        raise CorpusError(f"{shown}: dimension names are {written}, expected {', '.join(NAMES)} in any order")
    return [names.index(name) for name in NAMES]


def answer_files(tree: Tree) -> list[str]:
    """List tables of raw answers: CSV files in a folder `Labels`."""
    return [file for file in tree.below("Labels") if file.lower().endswith(".csv")]


def read_answers(tree: Tree, defects: Defects) -> pd.DataFrame:
    """Read the AMT batches: columns `vid`, `clip`, `NAMES` (means over workers), `raw.workers` and `where`.

    `votes.<emotion>` is the share of a clip's workers who saw the emotion at all, with an intensity above 0. A clip may
    stand in several batches. Tables in the folder that hold no answers are noted as ignored.

    Raises:
        CorpusError: no table holds answers, or one cannot be parsed.
    """
    parts, others = [], []
    for file in answer_files(tree):
        # workers' comments in other columns may be in any encoding
        noted = Defects(defects.corpus)
        cells = read_cells(tree.path(file), tree.root, encoding="latin-1", defects=noted)
        missing = [column for column in _ANSWERS if column not in cells.frame]
        if missing:
            others.append(f"; {cells.file} has no column {missing[0]!r}")
            defects.add("ignored", cells.file, f"it has no column {missing[0]!r}; not read as answers")
            continue
        defects.rows += noted.rows
        parts.append(_answers(cells, defects))
    if not parts:
        raise CorpusError(
            f"no table with columns {', '.join(_ANSWERS)} in a folder Labels below {os.path.abspath(tree.folder)}; set "
            f"the corpus' path, or labels_from to what the tree has{others[0] if others else ''}"
        )
    answers = pd.concat(parts, ignore_index=True)
    clips = answers.groupby(["vid", "clip"], sort=False)
    means = clips[list(NAMES)].mean().reset_index()
    seen = answers[list(EMOTIONS)].gt(0.0).astype(np.float64).where(answers[list(EMOTIONS)].notna())
    shares = seen.groupby([answers["vid"], answers["clip"]], sort=False).mean()
    for name in EMOTIONS:
        means[f"votes.{name}"] = shares[name].to_numpy()
    means["raw.workers"] = clips.size().astype("string").to_numpy()
    means["where"] = clips["where"].first().to_numpy()
    return means


def _answers(cells: Cells, defects: Defects) -> pd.DataFrame:
    """Read one row per usable answer, numbers outside their range unknown."""
    frame = pd.DataFrame({"row": cells.rows})
    frame["vid"] = cells.frame["Input.VIDEO_ID"].str.strip().str.replace(r"^.*/", "", regex=True)  # a folder
    frame["clip"] = cells.frame["Input.CLIP"].str.strip()
    for name in NAMES:
        column, (low, high) = f"Answer.{name}", RANGES[name]
        numbers = cells.numbers(cells.frame[column], f"column {column!r}", (), defects, "bad_label")
        for row in np.flatnonzero((numbers < low) | (numbers > high)):
            place = f"{cells.where(int(row))}, video {frame.at[row, 'vid']!r}, column {column!r}"
            defects.add("bad_label", place, f"{name} is {numbers[row]:g}, outside [{low:g}, {high:g}]")
            numbers[row] = np.nan
        frame[name] = numbers
    usable = frame["vid"].ne("") & frame["clip"].str.fullmatch(r"\d+")
    for row in np.flatnonzero(~usable):
        reason = "an answer needs Input.VIDEO_ID and a whole number in Input.CLIP; not used"
        defects.add("unusable_row", cells.where(int(row)), reason)
    frame["where"] = cells.file + ", row " + frame["row"].astype("string")
    return frame[usable.astype(bool)]
