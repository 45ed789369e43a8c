"""Recordings as clip tables: whole, in windows, with the words of each."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from encoders.errors import EncodingError
from tests.support.predicted_run import write_video
from training.predict.inputs import InputError, Recording
from training.predict.transcripts import Cue, Transcript
from training.predict.windows import clips_of, cut, length_of


@pytest.mark.parametrize(
    ("span", "length", "hop", "windows"),
    [
        ((0, 30), 10, 10, [(0, 10), (10, 20), (20, 30)]),
        ((0, 25), 10, 5, [(0, 10), (5, 15), (10, 20), (15, 25)]),
        ((0, 26), 10, 10, [(0, 10), (10, 20), (16, 26)]),  # the last ends with the recording
        ((3, 15), 10, 10, [(3, 13), (5, 15)]),
        ((0, 10), 10, 10, [(0, 10)]),
        ((0, 8.008), 4, 4, [(0, 4), (4, 8.008)]),  # a few milliseconds are no window of their own
        ((0, 8.4), 4, 2, [(0, 4), (2, 6), (4, 8.4)]),
        ((0, 8.5), 4, 4, [(0, 4), (4, 8), (4.5, 8.5)]),
        ((0, 4.3), 4, 4, [(0, 4.3)]),
        ((0, 4), 10, 10, [(0, 4)]),
    ],
)
def test_windows(span: tuple[float, float], length: float, hop: float, windows: list[tuple[float, float]]) -> None:
    assert cut(*span, length, hop) == windows


def test_windows_of_tenths_are_not_lost_to_rounding() -> None:
    windows = cut(0.0, 0.3 * 7, 0.3, 0.3)  # 2.0999999999999996
    assert len(windows) == 7
    assert windows[-1] == pytest.approx((1.8, 2.1))


def test_a_whole_recording_keeps_an_open_span(tmp_path: Path) -> None:
    clips = clips_of([Recording("a", tmp_path / "missing.mp4", transcript=Transcript("hello"))])
    assert clips[["start", "end"]].isna().all(axis=None)
    assert (clips["recording"][0], clips["text"][0], clips["group"][0]) == ("a", "hello", "a")


def test_windows_cover_the_longest_stream_and_hold_their_words(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", seconds=5)
    assert length_of(path) == pytest.approx(5.0, abs=0.05)
    said = Transcript("a b c", (Cue(0.0, 1.0, "a"), Cue(2.4, 3.4, "b"), Cue(4.5, 5.0, "c")))
    clips = clips_of([Recording("a", path, transcript=said)], 2.0)
    assert clips["start"].tolist() == pytest.approx([0.0, 2.0, 3.0], abs=0.05)
    assert clips["end"].tolist() == pytest.approx([2.0, 4.0, 5.0], abs=0.05)
    assert clips["text"].tolist() == ["a", "b", "c"]
    assert clips["clip_id"].is_unique
    assert [json.loads(words) for words in clips["words"]] == [
        [["a", 0.0, 1.0]],
        [["b", pytest.approx(0.4), pytest.approx(1.4)]],
        [["c", pytest.approx(1.5, abs=0.05), pytest.approx(2.0, abs=0.05)]],
    ]
    one = clips_of([Recording("a", path, transcript=said)], 9.0)
    assert one["text"].tolist() == ["a b c"]
    assert one["start"].isna().all()
    part = clips_of([Recording("a", path, 2.0, 4.0, said)], 1.5, 1.0)
    assert list(zip(part["start"], part["end"], strict=True)) == [(2.0, 3.5), (2.5, 4.0)]
    late = clips_of([Recording("a", path, 1.0, 2.0, said)])
    assert late["text"].isna().all()
    assert late["no_transcript"][0] == "the transcript has no words in this span"


def test_a_text_without_seconds_is_not_given_to_every_window(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", seconds=3)
    clips = clips_of([Recording("a", path, transcript=Transcript("hello"), description="nods")], 1.0)
    assert len(clips) == 3
    assert clips["text"].isna().all()
    assert clips["description"].isna().all()
    assert clips["no_transcript"].str.contains("has no seconds").all()


def test_a_file_that_cannot_be_opened_is_one_row(tmp_path: Path) -> None:
    assert len(clips_of([Recording("a", tmp_path / "missing.mp4")], 1.0)) == 1
    with pytest.raises(EncodingError, match="does not exist"):
        length_of(tmp_path / "missing.mp4")


def test_a_replaced_file_is_another_clip(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", seconds=1)
    first = clips_of([Recording("a", path)])["clip_id"][0]
    assert clips_of([Recording("a", path)])["clip_id"][0] == first
    os.utime(path, (1, 1))
    assert clips_of([Recording("a", path)])["clip_id"][0] != first


@pytest.mark.parametrize(
    ("length", "hop"), [(0.0, None), (-1.0, None), (2.0, 3.0), (2.0, 0.0), (2.0, -1.0), (None, 1.0)]
)
def test_windows_that_cannot_be(length: float | None, hop: float | None) -> None:
    with pytest.raises(InputError, match="windows"):
        clips_of([Recording("a", Path("a.mp4"))], length, hop)


def test_no_recording_is_no_clip() -> None:
    clips = clips_of([])
    assert len(clips) == 0
    assert {"recording", "no_transcript", "clip_id", "text"} <= set(clips)
