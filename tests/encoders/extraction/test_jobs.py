"""What a job reads and computes of a clip: everything once, whatever the number of encoders that want it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import av
import pandas as pd
import pytest

from encoders.config import FeaturesConfig
from encoders.extraction import jobs
from encoders.extraction.extract import _Work
from encoders.face import landmarks
from encoders.media import audio, frames
from encoders.models import egemaps
from encoders.store.claims import Claims
from tests.support.face_scenes import scene
from tests.support.media_files import tone, write_media


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a function is called, by name; of frames, how many come out of the decoder."""
    found: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, **named: (found.update([name]), function(*given, **named))[1])

    class Reader(frames._FrameReader):
        def _next_frame(self) -> Any:
            frame = super()._next_frame()
            found.update(["frames"] if frame is not None else [])
            return frame

    monkeypatch.setattr(frames, "_FrameReader", Reader)
    count(av, "open")
    count(audio, "_read_track")
    count(egemaps, "_measure")
    count(landmarks, "_meshes")
    count(landmarks._detector("short"), "process")
    return found


def test_a_clip_is_read_and_looked_at_once_for_all_its_encoders(tmp_path: Path, counts: Counter[str]) -> None:
    pictures = [scene((180 + 5 * number, 30, 300)) for number in range(20)]  # 5 a second
    path = write_media(tmp_path / "a.mp4", pictures, tone(200.0, 4.0), fps=5, audio_codec="aac")
    counts.clear()  # the file was opened to write it
    clips = pd.DataFrame([{"corpus": "own", "clip_id": "a", "media": str(path), "text": "um, well"}])
    work = _Work(clips, FeaturesConfig(store=str(tmp_path / "store")))
    assert work.refresh()
    with Claims(tmp_path / "store") as claims:
        claimed = work.claim(claims, set())
    (texts,), (job,) = work.texts_of(claimed), work.pieces_of(claimed)
    assert (list(texts.wanted), list(job.wanted)) == (["text"], ["video", "audio", "behavior"])
    outcomes = jobs.encode_job(job).outcomes
    assert [len(outcomes[name].made) for name in ("video", "audio")] == [1, 1]
    assert len(outcomes["behavior"].prepared) == 1  # it is embedded in the launched process
    assert counts["frames"] <= len(pictures)
    # 12 frames are looked at; of three, two show at first sight that they are the right way up
    assert {name: number for name, number in counts.items() if name != "frames"} == {
        "open": 4, "_read_track": 1, "_measure": 1, "_meshes": 12, "process": 2,
    }  # fmt: skip
