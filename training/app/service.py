"""Analyses of clips as wholes by session, whoever shows them: views of them, and one file of each to take along."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.app.analysis import Analysis, Limits, Wishes, analyse, analyse_text, decide
from training.app.base import BaseService, Shown, zip_of
from training.app.view import compare_view, result_view
from training.predict.document import document_of
from training.predict.predictor import Predictor
from training.predict.results import frame_of
from training.report.cards import render_card
from training.runs.trained import TrainedModel

__all__ = ["Service", "write_zip"]


class Service(BaseService[Analysis]):
    """Analyses of all sessions by a model of whole clips.

    Args:
        predictor: the model.
        name: of its run or bundle.
        limits: on videos.
        root: folder of all uploads.
    """

    def __init__(self, predictor: Predictor, name: str, limits: Limits, root: Path) -> None:
        super().__init__(name, limits, root)
        self.predictor = predictor
        if self.is_of_texts:
            self.nothing = "Type what is said first, or give a file or a video with its words."

    @property
    def about(self) -> str:
        """The line that stands on top of the page."""
        return self.predictor.trained.about(self.name)

    def warm_up(self, video: Path, store: Path) -> None:
        """Predict a video, so that encoders are loaded before the first one comes."""
        self.predictor.predict(video, "Hello.", store=store)

    def close(self) -> None:
        """Let go of the encoders, when what is being encoded is done."""
        self.predictor.close()

    @property
    def is_of_texts(self) -> bool:
        """Whether all tasks are predicted by class texts, from words alone."""
        return self.predictor.trained.is_untrained

    def _can_do_without(self, wishes: Wishes) -> bool:
        return self.is_of_texts and (bool(wishes.text.strip()) or wishes.transcript is not None)

    def _analysis_of(
        self, path: Path | None, wishes: Wishes, store: Path, on_stage: Callable[[str, str], None]
    ) -> Analysis:
        if path is None:
            return analyse_text(self.predictor, wishes, store, on_stage)
        return analyse(self.predictor, path, wishes, self.limits, store, on_stage)

    def _view(self, analysis: Analysis) -> str:
        return result_view(analysis)

    def _file(self, analysis: Analysis, folder: Path) -> Path:
        return write_zip(analysis, self.predictor.trained, self.name, folder)

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
    """Write one file with the analysis as `mmpsr predict` writes it, JSON, CSV and cards, and measures; no pictures.

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
        rows, (), trained, name=name, confidence=analysis.wishes.confidence, coverage=analysis.wishes.coverage,
        window=window, hop=window, notes=analysis.notes,
    )  # fmt: skip
    document["explanation"] = analysis.explanation.to_dict()
    recording, stem = document["recordings"][0], Path(analysis.name).stem
    files = {
        f"{stem}.json": json.dumps(document, indent=2, allow_nan=False) + "\n",
        f"{stem}.csv": frame_of(clips, defects).assign(about=document["about"]).to_csv(index=False),
        f"{stem}.html": render_card(
            {**recording, "clips": recording["clips"][:1], "defects": []}, document, analysis.measures
        ),
    }
    if analysis.measures is not None:
        files[f"{stem}-measures.csv"] = analysis.measures.to_csv(index=False, float_format="%.7g")
    if len(clips) > 1:
        files[f"{stem}-timeline.html"] = render_card({**recording, "clips": recording["clips"][1:]}, document)
    return zip_of(files, folder / f"{stem}-mmpsr.zip")
