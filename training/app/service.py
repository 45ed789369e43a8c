"""What the app does with a recording, whoever shows it: analyses by session, views of them, files to take along."""

from __future__ import annotations

import queue
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from corpora.clips import CorpusError
from encoders.errors import EncodingError, ExtractionError, StoreError
from training.app.analysis import Analysis, AppError, Limits, Wishes, analyse, decide
from training.app.download import write_zip
from training.app.view import compare_view, result_view, status_view
from training.predict.inputs import InputError
from training.predict.predictor import Predictor
from training.predict.transcripts import TranscriptError

__all__ = ["KEPT", "Service", "Session", "Sessions", "Shown"]

KEPT = 12
"""Analyses that a session keeps for comparison; older ones are forgotten."""
_TOLD = (AppError, CorpusError, EncodingError, ExtractionError, InputError, StoreError, TranscriptError)


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


@dataclass(frozen=True)
class Shown:
    """What the page shows next.

    Attributes:
        status: HTML of the progress.
        result: HTML of the results, or None where they are not there yet.
        download: file with all of it.
        labels: analyses that can be compared, the latest last.
    """

    status: str
    result: str | None = None
    download: Path | None = None
    labels: tuple[str, ...] = ()


class Service:
    """Analyses of all sessions; one is at work at a time.

    Args:
        predictor: the model.
        name: of its run or bundle.
        limits: on videos.
        root: folder of all uploads.
    """

    def __init__(self, predictor: Predictor, name: str, limits: Limits, root: Path) -> None:
        self.predictor, self.name, self.limits = predictor, name, limits
        self.sessions = Sessions(root)
        self._turn = threading.Lock()

    def analyse(self, key: str, video: str | None, wishes: Wishes) -> Iterator[Shown]:
        """Analyse a video, and tell how far it is.

        Args:
            key: of the session.
            video: path of an upload.
            wishes: what is asked for.
        """
        self.sessions.of(key).is_shown = False
        if video is None:
            yield Shown(status_view({}, error="Drop a video, choose one or record one first."))
            return
        name = Path(video).name
        told: queue.Queue[tuple[str, str] | Analysis | str] = queue.Queue()
        threading.Thread(target=self._work, args=(key, video, wishes, told), daemon=True).start()
        seconds: dict[str, float] = {}
        stage, began = "", 0.0
        while True:
            event = told.get()
            if stage:
                seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began
            if isinstance(event, Analysis):
                yield self._finished(key, event)
                return
            if isinstance(event, str):
                yield Shown(status_view(seconds | ({stage: None} if stage else {}), error=event, name=name))
                return
            stage, progress = event
            began = time.perf_counter()
            yield Shown(status_view({**seconds, stage: None}, progress))

    def _work(self, key: str, video: str, wishes: Wishes, told: queue.Queue[tuple[str, str] | Analysis | str]) -> None:
        """Analyse in a thread of its own; the last thing told is the analysis or why there is none."""
        try:
            path = self.sessions.hold(key, video)
            if wishes.transcript is not None:
                self.sessions.hold(key, wishes.transcript)
            if self._turn.locked():
                told.put(("waiting", ""))
            with self._turn, self.sessions.working(key) as session:
                store = session.folder / "vectors"
                told.put(analyse(self.predictor, path, wishes, self.limits, store, lambda *stage: told.put(stage)))
        except _TOLD as error:
            told.put(_plain(error, (video, wishes.transcript)))
        except Exception as error:  # the page must say something, whatever it was
            traceback.print_exc(file=sys.stderr)
            told.put(f"The analysis failed: {type(error).__name__}: {_plain(error, (video, wishes.transcript))}")

    def _finished(self, key: str, analysis: Analysis) -> Shown:
        with self.sessions.working(key) as session:
            session.add(analysis)
            file = write_zip(analysis, self.predictor.trained, self.name, session.folder)
            return Shown(status_view(dict(analysis.seconds)), result_view(analysis), file, tuple(session.analyses))

    def decide(self, key: str, confidence: float) -> Shown | None:
        """All analyses with another confidence asked for; the latest of them, or None where it is not shown."""
        with self.sessions.working(key) as session:
            for label, analysis in session.analyses.items():
                session.analyses[label] = decide(analysis, self.predictor, confidence)
            if not session.is_shown:
                return None
            latest = list(session.analyses.values())[-1]
            file = write_zip(latest, self.predictor.trained, self.name, session.folder)
            return Shown(status_view(dict(latest.seconds)), result_view(latest), file, tuple(session.analyses))

    def compare(self, key: str, first: str | None, second: str | None) -> str | None:
        """HTML of two analyses side by side; None where they are not both there."""
        analyses = self.sessions.of(key).analyses
        if first not in analyses or second not in analyses:
            return None
        return compare_view(analyses[first], analyses[second])


def _plain(error: Exception, paths: tuple[str | Path | None, ...]) -> str:
    """The message with names of files in place of paths."""
    message = str(error)
    for path in paths:
        if path is not None:
            message = message.replace(str(Path(path).resolve()), Path(path).name).replace(str(path), Path(path).name)
    return message
