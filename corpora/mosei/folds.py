"""CMU-MOSEI's standard folds: which video is in which split, from whatever a user has of them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from corpora.clips import SPLIT_NAMES, CorpusError, Split
from corpora.reading.paths import Tree

__all__ = ["Folds", "folds_of", "read_folds"]

_FOLDS = re.compile(r"[^/]*fold[^/]*\.(json|txt|csv|py)", re.IGNORECASE)
_LIST = re.compile(rf"({'|'.join(SPLIT_NAMES)})(?:[^a-z/][^/]*)?\.txt", re.IGNORECASE)


@dataclass(frozen=True)
class Folds:
    """The split of each video.

    Attributes:
        file: where that is said, for messages.
        splits: split by video id.
    """

    file: str
    splits: Mapping[str, Split]


def folds_of(file: str, pairs: Iterable[tuple[str, str]]) -> Folds:
    """Make folds from pairs of a video id and what `file` calls its split.

    Raises:
        CorpusError: a name is no split, a video is in two splits, or there is no pair.
    """
    splits: dict[str, Split] = {}
    for video, name in pairs:
        split = SPLIT_NAMES.get(name.strip().lower())
        if split is None:
            raise CorpusError(f"{file}: video {video!r} is in {name!r}; splits are {', '.join(SPLIT_NAMES)}")
        if splits.setdefault(video, split) != split:
            raise CorpusError(f"{file}: video {video!r} is in {splits[video]} and in {split}; leave it in one")
    if not splits:
        raise CorpusError(f"{file} names no video; it should say which videos are in train, valid and test")
    return Folds(file, splits)


def read_folds(tree: Tree) -> Folds | None:
    """Read the folds file of a tree: `*fold*.{json,txt,csv,py}`, or three lists `{train,valid,test}*.txt` of ids.

    A Python file (the SDK's `cmu_mosei_std_folds.py`) is parsed for the lists it assigns, never run.

    Returns:
        The folds, or None where the tree has no such file.

    Raises:
        CorpusError: a file cannot be understood, or two say different things.
    """
    files = [file for file in tree.files if "Transcript" not in file.split("/")[:-1]]
    folds = [_read_file(tree, file) for file in files if _FOLDS.fullmatch(file.rpartition("/")[2])]
    lists: dict[str, list[str]] = {}
    for file in files:
        name = file.rpartition("/")[2]
        if (match := _LIST.fullmatch(name)) and not _FOLDS.fullmatch(name):
            lists.setdefault(SPLIT_NAMES[match[1].lower()], []).append(file)
    if len(lists) == 3:
        shown = ", ".join(tree.shown(file) for files in lists.values() for file in files)
        pairs = [(video, split) for split in lists for file in lists[split] for video in _text(tree, file).split()]
        folds.append(folds_of(shown, pairs))
    for other in folds[1:]:
        if other.splits != folds[0].splits:
            raise CorpusError(f"{folds[0].file} and {other.file} say different folds; keep one in the corpus' folder")
    return folds[0] if folds else None


def _text(tree: Tree, file: str) -> str:
    try:
        return tree.path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{tree.shown(file)} is not utf-8 at byte {error.start}; it should list video ids") from None


def _read_file(tree: Tree, file: str) -> Folds:
    shown, text = tree.shown(file), _text(tree, file)
    try:
        if file.lower().endswith(".json"):
            return folds_of(shown, _from_lists(json.loads(text)))
        if file.lower().endswith(".py"):
            return folds_of(shown, _from_lists(_assigned(text)))
        return folds_of(shown, _from_rows(text))
    except CorpusError:
        raise
    except (ValueError, TypeError, SyntaxError, AttributeError, RecursionError, MemoryError) as error:
        expected = "three lists of video ids named train, valid and test, or lines of a video id and its split"
        raise CorpusError(f"{shown} does not hold folds ({error}); expected {expected}") from None


def _from_lists(lists: Any) -> list[tuple[str, str]]:
    """Take pairs from lists named `train` or `standard_train_fold`, and so on; other names are left alone."""
    names = {name: name.lower().removeprefix("standard_").removesuffix("_fold") for name in lists}
    given = {names[name]: videos for name, videos in lists.items() if names[name] in SPLIT_NAMES}
    if any(isinstance(videos, str) for videos in given.values()):
        raise TypeError("a fold is a text, not a list")
    if not all(isinstance(video, str) for videos in given.values() for video in videos):
        raise TypeError("a video id is no text")
    "".join(video for videos in given.values() for video in videos).encode()  # half a character is no text either
    return [(video, split) for split, videos in given.items() for video in videos]


def _assigned(source: str) -> dict[str, Any]:
    """Take the values of plain assignments in a Python source whose names end in `_fold`."""
    return {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.endswith("_fold")
    }


def _from_rows(text: str) -> list[tuple[str, str]]:
    """Take pairs from lines `<video> <split>`, separated by comma, tab or space, a header line allowed."""
    rows = [[cell.strip().strip('"') for cell in re.split(r"[,;\t ]+", line.strip())] for line in text.splitlines()]
    rows = [row for row in rows if row != [""]]
    if rows and len(rows[0]) == 2 and rows[0][1].lower() not in SPLIT_NAMES:
        rows = rows[1:]
    for row in rows:
        if len(row) != 2:
            raise ValueError(f"found the line {' '.join(row)!r}")
    return [(video, split) for video, split in rows]
