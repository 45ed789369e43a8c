"""The files of BAH: which there are, and what each of them says about a video.

A video is known by its key: participant, visit and file name, whatever lies above them and whether their words are
separated by spaces or underscores; so split lists, annotation, transcripts and folders of both releases meet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from corpora.clips import CorpusError, Defects, Split
from corpora.reading.cells import read_cells
from corpora.reading.paths import Tree, walk
from mmpsr.delimited import text_lines

__all__ = ["BahFiles", "find_files", "read_bytes", "read_labels_table", "read_list", "read_text", "video_key"]

LISTS: Mapping[str, Split] = {"train": "train", "val": "dev", "test": "test"}
ANNOTATIONS = {"video_annotation_transcript.yaml": "2026", "annotation.yml": "2025"}
"""Name of the annotation -> release."""
METADATA = "meta_data.yml"
LABELS = "bah-video.csv"

_WITHHELD = re.compile(r"test|private|unlabel", re.IGNORECASE)
_FACES = re.compile(r"cropped.aligned", re.IGNORECASE)


@dataclass(frozen=True)
class BahFiles:
    """What lies below the corpus' folder; paths are relative to it.

    Attributes:
        tree: the folder.
        lists: lists of videos by name of the split, `train`, `val`, `test`; other names are withheld tests.
        frame_lists: lists of frames, likewise.
        media: video by key.
        faces: folder of face pictures by key.
        transcripts: transcript by key.
        annotations: annotation files.
        metadata: files of participants' metadata.
        labels: `bah-video.csv`, where it is there.
    """

    tree: Tree
    lists: dict[str, str]
    frame_lists: dict[str, str]
    media: dict[str, str] = field(default_factory=dict)
    faces: dict[str, str] = field(default_factory=dict)
    transcripts: dict[str, str] = field(default_factory=dict)
    annotations: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    labels: str | None = None


def video_key(path: str) -> str:
    """Name a video by participant, visit and file.

    Example:
        >>> video_key("Videos/90001/Visite_1/90001_Question_1_2024-01-31 10-00-00_Video.mp4")
        '90001/Visite_1/90001_Question_1_2024-01-31_10-00-00_Video.mp4'
    """
    return "/".join(path.replace("\\", "/").split("/")[-3:]).replace(" ", "_")


def find_files(folder: Path, root: Path, defects: Defects) -> BahFiles:
    """Walk the corpus' folder once; folders of pictures, which are named like the video, are not entered.

    Raises:
        CorpusError: there is no such folder, or two different files could be the same list.
    """
    tree = walk(
        folder,
        root,
        defects,
        closed=lambda path: path.suffix.lower() == ".mp4" and "transcription" not in path.parts[:-1],
    )
    names = tree.by_name
    files = BahFiles(
        tree,
        _lists(tree, ("split", "video-level"), defects),
        _lists(tree, ("split-frames", "frame-level"), defects),
        annotations=[file for name in ANNOTATIONS for file in names.get(name, ())],
        metadata=names.get(METADATA, []),
        labels=tree.one([LABELS], "table of labels") if LABELS in names else None,
    )
    for file in sorted(tree.files, key=lambda file: "Videos" not in file.split("/")):
        place, _, name = file.rpartition("/")
        if name.lower().endswith(".mp4"):
            files_by_key, key = files.media, video_key(file)
        elif name.endswith(".yml") and place.lower().endswith(".mp4"):
            files_by_key, key = files.transcripts, video_key(place)
        else:
            continue
        if files_by_key.setdefault(key, file) != file:
            defects.add(
                "ignored", tree.shown(file), f"of the same video as {tree.shown(files_by_key[key])}, which is used"
            )
    files.faces.update({video_key(place): place for place in reversed(tree.closed) if _FACES.search(place)})
    return files


def _lists(tree: Tree, folders: tuple[str, ...], defects: Defects) -> dict[str, str]:
    below = [file for file in tree.files if file.endswith(".txt") and not set(folders).isdisjoint(file.split("/")[:-1])]
    tree = replace(tree, files=tuple(below))
    lists = {}
    for name, files in sorted(tree.by_name.items(), key=lambda item: item[0].removesuffix(".txt") not in LISTS):
        stem = name.removesuffix(".txt")
        if stem in LISTS or _WITHHELD.search(stem):
            lists[stem] = tree.one([name], f"list {name}")
        else:
            for file in files:
                defects.add("ignored", tree.shown(file), f"no list of a split; those are {', '.join(LISTS)}")
    return lists


def read_bytes(tree: Tree, file: str) -> bytes:
    """Read a file.

    Raises:
        CorpusError: it cannot be read.
    """
    try:
        return tree.path(file).read_bytes()
    except OSError as error:
        raise CorpusError(f"{tree.shown(file)} cannot be read: {error.strerror}") from None


def read_text(tree: Tree, file: str) -> str:
    """Read a UTF-8 text, with or without a byte order mark.

    Raises:
        CorpusError: it is not UTF-8, or cannot be read.
    """
    try:
        return read_bytes(tree, file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{tree.shown(file)} is not UTF-8 at byte {error.start}; get it again") from None


def read_list(tree: Tree, file: str, defects: Defects) -> pd.DataFrame:
    """Read lines `path,label,transcript` of a list of videos; label and transcript may lack, quotes mean nothing.

    Returns:
        Columns `path, key, participant, question, label, text, where`, all `string`, blank cells missing.
    """
    rows = []
    for number, line in enumerate(text_lines(read_text(tree, file)), start=1):
        if not line.strip():
            continue
        path, label, text = (*(part.strip() for part in line.split(",", 2)), "", "")[:3]
        where = f"{tree.shown(file)}, row {number}"
        name = re.fullmatch(r"([^_]+)_Question_([1-7])_.*\.mp4", path.replace("\\", "/").rpartition("/")[2])
        if name is None:
            reason = f"{path!r} is no <participant>_Question_<1-7>_<date>_<time>_Video.mp4; the line is not used"
            defects.add("unusable_row", where, reason)
        else:
            rows.append((path, video_key(path), name[1], name[2], label, text, where))
    columns = ["path", "key", "participant", "question", "label", "text", "where"]
    return pd.DataFrame(rows, columns=columns, dtype="string").replace("", pd.NA)


def read_labels_table(tree: Tree, file: str) -> dict[str, str]:
    """Read labels by key from `bah-video.csv`: its first column names the video, its second is the label."""
    cells = read_cells(tree.path(file), tree.root)
    if cells.frame.shape[1] < 2:
        raise CorpusError(f"{cells.file}: expected the columns video-path and label, found {list(cells.frame)}")
    videos, labels = cells.frame.iloc[:, 0], cells.frame.iloc[:, 1].str.strip()
    return {video_key(video): label for video, label in zip(videos, labels, strict=True) if label}
