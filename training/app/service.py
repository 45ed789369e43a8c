"""Analyses by session, whoever shows them: views of them, and one file of each to take along."""

from __future__ import annotations

import json
import queue
import shutil
import sys
import tempfile
import threading
import traceback
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from corpora.clips import CorpusError
from encoders.errors import EncodingError, ExtractionError, StoreError
from training.app.analysis import Analysis, AppError, Limits, Wishes, analyse, decide, without_folders
from training.app.view import compare_view, result_view, status_view
from training.predict.document import document_of
from training.predict.inputs import InputError
from training.predict.predictor import Predictor, StageClock
from training.predict.results import frame_of
from training.predict.transcripts import TranscriptError
from training.report.cards import render_card
from training.runs.trained import TrainedModel

__all__ = ["KEPT", "Service", "Session", "Sessions", "Shown", "write_zip"]

KEPT = 12
"""Analyses that a session keeps for comparison; older ones are forgotten."""
Events = queue.Queue[tuple[str, str] | Analysis | str]
"""A stage that begins and how far it is; last the analysis, or why there is none."""
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

    def add(self, analysis: Analysis) -> None:
        """Keep an analysis, offered under its number and name."""
        self.num_analyses, self.is_shown = self.num_analyses + 1, True
        self.analyses[f"{self.num_analyses}. {analysis.name}"] = analysis
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

    @property
    def about(self) -> str:
        """The line that stands on top of the page."""
        return self.predictor.trained.about(self.name)

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
        events: Events = queue.Queue()
        threading.Thread(target=self._work, args=(key, video, wishes, events), daemon=True).start()
        clock = StageClock()
        while True:
            event = events.get()
            if isinstance(event, Analysis):
                with self.sessions.working(key) as session:
                    session.add(event)
                    latest = self._latest(session)
                yield latest
                return
            if isinstance(event, str):
                stages = clock.leave() | ({clock.stage: None} if clock.stage else {})
                yield Shown(status_view(stages, error=event, name=name))
                return
            stage, progress = event
            clock.enter(stage)
            yield Shown(status_view({**clock.seconds, stage: None}, progress))

    def _work(self, key: str, video: str, wishes: Wishes, events: Events) -> None:
        """Analyse in a thread of its own; the last event is the analysis or why there is none."""
        try:
            path = self.sessions.hold(key, video)
            if wishes.transcript is not None:
                self.sessions.hold(key, wishes.transcript)
            if self._turn.locked():
                events.put(("waiting", ""))
            with self._turn, self.sessions.working(key) as session:
                store = session.folder / "vectors"
                events.put(analyse(self.predictor, path, wishes, self.limits, store, lambda *stage: events.put(stage)))
        except _TOLD as error:
            events.put(without_folders(str(error), video, wishes.transcript))
        except Exception as error:  # the page must say something, whatever it was
            traceback.print_exc(file=sys.stderr)
            message = f"The analysis failed: {type(error).__name__}: {error}"
            events.put(without_folders(message, video, wishes.transcript))

    def _latest(self, session: Session) -> Shown:
        """Show the latest analysis of a session, and write its file."""
        analysis = list(session.analyses.values())[-1]
        file = write_zip(analysis, self.predictor.trained, self.name, session.folder)
        return Shown(status_view(dict(analysis.seconds)), result_view(analysis), file, tuple(session.analyses))

    def decide(self, key: str, confidence: float) -> Shown | None:
        """Ask another confidence of all analyses; returns the latest of them, or None where it is not shown."""
        with self.sessions.working(key) as session:
            for label, analysis in session.analyses.items():
                session.analyses[label] = decide(analysis, self.predictor, confidence)
            if not session.is_shown:
                return None
            return self._latest(session)

    def compare(self, key: str, first: str | None, second: str | None) -> str | None:
        """Write HTML of two analyses side by side; None where they are not both there."""
        analyses = self.sessions.of(key).analyses
        if first not in analyses or second not in analyses:
            return None
        return compare_view(analyses[first], analyses[second])


def write_zip(analysis: Analysis, trained: TrainedModel, name: str, folder: Path) -> Path:
    """Write one file with the analysis as `mmpsr predict` writes it: JSON, CSV and cards; it holds no pictures.

    The JSON is the document of `mmpsr predict`, the whole before its windows, and the explanation. Of windows there is
    a second card with the timeline.

    Args:
        analysis: of a video.
        trained: the model.
        name: of the model.
        folder: to write into.
    """
    clips = [clip.to_dict() for clip in analysis.clips]
    defects = [defect._asdict() for defect in analysis.defects]
    rows: list[dict[str, Any]] = [*({"clip": clip} for clip in clips), *({"defect": defect} for defect in defects)]
    window = analysis.wishes.window if len(clips) > 1 else None
    document = document_of(
        rows, (), trained, name=name, confidence=analysis.wishes.confidence, window=window, hop=window,
        notes=analysis.notes,
    )  # fmt: skip
    document["explanation"] = analysis.explanation.to_dict()
    recording, stem = document["recordings"][0], Path(analysis.name).stem
    files = {
        f"{stem}.json": json.dumps(document, indent=2, allow_nan=False) + "\n",
        f"{stem}.csv": frame_of(clips, defects).assign(about=document["about"]).to_csv(index=False),
        f"{stem}.html": render_card({**recording, "clips": recording["clips"][:1], "defects": []}, document),
    }
    if len(clips) > 1:
        files[f"{stem}-timeline.html"] = render_card({**recording, "clips": recording["clips"][1:]}, document)
    path = folder / f"{stem}-mmpsr.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return path
