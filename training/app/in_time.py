"""One video analysed by a model in time for the page: its frames, the segments found, and what was seen then."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.app.analysis import AppError, Limits, Wishes, checked_length, transcript_of, without_folders
from training.app.base import BaseService, zip_of
from training.in_time.cards import render_card_in_time, render_in_time
from training.in_time.recordings import InTimePredictor, InTimeResult, document_in_time, frame_table
from training.in_time.trained import InTimeModel
from training.predict.inputs import Recording
from training.predict.predictor import StageClock
from training.predict.transcripts import Cue, Transcript
from training.predict.windows import clips_of

__all__ = ["AnalysisInTime", "InTimeService", "analyse_in_time", "view_in_time", "write_zip_in_time"]

TITLES = {
    "waiting": "Its turn",
    "inputs": "The file",
    "texts": "What is said",
    "features": "Features of every frame",
    "prediction": "Prediction of every frame",
    "cues": "What is seen and heard",
}
"""What happens, in this order, and how the page calls it."""


@dataclass(frozen=True)
class AnalysisInTime:
    """All that the page shows of a video.

    Attributes:
        name: of its file.
        length: in seconds.
        result: of its frames.
        cues: parts of the transcript with their seconds, where those are given.
        notes: sentences on what could not be done.
        seconds: that each stage took.
    """

    name: str
    length: float
    result: InTimeResult
    cues: tuple[Cue, ...]
    notes: tuple[str, ...]
    seconds: Mapping[str, float]


def analyse_in_time(
    predictor: InTimePredictor,
    path: Path,
    wishes: Wishes,
    limits: Limits,
    store: Path,
    on_stage: Callable[[str, str], None] = lambda *_: None,
) -> AnalysisInTime:
    """Predict every frame of a video, and tell what is seen and heard.

    Args:
        predictor: kept warm from one video to the next.
        path: of the video.
        wishes: what is said, as text or file; the rest is of models of whole clips.
        limits: on length and size.
        store: folder for features, so that the same video with other words is quick.
        on_stage: told each stage of `TITLES` as it begins.

    Raises:
        AppError: the video cannot be opened, is too large or too long, or nothing of it can be used.
        TranscriptError: the transcript cannot be read.
    """
    clock = StageClock(on_stage)
    clock.enter("inputs", "")
    length = checked_length(path, limits, "mmpsr predict")
    transcript = transcript_of(wishes)
    clips = clips_of([Recording(path.name, path, transcript=transcript)])
    found = predictor.predict(clips, store, on_stage=lambda stage: clock.enter(stage, ""))
    if not found.results:
        raise AppError(f"Nothing of {path.name} can be used: {without_folders(found.defects[0].reason, path)}")
    (result,) = found.results
    notes = () if transcript is None or transcript.note is None else (transcript.note,)
    return AnalysisInTime(
        path.name, length, _without_folder(result, path), () if transcript is None else transcript.cues,
        tuple(without_folders(note, path, wishes.transcript) for note in (*notes, *found.notes)), clock.leave(),
    )  # fmt: skip


def _without_folder(result: InTimeResult, path: Path) -> InTimeResult:
    absent, notes = (
        {name: without_folders(text, path) for name, text in texts.items()} for texts in (result.absent, result.notes)
    )
    return replace(result, path=path.name, absent=absent, notes=notes)


def _document(analysis: AnalysisInTime, trained: InTimeModel, name: str) -> dict[str, Any]:
    return document_in_time([analysis.result], (), trained, name=name, notes=analysis.notes)


def view_in_time(analysis: AnalysisInTime, trained: InTimeModel, name: str) -> str:
    """Write one video's results as HTML: nothing in it acts or is fetched.

    Args:
        analysis: of a video.
        trained: the model.
        name: of the model.
    """
    document = _document(analysis, trained, name)
    return render_in_time("page", document["recordings"][0], document, analysis=analysis)


def write_zip_in_time(analysis: AnalysisInTime, trained: InTimeModel, name: str, folder: Path) -> Path:
    """Write one file with the analysis as `mmpsr predict` writes it: JSON, CSV with a row for each frame, and the card.

    Args:
        analysis: of a video.
        trained: the model.
        name: of the model.
        folder: to write into.
    """
    document = _document(analysis, trained, name)
    (recording,), stem = document["recordings"], Path(analysis.name).stem
    frames = frame_table([recording]).assign(about=document["about"])
    files = {
        f"{stem}.json": json.dumps(document, indent=2, allow_nan=False) + "\n",
        f"{stem}.csv": frames.to_csv(index=False),
        f"{stem}.html": render_card_in_time(recording, document),
    }
    return zip_of(files, folder / f"{stem}-mmpsr.zip")


class InTimeService(BaseService[AnalysisInTime]):
    """Analyses of all sessions by a model in time.

    Args:
        predictor: the model.
        name: of its run.
        limits: on videos.
        root: folder of all uploads.
    """

    titles = TITLES

    def __init__(self, predictor: InTimePredictor, name: str, limits: Limits, root: Path) -> None:
        super().__init__(name, limits, root)
        self.predictor = predictor

    @property
    def about(self) -> str:
        """The line that stands on top of the page."""
        return self.predictor.trained.about(self.name)

    def warm_up(self, video: Path, store: Path) -> None:
        """Predict a video, so that encoders are loaded before the first one comes."""
        self.predictor.predict(clips_of([Recording(video.name, video, transcript=Transcript("Hello."))]), store)

    def close(self) -> None:
        """Let go of the encoders, when what is being encoded is done."""
        self.predictor.close()

    def _analysis_of(
        self, path: Path | None, wishes: Wishes, store: Path, on_stage: Callable[[str, str], None]
    ) -> AnalysisInTime:
        assert path is not None  # it cannot do without
        return analyse_in_time(self.predictor, path, wishes, self.limits, store, on_stage)

    def _view(self, analysis: AnalysisInTime) -> str:
        return view_in_time(analysis, self.predictor.trained, self.name)

    def _file(self, analysis: AnalysisInTime, folder: Path) -> Path:
        return write_zip_in_time(analysis, self.predictor.trained, self.name, folder)
