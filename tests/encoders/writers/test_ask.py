"""Asking: chunks of frames as they are in the file, answers that stay in the store, and going on after a stop."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from encoders.catalogue.checkpoint import Checkpoint
from encoders.config import FeaturesConfig
from encoders.errors import EncodingError, Failure, MissingModality
from encoders.media.clip import ClipMedia
from encoders.store.text_store import Written
from encoders.writers.answerer import Answerer, Question
from encoders.writers.ask import FrameGrid, ask, chunk_clips, frame_grid
from tests.support.media_files import grey, number_of, write_media


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty frames that tell their number, 24 a second, with B frames."""
    return write_media(tmp_path_factory.mktemp("media") / "a.mp4", [grey(number) for number in range(50)], fps=24)


class Parrot(Answerer):
    """Answers with the numbers of the frames that it is shown; notes what it was asked."""

    def __init__(self, asked: list[str], stop_at: int = 10_000, batch_size: int = 2) -> None:
        question = Question("Says {transcript}.\n\nWhich?", "Which?")
        super().__init__(question, Checkpoint("zero_shot", "fake/parrot", "main"), batch_size)
        self.asked, self.stop_at = asked, stop_at

    def load(self) -> None:
        self.asked.append("loaded")

    def write(self, prepared: Sequence[Any]) -> list[Written | Failure]:
        if len(self.asked) >= self.stop_at:
            raise KeyboardInterrupt
        texts = [" ".join(str(number_of(frame)) for frame in each.frames) for each in prepared]
        self.asked += texts
        return [Written(f"{each.prompt.split()[0]} {text}") for each, text in zip(prepared, texts, strict=True)]


def chunks(media: Path, window: int, **columns: Any) -> pd.DataFrame:
    clip = {"corpus": "x", "clip_id": "a", "media": str(media), "text": "well", "description": None, **columns}
    return pd.DataFrame(chunk_clips(clip, frame_grid(ClipMedia.from_row(clip)), window))


def store(folder: Path, **changes: Any) -> FeaturesConfig:
    return FeaturesConfig.model_validate({"store": str(folder), "num_workers": 1, **changes})


def test_frames_are_counted_without_decoding(media: Path, tmp_path: Path) -> None:
    assert frame_grid(ClipMedia(media=media)) == FrameGrid(50, Fraction(24), 0.0)
    assert frame_grid(ClipMedia(media=media, start=0.5, end=1.0)) == FrameGrid(12, Fraction(24), 0.5)  # 12 to 23
    missing = tmp_path / "none.mp4"
    assert frame_grid(ClipMedia(media=missing, fallback_media=media)).num_frames == 50
    with pytest.raises(EncodingError, match="file does not exist"):
        frame_grid(ClipMedia(media=missing))
    with pytest.raises(MissingModality, match="no media file"):
        frame_grid(ClipMedia())


@pytest.mark.parametrize(
    ("window", "shown"),
    [
        (8, {0: range(8), 5: range(40, 48), 6: [48, 49, 49, 49, 49, 49, 49, 49]}),  # the last is repeated up to 8
        (24, {0: range(1, 24, 3), 1: range(25, 48, 3), 2: [48, 49, 49, 49, 49, 49, 49, 49]}),
        (48, {0: range(3, 48, 6)}),
        (80, {0: [3, 9, 15, 21, 28, 34, 40, 46]}),  # 50 frames in eighths: 3.125, 9.375, ...
    ],
)
def test_chunks_show_their_frames(media: Path, window: int, shown: dict[int, Sequence[int]], tmp_path: Path) -> None:
    calls = chunks(media, window)
    assert len(calls) == -(-50 // window)
    answers = ask(calls, Parrot([]), store(tmp_path), show_progress=False)
    for chunk, numbers in shown.items():
        assert answers.texts[chunk] == " ".join(["Says", *map(str, numbers)])  # each with the transcript


def test_chunks_of_a_clip_within_a_file_begin_where_it_begins(media: Path, tmp_path: Path) -> None:
    calls = chunks(media, 8, start=0.5, end=1.0)
    answers = ask(calls, Parrot([]), store(tmp_path), show_progress=False)
    assert answers.texts == ["Says 12 13 14 15 16 17 18 19", "Says 20 21 22 23 23 23 23 23"]


def test_it_continues_where_it_was_stopped(media: Path, tmp_path: Path) -> None:
    calls, asked = chunks(media, 8), list[str]()
    with pytest.raises(KeyboardInterrupt):
        ask(calls, Parrot(asked, stop_at=4), store(tmp_path), show_progress=False)
    assert len(asked) == 5  # loaded, and two batches of two
    answers = ask(calls, Parrot(asked), store(tmp_path), show_progress=False)
    assert [each for each in asked if each == "loaded"] == ["loaded"] * 2
    assert len(asked) == len(set(asked)) + 1 == 2 + 7  # nothing was asked twice
    assert None not in answers.texts
    assert answers.summary.counts["x", "answer"].done == 3
    again = ask(calls, Parrot(asked), store(tmp_path), show_progress=False)
    assert again.texts == answers.texts
    assert len(asked) == 9  # not even loaded
    other = ask(calls.assign(text="hm"), Parrot(asked), store(tmp_path), show_progress=False)  # another prompt
    assert other.texts == answers.texts
    assert len(asked) == 9 + 8


def test_failures_have_a_reason_and_are_tried_again_on_request(media: Path, tmp_path: Path) -> None:
    absent, late = tmp_path / "late.mp4", {"corpus": "x", "text": pd.NA, "description": None}
    calls = pd.DataFrame(
        [{**late, "clip_id": "b", "media": str(absent)}, {**late, "clip_id": "a", "media": str(media)},
         {**late, "clip_id": "c", "media": pd.NA}]
    )  # fmt: skip
    asked: list[str] = []
    answers = ask(calls, Parrot(asked), store(tmp_path / "store"), show_progress=False)
    assert answers.texts == [None, "Which? 3 9 15 21 28 34 40 46", None]
    assert answers.reasons == [f"{absent}: file does not exist", "", "no media file"]
    assert ask(calls, Parrot(asked), store(tmp_path / "store"), show_progress=False).reasons == answers.reasons
    assert len(asked) == 2
    retried = ask(calls, Parrot(asked), store(tmp_path / "store", retry_failed=True), show_progress=False)
    assert retried.reasons == answers.reasons
    assert asked[2:] == ["loaded"]
