"""The page of a model in time: from a video to what is shown and taken along, and what is told where that fails."""

from __future__ import annotations

import asyncio
import io
import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import numpy as np
import pandas as pd
import pytest

from tests.support.in_time_run import without_narrative, write_run_in_time
from tests.support.media_files import write_media
from tests.support.predicted_run import write_video
from training.app.analysis import Limits, Wishes
from training.app.base import Shown
from training.app.in_time import InTimeService
from training.app.page import build_page_in_time
from training.app.server import POLICY, application_of, warm_up
from training.in_time.recordings import InTimePredictor

NAME = "<b>talk.mkv"
WORDS = "00:00:01,000 --> 00:00:02,000\nWell, <no>.\n"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> InTimePredictor:
    return InTimePredictor.from_run(write_run_in_time(tmp_path_factory.mktemp("runs") / "in_time"))


@pytest.fixture
def service(predictor: InTimePredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InTimeService:
    without_narrative(monkeypatch, "At 2.5 s the brows rise. The voice is quiet.")
    (tmp_path / "root").mkdir()
    return InTimeService(predictor, "in_time", Limits(seconds=5), tmp_path / "root")


def upload(service: InTimeService, name: str, seconds: float = 4.0) -> str:
    folder = service.sessions.root / "uploaded"
    folder.mkdir(exist_ok=True)
    return str(write_video(folder / name, seconds=seconds))


def last(service: InTimeService, video: str | None, wishes: Wishes | None = None) -> Shown:
    return list(service.analyse("me", video, wishes or Wishes()))[-1]


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_from_upload_to_download_and_nothing_left(service: InTimeService) -> None:
    words = service.sessions.root / "words.srt"
    words.write_text(WORDS, encoding="utf-8")
    shown = list(service.analyse("me", upload(service, NAME), Wishes(transcript=words)))
    assert [each.result is not None for each in shown] == [False] * (len(shown) - 1) + [True]
    assert "Features of every frame" in shown[-2].status
    assert "wheel" not in shown[-1].status
    page = shown[-1].result
    assert page is not None
    text = text_of(page)
    # louder than the model's limit from second 2 to the end, of 20 frames at 5 a second
    assert "20 frames, 5 a second" in text
    assert "0:02 0:04 99.9 % At 2.5 s the brows rise." in text or "0:02 0:04 100.0 % At 2.5 s the brows rise." in text
    assert page.count('data-seconds="2.00"') == 2  # of the table, and of what is shaded in the curve
    assert 'data-seconds="1.00" title="Show this moment of the video">0:01–0:02</button> Well, &lt;no&gt;.' in page
    assert "&lt;b&gt;talk.mkv" in page
    assert NAME not in page
    assert page.count('class="there"') == 3
    assert shown[-1].download is not None
    with zipfile.ZipFile(shown[-1].download) as archive:
        files = {Path(name).suffix: archive.read(name).decode() for name in archive.namelist()}
    assert list(files) == [".json", ".csv", ".html"]
    assert not any(str(service.sessions.root) in content for content in (*files.values(), page))
    document = json.loads(files[".json"])
    assert [(each["start"], each["end"]) for each in document["recordings"][0]["segments"]] == [(2.0, 4.0)]
    frames = pd.read_csv(io.StringIO(files[".csv"]))
    assert frames["probability"].tolist() == document["recordings"][0]["probabilities"]
    assert frames["about"].unique().tolist() == [service.about]
    assert files[".html"].count('class="span"') == 1
    assert "moment" not in files[".html"]  # no video to seek
    service.sessions.end("me")
    assert [path.name for path in service.sessions.root.rglob("*") if path.is_file()] == []


def test_what_is_absent_is_told_with_its_reason(service: InTimeService) -> None:
    (service.sessions.root / "uploaded").mkdir()
    path = write_video(service.sessions.root / "uploaded" / "silent.mkv", loud=False)
    page = last(service, str(path)).result
    assert page is not None
    assert "audio is absent silent.mkv: no audio stream" in text_of(page)
    assert "text is absent no transcript" in text_of(page)
    assert "Segments found Consecutive frames with a probability above 0.5. None." in text_of(page)


def test_errors_are_plain_and_name_no_folder(service: InTimeService) -> None:
    assert "Drop a video" in last(service, None).status
    status = last(service, upload(service, "long.mkv", 6)).status
    assert "long.mkv lasts 6 seconds; this page takes up to 5" in status
    assert "or use `mmpsr predict`" in status
    black = service.sessions.root / "uploaded" / "black.mkv"
    write_media(black, [np.zeros((64, 64, 3), np.uint8)] * 10, fps=5)
    shown = last(service, str(black))
    assert shown.result is None
    assert "Nothing of black.mkv can be used: " in shown.status
    assert str(service.sessions.root) not in shown.status


def test_the_page_begins_with_what_the_model_is_and_has_no_windows(service: InTimeService) -> None:
    page = build_page_in_time(service)
    first = next(block for block in page.blocks.values() if isinstance(block, gr.HTML))
    assert service.about.endswith("/in_time, trained on an unknown number of clips of own. No test figures are stored.")
    assert f'<p class="about">{service.about}' in str(first.value)
    assert not [block for block in page.blocks.values() if isinstance(block, gr.Slider | gr.Tab)]


def test_the_button_fills_the_page(service: InTimeService) -> None:
    page: Any = build_page_in_time(service)
    event = next(each for each in page.fns.values() if each.name == "analyse")
    assert [block.elem_id for block in event.inputs] == ["video", "several", "text", "transcript"]
    assert [block.elem_id for block in event.outputs] == ["status", "result", "download", "chosen"]
    request = SimpleNamespace(session_hash="me")
    shown = list(event.fn(upload(service, "talk.mkv"), None, "Well, no.", None, request))
    assert "Results appear here." in shown[0][1]
    assert "<blockquote>Well, no.</blockquote>" in shown[-1][1]
    assert shown[-1][2]["interactive"]
    assert shown[-1][2]["value"].endswith("talk-mmpsr.zip")
    assert shown[-1][3]["value"] == "1. talk.mkv"
    status, result, download, _ = list(event.fn(None, None, "", None, request))[-1]
    assert "Drop a video" in status
    assert "Results appear here." in result
    assert not download["interactive"]


def test_several_videos_one_after_another_and_any_of_them_again(service: InTimeService) -> None:
    page: Any = build_page_in_time(service)
    assert {each.name for each in page.fns.values() if each.queue} == {"analyse", "end"}  # the latter asked by no page
    analyse, choose = (next(each for each in page.fns.values() if each.name == name) for name in ("analyse", "choose"))
    assert [block.elem_id for block in choose.outputs] == ["status", "result", "download"]
    request = SimpleNamespace(session_hash="me")
    videos = [upload(service, f"{name}.mkv") for name in "ab"]
    *_, (status, result, _, chosen) = analyse.fn(None, videos, "", None, request)
    assert "2 of 2 analysed" in status
    assert "<h2>b.mkv</h2>" in result
    assert (chosen["choices"], chosen["value"]) == (["1. a.mkv", "2. b.mkv"], "2. b.mkv")
    _, result, download = choose.fn("1. a.mkv", request)
    assert "<h2>a.mkv</h2>" in result
    assert download["value"].endswith("a-mmpsr.zip")
    *_, (status, _, _, _) = analyse.fn(videos[0], videos[1:], "words", None, request)
    assert "There are 2 recordings and words of one" in status


def test_it_is_guarded_as_the_other_page(service: InTimeService) -> None:
    async def ask(*hosts: str) -> list[httpx.Response]:
        transport = httpx.ASGITransport(application_of(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [await client.get("/", headers={"host": host}) for host in hosts]

    own, foreign = asyncio.run(ask("127.0.0.1", "elsewhere.example"))
    assert (own.status_code, own.headers["content-security-policy"]) == (200, POLICY)
    assert service.about in own.text
    assert foreign.status_code == 400


def test_encoders_are_loaded_before_the_first_video(service: InTimeService, tmp_path: Path) -> None:
    service.close()
    warm_up(service, tmp_path)
    assert service.predictor._warm is not None
