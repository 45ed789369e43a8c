"""What happens behind the page: uploads, analyses with their progress, decisions, comparison; by session."""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpora.clips import CorpusError
from encoders.errors import EncodingError, ExtractionError, StoreError
from training.app_analysis import Analysis, AppError, Limits, Wishes, analyse, decide
from training.app_download import write_zip
from training.app_sessions import Sessions
from training.app_view import compare_view, result_view, status_view
from training.inputs import InputError
from training.inputs_transcripts import TranscriptError
from training.predictor import Predictor

__all__ = ["Service", "Shown"]

_TOLD = (AppError, CorpusError, EncodingError, ExtractionError, InputError, StoreError, TranscriptError)


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
