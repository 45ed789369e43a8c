"""Folders and files of a corpus on disk: found with one walk, shown as a user knows them, missed with a clear error."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from corpora.clips import CorpusError, Defects

__all__ = ["MEDIA_SUFFIXES", "Tree", "missing_path", "shown_path", "walk"]

MEDIA_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".flv", ".wav", ".flac", ".mp3", ".m4a", ".ogg")
"""Suffixes of video and audio files, lower case."""
_RUBBISH = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
_NO_TEXT = re.compile(r"[\x00-\x1f\ud800-\udfff]")  # controls, and bytes that are not UTF-8


def missing_path(kind: str, path: Path, root: Path) -> CorpusError:
    """Error of a file or folder that is not there: the full path looked for, and where it comes from."""
    looked_for = f"there is no {kind} {os.path.abspath(path)}"
    return CorpusError(f"{looked_for} (corpora.root is {str(root)!r}); set corpora.root or the corpus' path")


def shown_path(path: Path, root: Path) -> str:
    """A path as a user of `corpora.root` recognises it: relative to the root where it lies below."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


@dataclass(frozen=True)
class Tree:
    """What lies below a corpus' folder.

    Attributes:
        folder: the corpus' folder.
        root: `corpora.root`, for messages.
        files: paths of all files relative to the folder, separated by `/`, sorted.
        closed: folders that were not entered, likewise.
    """

    folder: Path
    root: Path
    files: tuple[str, ...]
    closed: tuple[str, ...] = field(default=())

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """Files by their name without folders."""
        names: dict[str, list[str]] = {}
        for file in self.files:
            names.setdefault(file.rpartition("/")[2], []).append(file)
        return names

    def path(self, file: str) -> Path:
        """Full path of one of `files` or `closed`."""
        return self.folder / file

    def shown(self, file: str) -> str:
        """One of `files` as messages name it."""
        return shown_path(self.folder / file, self.root)

    def below(self, *parts: str) -> list[str]:
        """Files that have the folder `parts` (one or several names in a row) anywhere above them."""
        middle = "/".join(parts) + "/"
        return [file for file in self.files if file.startswith(middle) or f"/{middle}" in file]

    def one(self, names: Iterable[str], what: str) -> str:
        """The only file with one of these names; copies with the same content are one.

        Raises:
            CorpusError: there is none, or there are different ones; `what` says in the message what it would be.
        """
        names = tuple(names)
        found = [file for name in names for file in self.by_name.get(name, ())]
        if not found:
            raise CorpusError(
                f"no {what} ({' or '.join(names)}) in or below {os.path.abspath(self.folder)} (corpora.root is "
                f"{str(self.root)!r}); set corpora.root or the corpus' path"
            )
        if len(found) > 1 and len({self.path(file).read_bytes() for file in found}) > 1:
            shown = " and ".join(self.shown(file) for file in found)
            raise CorpusError(f"{shown} differ, and either could be the {what}; set the corpus' path to one of them")
        return found[0]


def walk(
    folder: Path,
    root: Path,
    defects: Defects | None = None,
    closed: Callable[[PurePosixPath], bool] = lambda path: False,
) -> Tree:
    """Walk a corpus' folder once, following links, leaving out what archives and desktops leave behind.

    Args:
        folder: where to begin.
        root: `corpora.root`, for messages.
        defects: notes files and folders that are left out because their names are no text.
        closed: whether a folder (its path relative to `folder`) is not to be entered.

    Raises:
        CorpusError: there is no such folder, or one cannot be opened.
    """
    if not folder.is_dir():
        raise missing_path("folder", folder, root)
    files: list[str] = []
    shut: list[str] = []
    unnamed: list[str] = []
    seen: set[tuple[int, int]] = set()

    def enter(place: str, prefix: str) -> None:
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # a link back to a folder above
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name in _RUBBISH or entry.name.startswith("._"):
                    continue
                path = prefix + entry.name
                if _NO_TEXT.search(entry.name):
                    unnamed.append(path)
                    continue
                if entry.is_file():
                    files.append(path)
                elif not entry.is_dir():  # a link to nothing
                    continue
                elif closed(PurePosixPath(path)):
                    shut.append(path)
                else:
                    enter(entry.path, path + "/")

    try:
        enter(str(folder), "")
    except OSError as error:
        raise CorpusError(f"{shown_path(Path(error.filename), root)} cannot be opened: {error.strerror}") from None
    if unnamed and defects is not None:
        reason = f"{len(unnamed)} files or folders left out since their names are not Unicode; rename them"
        defects.add("ignored", ascii(shown_path(folder / min(unnamed), root))[1:-1], reason)
    return Tree(folder, root, tuple(sorted(files)), tuple(sorted(shut)))
