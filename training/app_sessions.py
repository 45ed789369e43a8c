"""Who is at the page: what each session uploaded and had analysed, and that nothing of it is left behind.

All files lie below one folder. Two sessions that upload the same file share its path, so that it is removed with the
last of them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from training.app_analysis import Analysis, AppError

__all__ = ["KEPT", "Session", "Sessions"]

KEPT = 12
"""Analyses that a session keeps for comparison; older ones are forgotten."""


@dataclass
class Session:
    """One open page.

    Attributes:
        folder: of its own, for vectors and downloads.
        uploads: files that it sent.
        analyses: by the name they are offered under, the latest last.
        num_analyses: made so far.
        is_shown: whether the page shows the latest of them, and not a later video's progress or failure.
    """

    folder: Path
    uploads: set[Path] = field(default_factory=set)
    analyses: dict[str, Analysis] = field(default_factory=dict)
    num_analyses: int = 0
    is_shown: bool = False

    def add(self, analysis: Analysis) -> str:
        """Keep an analysis; the name that it is offered under."""
        self.num_analyses, self.is_shown = self.num_analyses + 1, True
        label = f"{self.num_analyses}. {analysis.name}"
        self.analyses[label] = analysis
        while len(self.analyses) > KEPT:
            del self.analyses[next(iter(self.analyses))]
        return label


class Sessions:
    """All open pages.

    Args:
        root: folder that uploads come to; whatever lies in it is removed when the last page is closed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._open: dict[str, Session] = {}
        self._lock = Lock()

    def of(self, key: str) -> Session:
        """The session of a page, begun where it is new."""
        with self._lock:
            if key not in self._open:
                self._open[key] = Session(Path(tempfile.mkdtemp(prefix="session-", dir=self.root)))
            return self._open[key]

    def hold(self, key: str, path: str | Path) -> Path:
        """Note that a session sent a file, which then stays as long as the session.

        Raises:
            AppError: the file is not there any more.
        """
        session, found = self.of(key), Path(path).resolve()
        with self._lock:
            if self.root not in found.parents or not found.is_file():
                raise AppError(f"{found.name} is not here any more, because the page was left; load it again")
            session.uploads.add(found)
        return found

    @contextmanager
    def working(self, key: str) -> Iterator[Session]:
        """A session while something writes into its folder, which is removed afterwards if the page was left."""
        session = self.of(key)
        try:
            yield session
        finally:
            with self._lock:
                if self._open.get(key) is not session:
                    shutil.rmtree(session.folder, ignore_errors=True)

    def end(self, key: str) -> None:
        """Remove all files of a session that no other one sent too, and with the last session everything."""
        with self._lock:
            session = self._open.pop(key, None)
            if session is None:
                return
            shared = {path for other in self._open.values() for path in other.uploads}
            for path in session.uploads - shared:
                path.unlink(missing_ok=True)
                if path.parent != self.root and not any(path.parent.iterdir()):
                    path.parent.rmdir()
            shutil.rmtree(session.folder, ignore_errors=True)
            if not self._open:  # uploads that were broken off belong to nobody
                for path in self.root.iterdir():
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
