from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from encoders.base import Embeddings, Encoder, read_each
from encoders.config import FeaturesConfig
from encoders.errors import EncodingError
from encoders.extraction.extract import extract
from encoders.extraction.read import encoder_specs
from encoders.extraction.workers import WarmEncoders
from encoders.media.clip import ClipMedia
from encoders.store.progress import ExtractionSummary
from encoders.store.vector_store import FeatureStore
from encoders.visibility import MIN_FACE_SHARE, FaceFigures, FaceSummary, summarize_faces


def test_figures_are_said_in_words() -> None:
    assert FaceFigures(12, 12, 1, 84.4, 170.0, False).sentence == (
        "a face in 12 of 12 frames looked at; the smallest 84 px between the eyes"
    )
    assert FaceFigures(30, 6, 3, None, 55.6, True).sentence == (
        "a face in 6 of 30 frames looked at, up to 3 in one; the smallest 56 px wide or high; upside down, so that the "
        "frames were turned"
    )
    assert FaceFigures(12, 0, 0, None, None, False).sentence == "a face in 0 of 12 frames looked at"


def test_figures_are_read_as_they_were_written_and_of_nothing_else() -> None:
    figures = FaceFigures(12, 3, 1, 20.5, 41.0, False)
    assert FaceFigures.of(figures.to_dict()) == figures
    assert FaceFigures.of({**figures.to_dict(), "clip_id": "a"}) == figures
    assert FaceFigures.of({"num_frames": 12}) is None
    assert FaceFigures.of({}) is None


def test_clips_are_summed_up_by_medians() -> None:
    # shares 2/12 (below a quarter), 3/12 (not below), 1, 1: the median is (1/4 + 1) / 2
    clips = [
        FaceFigures(12, 2, 1, 10.0, 20.0, False),
        FaceFigures(12, 3, 2, 30.0, 60.0, True),
        FaceFigures(12, 12, 1, 50.0, 90.0, False),
        FaceFigures(8, 8, 4, None, 100.0, False),
    ]
    assert MIN_FACE_SHARE == 0.25
    assert summarize_faces(clips) == FaceSummary(4, 0.625, 1, 2, 1, 30.0, 75.0)
    assert summarize_faces([]) is None
    assert summarize_faces([FaceFigures(0, 0, 0, None, None, False)]) == FaceSummary(1, 0.0, 1, 0, 0, None, None)


def test_an_extraction_tells_of_faces_by_corpus_and_modality() -> None:
    rows = [
        {"corpus": "a", "clip_id": str(number), "modality": "video", "encoder": "face-mesh", **figures.to_dict()}
        for number, figures in enumerate(
            [FaceFigures(4, 4, 1, 40.0, 80.0, False), FaceFigures(4, 0, 0, None, None, False)]
        )
    ]
    summary = ExtractionSummary(figures=[*rows, {"corpus": "a", "clip_id": "0", "modality": "audio", "peak": 1.0}])
    assert list(summary.faces) == [("a", "video")]
    assert summary.faces["a", "video"].sentence == (
        "a face in 50 % of the frames (median of 2 clips), the smallest 40 px between the eyes; 1 in too few frames"
    )


class Looking(Encoder):
    """As many faces seen as the clip's name says, of four frames; without any the clip has no vector."""

    id = "looking"

    @property
    def width(self) -> int:
        return 1

    def encode(self, clips: Sequence[ClipMedia]) -> list[Embeddings]:
        def look(clip: ClipMedia) -> np.ndarray:
            seen = int(clip.clip_id)
            clip.measured(FaceFigures(4, seen, 1, None, None, False).to_dict())
            if not seen:
                raise EncodingError("no face found")
            return np.ones((2, 1), dtype=np.float32)

        return list(read_each(clips, look))


def test_figures_go_from_the_encoder_into_the_store_and_the_summary(tmp_path: Path) -> None:
    config = FeaturesConfig(
        encoders={"video": "tests.encoders.test_visibility:Looking"}, store=str(tmp_path), chunk_size=2, num_workers=1
    )
    clips = pd.DataFrame({"corpus": "mine", "clip_id": ["0", "3", "4"], "media": "none.mp4"}, dtype="string")
    with WarmEncoders(config) as warm:
        summary = extract(clips, config, show_progress=False, warm=warm)
        again = extract(clips, config, show_progress=False, warm=warm)
    assert [(row["clip_id"], row["num_with_face"]) for row in summary.figures] == [("0", 0), ("3", 3), ("4", 4)]
    assert again.figures == summary.figures  # nothing is made again, and they are told all the same
    assert summary.ledger["clip_id"].tolist() == ["0"]
    # shares 0, 3/4 and 1
    assert summary.faces["mine", "video"] == FaceSummary(3, 0.75, 1, 0, 0, None, None)
    stored = FeatureStore(tmp_path).figures("mine", encoder_specs(config)["video"])
    assert sorted(key[0] for key in stored) == ["0", "3", "4"]
