"""Behind the page: progress, plain errors, sessions that do not mix, comparison."""

from __future__ import annotations

import threading
import wave
import zipfile
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from mmpsr.calibration.calibration import Calibration
from tests.support.analysed import small_predictor, without_faces
from tests.support.predicted_run import write_video
from tests.support.worded import ENCODER, write_mood
from training.app import service as app_service
from training.app.analysis import Limits, Wishes
from training.app.base import Shown
from training.app.page import build_page
from training.app.service import Service
from training.predict.predictor import Predictor
from training.runs.origin import CorpusOrigin, Origin


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return small_predictor(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def service(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    without_faces(monkeypatch)
    (tmp_path / "root").mkdir()
    return Service(predictor, "small", Limits(seconds=5), tmp_path / "root")


def upload(service: Service, name: str, seconds: float = 2.0, first: int = 5) -> str:
    folder = service.sessions.root / name
    folder.mkdir()
    return str(write_video(folder / name, seconds=seconds, first=first))


def last(service: Service, key: str, video: str | None, wishes: Wishes | None = None) -> Shown:
    return list(service.analyse(key, video, wishes or Wishes()))[-1]


def test_from_upload_to_download_and_nothing_left(service: Service) -> None:
    shown = list(service.analyse("me", upload(service, "a.mkv"), Wishes("Well, no.")))
    assert [each.result is not None for each in shown] == [False] * (len(shown) - 1) + [True]
    assert "The file" in shown[0].status
    assert "wheel" in shown[-2].status
    assert "wheel" not in shown[-1].status
    assert shown[-1].labels == ("1. a.mkv",)
    assert shown[-1].download is not None
    assert "a.json" in zipfile.ZipFile(shown[-1].download).namelist()
    service.sessions.end("me")
    assert list(service.sessions.root.iterdir()) == []


def test_several_recordings_follow_each_other_each_can_be_shown_and_what_is_lost_is_said(service: Service) -> None:
    broken = Path(upload(service, "b.mkv"))
    broken.write_bytes(b"this is no video")
    recordings = [upload(service, "a.mkv"), str(broken), upload(service, "c.mkv")]
    views = list(service.analyse_all("me", recordings, Wishes()))
    assert [name in "".join(view.status for view in views) for name in ("1 of 3: a.mkv", "3 of 3: c.mkv")] == [True] * 2
    final = views[-1]
    assert (final.labels, final.shown) == (("1. a.mkv", "2. c.mkv"), "2. c.mkv")
    assert "2 of 3 analysed" in final.status
    assert "b.mkv" in final.status
    assert "damaged" in final.status
    chosen = service.show("me", "1. a.mkv")
    assert chosen is not None
    assert chosen.download is not None
    assert "a.json" in zipfile.ZipFile(chosen.download).namelist()
    decided = service.decide("me", 0.9)  # stays with the chosen one
    assert decided is not None
    assert decided.shown == "1. a.mkv"
    assert service.show("me", "9. x.mkv") is None
    for given, wishes, reason in ((recordings, Wishes("No."), "words of one"), (recordings * 5, Wishes(), "up to 12")):
        (refused,) = service.analyse_all("me", given, wishes)
        assert reason in refused.status


def test_sound_alone_is_analysed(service: Service) -> None:
    path = Path(upload(service, "v.mkv")).with_name("voice.wav")
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        sound.writeframes(np.random.default_rng(0).integers(-9999, 9999, 32_000).astype(np.int16).tobytes())
    (*_, shown) = service.analyse_all("me", [str(path)], Wishes())
    assert shown.labels == ("1. voice.wav",), shown.status


def test_the_page_begins_with_what_the_model_is(service: Service) -> None:
    origin = Origin("demo/1", (CorpusOrigin("<mosei>", False, True, 9),))
    service.predictor = Predictor(replace(service.predictor.trained, origin=origin))
    text = "Trained on generated clips and tells nothing about people: model small (run demo/1), 9 clips"
    assert service.about.startswith(text)
    page = build_page(service)
    first = next(block for block in page.blocks.values() if isinstance(block, gr.HTML))
    assert f'<p class="about">{text}' in str(first.value)
    # what is asked while the queue's stream is closed gets no answer, such as an analysis beside an upload's arrival
    assert {each.name for each in page.fns.values() if each.queue} == {"analyse", "end"}  # the latter asked by no page
    service.predictor = Predictor(replace(service.predictor.trained, origin=Origin("own/<1>")))
    first = next(block for block in build_page(service).blocks.values() if isinstance(block, gr.HTML))
    assert "own/&lt;1&gt;" in str(first.value)


def test_a_result_says_what_is_calibrated_and_how_sure_it_is(service: Service) -> None:
    result = last(service, "me", upload(service, "a.mkv")).result
    assert result is not None
    assert "Calibrated probabilities (temperature 2, calibration error not stored, 9 dev clips)" in result
    assert "Scores from 0 to 1." in result
    assert "Intervals: 90 % is not promised: no dev groups are stored that sets could be made from; whiskers" in result
    assert result.count("How sure: the probability of what is decided; of several labels,") == 2
    trained = replace(service.predictor.trained, calibration=Calibration())
    service.predictor = Predictor(trained)
    result = last(service, "me", upload(service, "b.mkv")).result
    assert result is not None
    assert "Uncalibrated probabilities" in result
    assert "Calibrated" not in result


def test_errors_are_plain_and_name_no_folder(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Drop a video" in last(service, "me", None).status
    assert "c.mkv lasts 6 seconds" in last(service, "me", upload(service, "c.mkv", seconds=6)).status
    broken = service.sessions.root / "no.mp4"
    broken.write_bytes(b"no video")
    status = last(service, "me", str(broken)).status
    assert "No result for no.mp4" in status
    assert "<p>cannot be opened as media" in status
    assert str(service.sessions.root) not in status
    assert "not here any more" in last(service, "me", str(service.sessions.root / "gone.mp4")).status
    words = service.sessions.root / "words.srt"
    words.write_text("hello", encoding="utf-8")
    video = upload(service, "a.mkv")
    status = last(service, "me", video, Wishes(transcript=words)).status
    assert "words.srt" in status
    assert str(service.sessions.root) not in status

    def fail(*_: object) -> None:
        raise KeyError(f"{video} is odd")

    monkeypatch.setattr(app_service, "analyse", fail)
    assert "The analysis failed: KeyError: &#39;a.mkv is odd&#39;" in last(service, "me", video).status


def test_two_at_once_do_not_mix(service: Service) -> None:
    videos = {name: upload(service, f"{name}.mkv", first=first) for name, first in (("me", 5), ("you", 40))}
    found: dict[str, list[Shown]] = {}

    def work(key: str) -> None:
        found[key] = list(service.analyse(key, videos[key], Wishes(key)))

    threads = [threading.Thread(target=work, args=[key]) for key in videos]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key, other in (("me", "you"), ("you", "me")):
        result = found[key][-1].result
        assert result is not None
        assert f"<h2>{key}.mkv</h2>" in result
        assert f"<blockquote>{key}</blockquote>" in result
        assert found[key][-1].labels == (f"1. {key}.mkv",)
        assert service.compare(key, f"1. {other}.mkv", f"1. {other}.mkv") is None
    assert any("Its turn" in shown.status for each in found.values() for shown in each)
    service.sessions.end("me")
    assert Path(videos["you"]).exists()
    assert not Path(videos["me"]).exists()


def test_comparison_and_another_confidence(service: Service) -> None:
    assert service.decide("me", 0.5) is None
    for name, first in (("a.mkv", 5), ("b.mkv", 40)):
        shown = last(service, "me", upload(service, name, first=first))
    assert shown.labels == ("1. a.mkv", "2. b.mkv")
    page = service.compare("me", *shown.labels)
    assert page is not None
    assert "No decision" not in page
    assert service.compare("me", "1. a.mkv", None) is None
    again = service.decide("me", 1.0)
    assert again is not None
    assert again.result is not None
    assert "<h2>b.mkv</h2>" in again.result
    assert "No decision" in again.result
    strict = service.compare("me", *again.labels)
    assert strict is not None
    assert strict.count("No decision") == 4  # emotion and ambivalence of two videos


def test_a_failure_is_not_replaced_by_the_video_before(service: Service) -> None:
    last(service, "me", upload(service, "a.mkv"))
    assert service.decide("me", 0.0) is not None
    last(service, "me", None)
    assert service.decide("me", 1.0) is None
    page = service.compare("me", "1. a.mkv", "1. a.mkv")
    assert page is not None
    assert "No decision" in page
    last(service, "me", upload(service, "b.mkv"))
    assert service.decide("me", 0.0) is not None


def test_class_texts_alone_take_a_text_without_a_video(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with Predictor.from_task_texts(write_mood(tmp_path), ENCODER) as predictor:
        service = Service(predictor, "mood", Limits(), tmp_path / "root")
        assert service.about.startswith("No label and no training: zero-shot")
        assert "Type what is said first" in last(service, "me", None).status
        shown = last(service, "me", None, Wishes("grief"))
        assert shown.result is not None
        assert "What is said is nearest to “Grief” (templates of bad, 1.00)" in shown.result
        assert "A text without a video" in shown.result
        assert shown.download is not None
        assert "text.json" in zipfile.ZipFile(shown.download).namelist()
        again = service.decide("me", 0.5)
        assert again is not None
        assert "nearest to “Grief”" in str(again.result)
        labels = [block.label for block in build_page(service).blocks.values() if isinstance(block, gr.Textbox)]
        assert labels == ["What is said (a video is optional)"]
