"""A predictor of light encoders and analyses made by it, without a search for faces; for tests of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.predicted_run import write_run, write_video
from training.app import analysis as app_analysis
from training.app.analysis import Analysis, Limits, Wishes, analyse
from training.predict.measures import failed_row
from training.predict.predictor import Predictor


def small_predictor(folder: Path) -> Predictor:
    return Predictor.from_run(write_run(folder / "run"))


def without_faces(patch: pytest.MonkeyPatch) -> None:
    """Nobody is looked for, and nothing is measured."""
    patch.setattr(app_analysis, "face_frames", lambda clip, num_frames, follows_length: clip.frames(num_frames))
    patch.setattr(app_analysis, "largest_face", lambda frame: None)
    patch.setattr(app_analysis, "measure_row", lambda row, **_: (failed_row(row["recording"], None, "not asked"), ()))


def analysed(
    predictor: Predictor, folder: Path, name: str = "talk.mkv", seconds: float = 2.0, wishes: Wishes | None = None
) -> Analysis:
    folder.mkdir(parents=True, exist_ok=True)
    path = write_video(folder / name, seconds=seconds)
    return analyse(predictor, path, wishes or Wishes(text="Well, no."), Limits(), folder / "vectors")
