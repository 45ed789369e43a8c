"""An analysis as one file to keep: JSON, CSV and cards, as `mmpsr predict` writes them. It holds no pictures."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from training.app.analysis import Analysis
from training.predict.document import document_of
from training.predict.results import frame_of
from training.report.cards import render_card
from training.runs.trained import TrainedModel

__all__ = ["document", "write_zip"]


def document(analysis: Analysis, trained: TrainedModel, name: str) -> dict[str, Any]:
    """The analysis as JSON values: the document of `mmpsr predict`, the whole before its windows, and the explanation.

    Args:
        analysis: of a video.
        trained: the model.
        name: of the model.
    """
    rows: list[dict[str, Any]] = [{"clip": clip.to_dict()} for clip in analysis.clips]
    rows += [{"defect": each._asdict()} for each in analysis.defects]
    window = analysis.wishes.window if len(analysis.clips) > 1 else None
    found = document_of(
        rows, (), trained, name=name, confidence=analysis.wishes.confidence, window=window, hop=window,
        notes=analysis.notes,
    )  # fmt: skip
    return {**found, "explanation": analysis.explanation.to_dict()}


def write_zip(analysis: Analysis, trained: TrainedModel, name: str, folder: Path) -> Path:
    """One file with the analysis as JSON and CSV, its card and, of windows, a card with the timeline; no pictures.

    Args:
        analysis: of a video.
        trained: the model.
        name: of the model.
        folder: to write into.
    """
    found = document(analysis, trained, name)
    recording, stem = found["recordings"][0], Path(analysis.name).stem
    clips = [clip.to_dict() for clip in analysis.clips]
    files = {
        f"{stem}.json": json.dumps(found, indent=2, allow_nan=False) + "\n",
        f"{stem}.csv": frame_of(clips, [each._asdict() for each in analysis.defects]).to_csv(index=False),
        f"{stem}.html": render_card({**recording, "clips": recording["clips"][:1], "defects": []}, found),
    }
    if len(clips) > 1:
        files[f"{stem}-timeline.html"] = render_card({**recording, "clips": recording["clips"][1:]}, found)
    path = folder / f"{stem}-mmpsr.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, content in files.items():
            archive.writestr(each, content)
    return path
