"""Recordings over time from the file on, by encoders that stay loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from encoders.config import TranscriberConfig
from tests.support.fake_writers import FakeWriter
from tests.support.in_time_run import MADE, WIDTHS, without_narrative, write_run_in_time
from tests.support.media_files import write_media
from tests.support.predicted_run import write_video
from training.in_time.recordings import InTimePredictor, InTimeResult, frame_table
from training.predict import clips as predict_clips
from training.predict.inputs import Recording
from training.predict.results import sentences_of
from training.predict.transcripts import Cue, Transcript
from training.predict.windows import clips_of
from training.runs.directory import RunError

BLACK = [np.zeros((64, 64, 3), np.uint8)] * 10


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> InTimePredictor:
    return InTimePredictor.from_run(write_run_in_time(tmp_path_factory.mktemp("runs") / "in_time"))


def spans(result: InTimeResult) -> list[tuple[float, float]]:
    return [(segment.start, segment.end) for segment in result.segments]


def test_from_the_file_to_its_segments(
    predictor: InTimePredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_narrative(monkeypatch, "At 2.5 s the brows rise. At 0.5-1.0 s the gaze drops.")
    video = write_video(tmp_path / "talk.mkv", seconds=4)
    said = Transcript("Well", (Cue(1.0, 2.0, "Well"),))
    stages: list[str] = []
    found = predictor.predict(clips_of([Recording("talk", video, transcript=said)]), tmp_path, on_stage=stages.append)
    (result,) = found.results
    # 5 frames a second; the sound is louder than 0.092 from second 2 on
    assert (result.id, result.rate, len(result.probabilities), result.decided) == ("talk", 5.0, 20, "present")
    assert spans(result) == [(2.0, 4.0)]
    assert [cue.text for cue in result.segments[0].cues] == ["At 2.5 s the brows rise."]
    assert (result.absent, result.text, result.text_source) == ({}, "Well", "given")
    assert list(dict.fromkeys(stages)) == ["texts", "features", "prediction", "cues"]
    assert found.defects == []


def test_a_part_of_a_file_is_in_seconds_of_the_file(
    predictor: InTimePredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_narrative(monkeypatch, "At 1.5 s the brows rise. The voice is quiet.")
    video = write_video(tmp_path / "talk.mkv", seconds=4)
    (result,) = predictor.predict(clips_of([Recording("talk", video, start=1.0)]), tmp_path).results
    assert (result.start, len(result.probabilities)) == (1.0, 15)
    assert spans(result) == [(2.0, 4.0)]
    # 1.5 s after the part's beginning
    assert [cue.text for cue in result.segments[0].cues] == ["At 2.5 s the brows rise."]
    assert [sentence.text for sentence in sentences_of("At 0.2 and 1.2-1.8 s the brows rise.", 60.5)] == [
        "At 60.7 and 61.7-62.3 s the brows rise."
    ]


def test_encoders_stay_loaded(predictor: InTimePredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_narrative(monkeypatch)
    for name in ("a.mkv", "b.mkv"):
        predictor.predict(clips_of([Recording(name, write_video(tmp_path / name))]), tmp_path)
    assert MADE == ["grey-in-time"]  # once, in this process
    assert predictor._warm is not None
    predictor.close()
    assert predictor._warm is None


def test_what_is_not_there_or_has_nothing_at_any_frame_is_told(
    predictor: InTimePredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_narrative(monkeypatch)
    silent = write_video(tmp_path / "silent.mkv", loud=False)
    black = write_media(tmp_path / "black.mkv", BLACK, fps=5)
    given = [Recording("silent", silent, no_transcript="two files of words"), Recording("black", black)]
    found = predictor.predict(clips_of(given), tmp_path)
    (result,) = found.results
    assert list(result.absent) == ["audio", "text"]
    assert "silent.mkv: no audio stream" in result.absent["audio"]
    assert result.absent["text"] == "two files of words"
    (defect,) = found.defects
    assert defect.id == "black"
    assert defect.reason.startswith("nothing at any frame; ")
    table = frame_table(found.results, [defect._asdict()])
    assert table["defect"].notna().tolist() == [False] * 10 + [True]
    assert table["id"].tolist() == ["silent"] * 10 + ["black"]
    assert pd.isna(table["probability"].iloc[-1])


def test_other_encoders_than_the_run_had_are_refused(tmp_path: Path) -> None:
    run = write_run_in_time(tmp_path / "run")
    keys = json.loads((run / "features.json").read_text())
    assert list(keys) == list(WIDTHS)
    (run / "features.json").write_text(json.dumps({**keys, "audio": "loudness-in-time-0123"}))
    with pytest.raises(RunError, match=r"audio: the model was trained on features of loudness-in-time-0123, the enc"):
        InTimePredictor.from_run(run)


def test_damaged_weights_are_one_sentence(tmp_path: Path) -> None:
    run = write_run_in_time(tmp_path / "run")
    (run / "best.safetensors").write_bytes(b"cut off")
    with pytest.raises(RunError, match=r"best\.safetensors cannot be read"):
        InTimePredictor.from_run(run)


def test_texts_are_written_where_the_run_had_a_transcriber(
    predictor: InTimePredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_narrative(monkeypatch)
    features = predictor.trained.features.model_copy(update={"transcriber": TranscriberConfig(model="fake/writer")})
    made: list[FakeWriter] = []

    def make(*_: object) -> list[FakeWriter]:
        made.append(FakeWriter(tmp_path / "log"))
        return made[-1:]

    monkeypatch.setattr(predict_clips, "text_writers", make)
    with InTimePredictor(replace(predictor.trained, features=features)) as writing:
        for name in ("a.mkv", "b.mkv"):
            clips = clips_of([Recording(name, write_video(tmp_path / name))])
            (result,) = writing.predict(clips, tmp_path / "store").results
            assert (result.text, result.text_source) == (f"words of {clips['clip_id'].iloc[0]}", "written")
            assert result.absent == {}
        said = Transcript("Well.")
        (result,) = writing.predict(clips_of([Recording("a", tmp_path / "a.mkv", transcript=said)]), tmp_path).results
        assert (result.text, result.text_source) == ("Well.", "given")
    assert len(made) == 1  # and stays
