"""One video for the page: limits, windows, decisions, explanation and key frames."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoders.face.landmarks import face_frames
from tests.support.analysed import analysed, small_predictor, without_faces
from tests.support.media_files import grey, tone, write_media
from tests.support.predicted_run import write_video
from training.app import analysis as app_analysis
from training.app.analysis import STAGES, AppError, Limits, Wishes, analyse, decide, key_frames
from training.predict.predictor import Predictor
from training.predict.transcripts import TranscriptError


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return small_predictor(tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def _no_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    without_faces(monkeypatch)


def test_the_whole_is_what_the_predictor_says_and_its_shares_add_up(predictor: Predictor, tmp_path: Path) -> None:
    found = analysed(predictor, tmp_path)
    direct = predictor.predict(tmp_path / "talk.mkv", "Well, no.")
    assert found.clips[0].tasks == direct[0].tasks
    assert len(found.clips) == 1
    assert (found.clips[0].id, found.clips[0].path) == ("talk.mkv", "talk.mkv")
    assert found.clips[0].absent == {}
    assert found.length == pytest.approx(2.0, abs=0.1)
    for task, explained in found.explanation.tasks.items():
        for name, value in found.clips[0].tasks[task].values.items():
            shares = sum(by_class[name] for by_class in explained.shapley.values())
            assert explained.baseline[name] + shares == pytest.approx(value, abs=1e-5)


def test_reasons_name_the_file_and_not_its_folder(predictor: Predictor, tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", [grey(9)] * 10, fps=5)
    found = analyse(predictor, path, Wishes(), Limits(), tmp_path / "v")
    assert found.clips[0].absent == {"audio": "a.mkv: no audio stream (found: video)", "text": "no transcript"}


def test_a_long_video_has_windows_of_its_own(predictor: Predictor, tmp_path: Path) -> None:
    stages: list[tuple[str, str]] = []
    path = write_video(tmp_path / "talk.mkv", seconds=6)
    subtitles = tmp_path / "words.srt"
    subtitles.write_text("00:00:04,200 --> 00:00:04,800\nlate\n", encoding="utf-8")
    wishes = Wishes(transcript=subtitles, window=2.0)
    found = analyse(predictor, path, wishes, Limits(), tmp_path / "v", lambda *stage: stages.append(stage))
    assert [(clip.start, clip.end) for clip in found.clips[1:]] == [(0, 2), (2, 4), (4, 6)]
    assert [clip.text for clip in found.clips] == ["late", None, None, "late"]
    assert [(cue.start, cue.text) for cue in found.cues] == [(4.2, "late")]
    assert found.predicted["emotion"].shape == (4, 7)
    windows = predictor.predict(path, window=2.0, transcripts=tmp_path)
    np.testing.assert_allclose(
        found.predicted["personality"][2], windows.predicted["personality"][1], atol=1e-6
    )  # the second window, which has no words either way
    assert [stage for stage, _ in stages] == [stage for stage in STAGES if stage != "waiting"]
    assert ("windows", "0 of 3") in stages
    assert set(found.seconds) == set(STAGES) - {"waiting"}


def test_a_rest_that_is_hardly_longer_than_nothing_has_no_window(predictor: Predictor, tmp_path: Path) -> None:
    assert len(analysed(predictor, tmp_path, seconds=2.0, wishes=Wishes(window=1.8)).clips) == 1
    for name, window, starts in (("b.mkv", 1.8, [0.0, 1.8]), ("c.mkv", 1.6, [0.0, 1.6, 2.4])):  # 0.4 and 0.8 s are left
        found = analysed(predictor, tmp_path, name, 4.0, Wishes(window=window))
        assert [clip.start for clip in found.clips[1:]] == pytest.approx(starts)


def test_what_is_not_taken_says_why(predictor: Predictor, tmp_path: Path) -> None:
    path = write_video(tmp_path / "talk.mkv", seconds=3)

    def refused(wishes: Wishes | None = None, limits: Limits | None = None, file: Path = path) -> str:
        with pytest.raises((AppError, TranscriptError)) as caught:
            analyse(predictor, file, wishes or Wishes(), limits or Limits(), tmp_path / "v")
        return str(caught.value)

    megabytes = path.stat().st_size / 2**20
    assert refused(limits=Limits(megabytes=megabytes / 2)).startswith(f"talk.mkv has {megabytes:.1f} MB; this page ta")
    assert refused(limits=Limits(seconds=2)).startswith("talk.mkv lasts 3 seconds; this page takes up to 2. Cut it,")
    (tmp_path / "no.mp4").write_bytes(b"no video")
    assert refused(file=tmp_path / "no.mp4").endswith(
        "cannot be opened as media (Invalid data found when processing input; 8 bytes). It may be damaged, unfinished "
        "or no video; try another file"
    )
    words = tmp_path / "words.srt"
    words.write_text("hello\n", encoding="utf-8")
    assert "There are two transcripts" in refused(Wishes("hello", words))
    assert "words.srt" in refused(Wishes(transcript=words))
    (tmp_path / "blank.txt").write_text(" \n", encoding="utf-8")
    assert refused(Wishes(transcript=tmp_path / "blank.txt")) == "blank.txt holds no words"


def test_a_video_of_which_nothing_can_be_used(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video")
    monkeypatch.setattr(app_analysis, "length_of", lambda _: 2.0)
    with pytest.raises(AppError, match=r"Nothing of no\.mp4 can be used: no\.mp4: cannot be opened as media"):
        analyse(predictor, tmp_path / "no.mp4", Wishes(), Limits(), tmp_path / "v")


def test_another_confidence_changes_decisions_alone(predictor: Predictor, tmp_path: Path) -> None:
    found = analysed(predictor, tmp_path, seconds=4, wishes=Wishes("Well, no.", window=2.0))
    assert not found.clips[0].tasks["ambivalence"].abstained
    sure = found.clips[0].tasks["ambivalence"].confidence
    assert sure is not None
    strict = decide(found, predictor, min(sure + 1e-6, 1.0))
    assert strict.clips[0].tasks["ambivalence"].abstained
    assert strict.clips[0].tasks["ambivalence"].values == found.clips[0].tasks["ambivalence"].values
    assert strict.wishes.confidence > sure
    again = decide(strict, predictor, 0.0)
    assert again.clips == found.clips


def test_key_frames_have_the_face_where_it_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_media(tmp_path / "a.mkv", [np.tile(grey(9), (1, 2, 1))] * 30, fps=5)
    frames, reason = key_frames(path)
    assert reason is None
    assert [frame.face for frame in frames] == [None] * 6
    assert [frame.seconds for frame in frames] == pytest.approx([0.4, 1.4, 2.4, 3.4, 4.4, 5.4])
    picture = Image.open(io.BytesIO(base64.b64decode(frames[0].picture.removeprefix("data:image/jpeg;base64,"))))
    assert picture.size == (64, 32)

    landmarks = np.zeros((478, 3))
    landmarks[0, :2], landmarks[1:, :2] = (16, 8), (48, 40)  # the chin lies below the picture
    seen = iter([None, landmarks, None, landmarks, landmarks, landmarks])
    monkeypatch.setattr(app_analysis, "largest_face", lambda _: next(seen))
    faces = [frame.face for frame in key_frames(path)[0]]
    box = (25.0, 25.0, 50.0, 75.0)  # 16/64, 8/32, (48 - 16)/64, (32 - 8)/32
    assert faces == [None, box, None, box, box, box]


def test_a_longer_video_has_no_more_key_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_media(tmp_path / "a.mkv", [grey(9)] * 40, fps=1)  # encoders look at 16 of it in place of 6
    monkeypatch.setattr(app_analysis, "face_frames", face_frames)
    monkeypatch.setattr(app_analysis, "largest_face", lambda _: np.eye(478, 3) * 30)
    assert [frame.face is not None for frame in key_frames(path)[0]] == [True] * 6


def test_sound_alone_has_no_key_frames(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", None, tone(200, 1.0))
    frames, reason = key_frames(path)
    assert frames == ()
    assert reason is not None
    assert reason.startswith("a.mkv: no video stream")
