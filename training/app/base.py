"""What both pages have behind them: sessions with their files, and analyses that take turns and tell their progress."""

from __future__ import annotations

import queue
import shutil
import sys
import tempfile
import threading
import traceback
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

from corpora.clips import CorpusError
from encoders.errors import EncodingError, ExtractionError, StoreError
from mmpsr.files import replacing
from training.app.analysis import STAGES, AppError, Limits, Wishes, without_folders
from training.app.view import status_view
from training.predict.inputs import InputError
from training.predict.predictor import StageClock
from training.predict.transcripts import TranscriptError

__all__ = ["KEPT", "Analysed", "BaseService", "Session", "Sessions", "Shown", "zip_of"]

KEPT = 12
"""Analyses that a session keeps; older ones are forgotten."""
_TOLD = (AppError, CorpusError, EncodingError, ExtractionError, InputError, StoreError, TranscriptError)


class Analysed(Protocol):
    """An analysis of a video."""

    @property
    def name(self) -> str:
        """Name of the file."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds by stage."""


AnalysisT = TypeVar("AnalysisT", bound=Analysed)
Events = queue.Queue[tuple[str, str] | list[AnalysisT] | str]
"""A stage that begins and how far it is; last the analysis, alone in a list, or why there is none."""


@dataclass
class Session:
    """One open page.

    Attributes:
        folder: of its own, for vectors and downloads.
        uploads: files that it sent.
        analyses: by the name they are offered under, the latest last.
        num_analyses: made so far.
        shown: name of the analysis that the page shows, the latest unless another was chosen.
        is_shown: whether the page shows one of them, and not a later video's progress or failure.
    """

    folder: Path
    uploads: set[Path] = field(default_factory=set)
    analyses: dict[str, Any] = field(default_factory=dict)
    num_analyses: int = 0
    shown: str = ""
    is_shown: bool = False

    def add(self, analysis: Analysed) -> None:
        """Keep an analysis, offered under its number and name."""
        self.num_analyses, self.is_shown = self.num_analyses + 1, True
        self.shown = f"{self.num_analyses}. {analysis.name}"
        self.analyses[self.shown] = analysis
        while len(self.analyses) > KEPT:
            del self.analyses[next(iter(self.analyses))]


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
        """Give the session of a page, begun where it is new."""
        with self._lock:
            if key not in self._open:
                self._open[key] = Session(Path(tempfile.mkdtemp(prefix="session-", dir=self.root)))
            return self._open[key]

    def hold(self, key: str, path: str | Path) -> Path:
        """Note that a session sent a file, which then stays as long as the session.

        Raises:
            AppError: the file is not there any more.
        """
        session, upload = self.of(key), Path(path).resolve()
        with self._lock:
            if self.root not in upload.parents or not upload.is_file():
                raise AppError(f"{upload.name} is not here any more, because the page was left; load it again")
            session.uploads.add(upload)
        return upload

    @contextmanager
    def working(self, key: str) -> Iterator[Session]:
        """Hold a session while something writes into its folder, which is removed afterwards if the page was left."""
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
        shown: that of them which this is.
    """

    status: str
    result: str | None = None
    download: Path | None = None
    labels: tuple[str, ...] = ()
    shown: str = ""


class BaseService(ABC, Generic[AnalysisT]):
    """Analyses of all sessions; one is at work at a time.

    Args:
        name: of the model's run or bundle.
        limits: on videos.
        root: folder of all uploads.
    """

    titles: Mapping[str, str] = STAGES
    """What stages are called, in their order."""
    nothing = "Drop a video, choose one or record one first."
    """What is said where nothing was given."""

    def __init__(self, name: str, limits: Limits, root: Path) -> None:
        self.name, self.limits = name, limits
        self.sessions = Sessions(root)
        self._turn = threading.Lock()

    @property
    @abstractmethod
    def about(self) -> str:
        """The line that stands on top of the page."""

    @abstractmethod
    def warm_up(self, video: Path, store: Path) -> None:
        """Predict a video, so that encoders are loaded before the first one comes."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the encoders, when what is being encoded is done."""

    @abstractmethod
    def _analysis_of(
        self, path: Path | None, wishes: Wishes, store: Path, on_stage: Callable[[str, str], None]
    ) -> AnalysisT: ...

    def _can_do_without(self, wishes: Wishes) -> bool:
        """Tell whether what is asked for needs no video; it always does, unless a service knows better."""
        return False

    @abstractmethod
    def _view(self, analysis: AnalysisT) -> str:
        """Write the results as HTML."""

    @abstractmethod
    def _file(self, analysis: AnalysisT, folder: Path) -> Path:
        """Write one file with everything."""

    def analyse(self, key: str, video: str | None, wishes: Wishes) -> Iterator[Shown]:
        """Analyse a video, and tell how far it is.

        Args:
            key: of the session.
            video: path of an upload.
            wishes: what is asked for.
        """
        self.sessions.of(key).is_shown = False
        if video is None and not self._can_do_without(wishes):
            yield Shown(self._status({}, error=self.nothing))
            return
        name = "" if video is None else Path(video).name
        events: Events[AnalysisT] = queue.Queue()
        threading.Thread(target=self._work, args=(key, video, wishes, events), daemon=True).start()
        clock = StageClock()
        while True:
            event = events.get()
            if isinstance(event, list):
                with self.sessions.working(key) as session:
                    session.add(event[0])
                    latest = self._latest(session)
                yield latest
                return
            if isinstance(event, str):
                stages = clock.leave() | ({clock.stage: None} if clock.stage else {})
                yield Shown(self._status(stages, error=event, name=name))
                return
            stage, progress = event
            clock.enter(stage)
            yield Shown(self._status({**clock.seconds, stage: None}, progress))

    def analyse_all(self, key: str, recordings: Sequence[str], wishes: Wishes) -> Iterator[Shown]:
        """Analyse recordings one after another, and tell how far it is; one that cannot be is said at the end.

        Args:
            key: of the session.
            recordings: paths of uploads.
            wishes: what is asked for; words only of one recording alone.
        """
        num = len(recordings)
        if num < 2:
            yield from self.analyse(key, next(iter(recordings), None), wishes)
            return
        refusal = ""
        if num > KEPT:
            refusal = f"There are {num} recordings; this page takes up to {KEPT} at once, `mmpsr predict` any number."
        elif wishes.text.strip() or wishes.transcript is not None:
            refusal = f"There are {num} recordings and words of one; analyse that one alone, or take the words out."
        if refusal:
            yield Shown(self._status({}, error=refusal))
            return
        lost: list[str] = []
        done: Shown | None = None
        for number, recording in enumerate(recordings, 1):
            shown = Shown("")
            for shown in self.analyse(key, recording, wishes):
                yield replace(shown, status=_counted(f"{number} of {num}: {Path(recording).name}") + shown.status)
            if shown.result is None:
                lost.append(shown.status)
            else:
                done = shown
        self.sessions.of(key).is_shown = done is not None
        summary = _counted(f"{num - len(lost)} of {num} analysed")
        yield replace(done or Shown(""), status=summary + "".join(lost or [done.status if done else ""]))

    def show(self, key: str, label: str) -> Shown | None:
        """Show another analysis of a session; None where it is not there any more."""
        with self.sessions.working(key) as session:
            if label not in session.analyses:
                return None
            session.shown, session.is_shown = label, True
            return self._latest(session)

    def _work(self, key: str, video: str | None, wishes: Wishes, events: Events[AnalysisT]) -> None:
        """Analyse in a thread of its own; the last event is the analysis or why there is none."""
        try:
            path = None if video is None else self.sessions.hold(key, video)
            if wishes.transcript is not None:
                self.sessions.hold(key, wishes.transcript)
            if self._turn.locked():
                events.put(("waiting", ""))
            with self._turn, self.sessions.working(key) as session:
                store = session.folder / "vectors"
                events.put([self._analysis_of(path, wishes, store, lambda *stage: events.put(stage))])
        except _TOLD as error:
            events.put(without_folders(str(error), video, wishes.transcript))
        except Exception as error:  # the page must say something, whatever it was
            traceback.print_exc(file=sys.stderr)
            message = f"The analysis failed: {type(error).__name__}: {error}"
            events.put(without_folders(message, video, wishes.transcript))

    def _latest(self, session: Session) -> Shown:
        """Show the analysis of a session that was chosen, or else the latest, and write its file."""
        analysis = session.analyses[session.shown]
        file = self._file(analysis, session.folder)
        return Shown(
            self._status(dict(analysis.seconds)), self._view(analysis), file, tuple(session.analyses), session.shown
        )

    def _status(self, stages: Mapping[str, float | None], progress: str = "", error: str = "", name: str = "") -> str:
        return status_view(stages, progress, error, name, self.titles)


def _counted(sentence: str) -> str:
    return f'<div class="mmpsr"><p class="soft">{escape(sentence)}</p></div>'


def zip_of(files: Mapping[str, str], path: Path) -> Path:
    """Write texts into one compressed file; one that is there, and may be on its way to a browser, stays whole.

    Args:
        files: content by name.
        path: to write.
    """
    with replacing(path, durable=False) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return path
