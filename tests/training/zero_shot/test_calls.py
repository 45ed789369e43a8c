"""What is asked about: labelled clips, and chunks of frames with the labels of their frames."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corpora.clips import ClipTable, CorpusError
from mmpsr.tasks import AMBIVALENCE
from tests.support.clip_tables import table_of
from tests.support.media_files import grey, write_media
from training.zero_shot.calls import calls_of_chunks, calls_of_clips

LABELS = ["ambivalence.absent", "ambivalence.present"]


@dataclass(frozen=True)
class Spans:
    """Labels in time as `corpora.timeline` gives them: present in [start, end) seconds, unknown from `unknown` on."""

    start: float
    end: float
    unknown: float = np.inf

    def labels(self, length: int, rate: Fraction, start: float = 0.0) -> NDArray[np.int8]:
        seconds = start + np.arange(length) / float(rate) + 1e-9
        found = ((seconds >= self.start) & (seconds < self.end)).astype(np.int8)
        return np.where(seconds >= self.unknown, np.int8(-1), found)


def clip(name: str, **values: Any) -> dict[str, Any]:
    return {"corpus": "x", "split": "test", "clip_id": name, "group": "g", "group_kind": "participant", **values}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media(tmp_path_factory.mktemp("media") / "a.mp4", [grey(number) for number in range(20)], fps=10)


def with_timelines(table: ClipTable, **spans: Spans) -> ClipTable:
    table.timelines = {("x", name): {"ambivalence": each} for name, each in spans.items()}  # type: ignore[attr-defined]
    return table


def test_clips_without_a_label_are_not_asked_about() -> None:
    labels = {"a": (1.0, 0.0), "b": (np.nan, np.nan), "c": (0.0, 1.0)}
    table = table_of(clip(name, **dict(zip(LABELS, each, strict=True))) for name, each in labels.items())
    calls = calls_of_clips(table, "ambivalence", AMBIVALENCE)
    assert calls["clip_id"].tolist() == ["a", "c"]
    assert calls["reason"].tolist() == ["", ""]
    table.clips = table.clips[table.clips["clip_id"].eq("b")]
    with pytest.raises(CorpusError, match="no clip of these splits has a label of 'ambivalence'"):
        calls_of_clips(table, "ambivalence", AMBIVALENCE)


def test_chunks_have_the_labels_of_their_frames(media: Path) -> None:
    """20 frames of 0.1 s, present from frame 5 to 11, unknown from frame 18 on; chunks of 8, 8 and 4 frames.

    Of chunks of 6, 6, 6 and 2 the last has no known label.
    """
    table = with_timelines(table_of([clip("a", media=str(media), text="Well.")]), a=Spans(0.5, 1.2, 1.8))
    calls = calls_of_chunks(table, "ambivalence", AMBIVALENCE, 8)
    assert calls[["first_frame", "end_frame"]].to_numpy().tolist() == [[0, 8], [8, 16], [16, 20]]
    assert calls[LABELS].to_numpy().tolist() == [[5, 3], [4, 4], [2, 0]]
    assert len(calls_of_chunks(table, "ambivalence", AMBIVALENCE, 6)) == 3
    assert calls["text"].tolist() == ["Well."] * 3  # the whole transcript in each
    assert calls[["start", "end"]].to_numpy() == pytest.approx(np.array([[0, 0.8], [0.8, 1.6], [1.6, 2.0]]))


def test_a_clip_within_a_file_has_the_labels_of_its_seconds(media: Path) -> None:
    """From frame 4 to 12 of the file, present from frame 5 to 11."""
    table = with_timelines(table_of([clip("a", media=str(media), start=0.4, end=1.3)]), a=Spans(0.5, 1.2))
    calls = calls_of_chunks(table, "ambivalence", AMBIVALENCE, 24)
    assert calls[["first_frame", "end_frame"]].to_numpy().tolist() == [[0, 9]]
    assert calls[LABELS].to_numpy().tolist() == [[2, 7]]


def test_a_clip_whose_frames_cannot_be_counted_stays_with_its_reason(media: Path) -> None:
    rows = [clip("a", media=str(media)), clip("b", media=str(media.with_name("none.mp4"))), clip("c", media=str(media))]
    table = with_timelines(table_of(rows), a=Spans(0, 9), b=Spans(0, 9))  # c has no labels in time
    calls = calls_of_chunks(table, "ambivalence", AMBIVALENCE, 16)
    assert calls["clip_id"].tolist() == ["a", "a", "b"]
    assert calls["reason"].tolist()[:2] == ["", ""]
    assert calls["reason"].iloc[2].endswith("none.mp4: file does not exist")
    assert calls[LABELS].to_numpy().tolist() == [[0, 16], [0, 4], [0, 0]]


def test_without_labels_in_time_nothing_can_be_asked(media: Path) -> None:
    with pytest.raises(CorpusError, match="has labels of 'ambivalence' in time, which answers"):
        calls_of_chunks(with_timelines(table_of([clip("a", media=str(media))])), "ambivalence", AMBIVALENCE, 8)
