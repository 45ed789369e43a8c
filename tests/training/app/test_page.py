"""The page in headless Chromium, served by the command itself on a run with the embedded encoders."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from skimage.data import astronaut
from skimage.transform import resize

from tests.support.accessible import grave, set_view
from tests.support.media_files import grey, tone, write_media
from tests.support.predicted_run import write_run
from tests.support.report_in_browser import headless

ROOT = Path(__file__).parents[3]
ENCODERS = {"video": "face-mesh", "audio": "egemaps", "text": "minilm", "behavior": "cue-narrative"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(270)]


CUT = """
return [...document.querySelectorAll('.mmpsr .bar > *')].filter(each => each.scrollWidth > each.clientWidth + 1)
  .map(each => each.innerText)
"""
PLACE = "return document.querySelector('#video video').currentTime"


class Server(NamedTuple):
    address: str
    process: subprocess.Popen[str]
    place: Path

    @property
    def uploads(self) -> Path:
        return next(self.place.glob("mmpsr-app-*/uploads"))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    portrait = (255 * resize(astronaut(), (240, 240))).astype(np.uint8)
    write_media(folder / "portrait.mp4", [portrait] * 36, tone(200, 3.0), fps=12, audio_codec="aac")
    write_media(folder / "silent.mp4", [portrait] * 24, fps=12)
    write_media(folder / "wall.mp4", [grey(30, 240)] * 24, fps=12)
    (folder / "broken.mp4").write_bytes(b"this is no video" * 9)
    (folder / "words.srt").write_text("00:00:01,000 --> 00:00:02,000\nWell, no.\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("place")
    modalities = list(ENCODERS)
    run = write_run(
        tmp_path_factory.mktemp("runs") / "small", features={"encoders": ENCODERS}, data={"modalities": modalities}
    )
    command = [sys.executable, "-m", "tuning.console", "app", str(run), "--port", "0", "--max-megabytes", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield Server(process.stdout.readline().split()[0], process, place)
        process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless(**{"goog:loggingPrefs": {"performance": "ALL"}}) as driver:
        yield driver


def wait(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def all_of(browser: Any, selector: str) -> list[Any]:
    return list(browser.find_elements("css selector", selector))


def text_of(browser: Any, selector: str) -> str:
    return str(browser.execute_script("return document.querySelector(arguments[0])?.innerText || ''", selector))


def send(browser: Any, path: Path) -> None:
    """Put a video into the page, in place of the one that is there."""
    for button in all_of(browser, "#video button[aria-label=Clear]"):
        button.click()
    wait(lambda: all_of(browser, "#video input[type=file]"))[0].send_keys(str(path))
    wait(lambda: all_of(browser, "#video video"))


def analyse(browser: Any, name: str) -> None:
    """Press the button, wherever the page has scrolled to, and wait for the video's results."""
    for _ in range(4):  # it may have come before the video was whole
        browser.execute_script("document.querySelector('#analyse').click()")
        deadline = time.monotonic() + 15.0
        while time.monotonic() < deadline:
            if text_of(browser, "#result h2") == name:
                return
            time.sleep(0.05)
    raise AssertionError(text_of(browser, "#status"))


def require_accessible(browser: Any, width: int, theme: str) -> None:
    """Nothing keeps people with other senses or hands out, nothing is cut, and the page does not scroll sideways."""
    wait(lambda: browser.execute_script("return document.body.classList.contains('dark')") == (theme == "dark"))
    browser.execute_script("for (const change of document.getAnimations()) change.finish()")
    assert grave(browser, "#video") == []  # Gradio's player has small buttons
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(CUT) == []


def open_tab(browser: Any, name: str) -> None:
    next(button for button in all_of(browser, "button[role=tab]") if button.text == name).click()


def test_upload_results_comparison_and_download(browser: Any, server: Server, media: Path, tmp_path: Path) -> None:
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.get(server.address)
    wait(lambda: all_of(browser, "#video input[type=file]"))
    send(browser, media / "portrait.mp4")
    next(each for each in all_of(browser, "button") if each.text.startswith("Transcript file")).click()
    wait(lambda: all_of(browser, "#transcript input[type=file]"))[0].send_keys(str(media / "words.srt"))
    wait(lambda: "words" in text_of(browser, "#transcript"))
    analyse(browser, "portrait.mp4")
    result = text_of(browser, "#result")
    for word in ("Emotion", "Personality", "Ambivalence", "without any", "face found", "Well, no.", "0:01–0:02"):
        assert word in result
    assert result.count("✓") <= 4
    assert len(all_of(browser, "#result .had .there")) == 4
    pictures = browser.execute_script(
        "return [...document.querySelectorAll('#result .picture')].map(e => [e.querySelector('img').naturalWidth > 0,"
        " (b => b && b.getBoundingClientRect().width / e.getBoundingClientRect().width)(e.querySelector('.face'))])"
    )
    assert len(pictures) == 6
    assert all(loaded and 0.1 < share < 0.5 for loaded, share in pictures)
    assert "Key frames" in text_of(browser, "#status")

    all_of(browser, "#download")[0].click()
    file = wait(lambda: next(filter(zipfile.is_zipfile, tmp_path.glob("*.zip")), None))  # whole by now
    with zipfile.ZipFile(file) as archive:
        names = ["portrait-measures.csv", "portrait.csv", "portrait.html", "portrait.json"]
        assert sorted(archive.namelist()) == names
        document = json.loads(archive.read("portrait.json"))
    shown = browser.execute_script("return document.querySelector('#result .decided > span').innerText")
    values = document["recordings"][0]["clips"][0]["tasks"]["emotion"]["values"]
    assert shown in {f"{value:.2f}" for value in values.values()}

    moment = all_of(browser, "#result .frames .moment")[3]
    browser.execute_script("arguments[0].click()", moment)
    place = float(moment.get_attribute("data-seconds"))
    wait(lambda: abs(browser.execute_script("return document.querySelector('#video video').currentTime") - place) < 0.1)
    assert all_of(browser, "#result .told")[0].get_attribute("textContent") == f"The video is at 0:0{int(place)}"
    strips = all_of(browser, "#result .strips .seek")[0]
    middle = browser.execute_script(
        "const strips = arguments[0], box = strips.querySelector('.ground').getBoundingClientRect();"
        "strips.dispatchEvent(new MouseEvent('click', {bubbles: true, clientX: box.left + box.width / 2}));"
        "return (Number(strips.dataset.start) + Number(strips.dataset.end)) / 2",
        strips,
    )
    wait(
        lambda: abs(browser.execute_script("return document.querySelector('#video video').currentTime") - middle) < 0.1
    )

    place = all_of(browser, "#result .place[role=slider]")[0]
    for key, at in (("\ue011", 0.0), ("\ue014", 1.0), ("\ue014", 2.0), ("\ue012", 1.0)):  # Home, right, right, left
        place.send_keys(key)
        wait(
            lambda at=at: (
                abs(browser.execute_script("return document.querySelector('#video video').currentTime") - at) < 0.1
            )
        )
    wait(lambda: place.get_attribute("aria-valuetext") == "0:01")
    assert place.text == "Place in the video 0:01, ← → move it"
    assert float(place.get_attribute("aria-valuemax")) == pytest.approx(3.0, abs=0.2)

    all_of(browser, "#transcript button[aria-label=Clear]")[0].click()
    send(browser, media / "silent.mp4")
    analyse(browser, "silent.mp4")
    assert "audio is absent" in text_of(browser, "#result")
    assert "silent.mp4: no audio stream" in text_of(browser, "#result")
    assert "No decision" not in text_of(browser, "#result")
    slider = all_of(browser, "#confidence input[type=range]")[0]
    slider.send_keys("\ue010")  # End
    wait(lambda: "No decision" in text_of(browser, "#result"))
    open_tab(browser, "Compare")
    compared = wait(lambda: text_of(browser, "#compared .compared"))
    assert compared.split()[:4] == ["portrait.mp4", "0:03", "silent.mp4", "0:02"]
    for width, theme in itertools.product((360, 1280), ("light", "dark")):
        set_view(browser, width, theme)
        require_accessible(browser, width, theme)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    open_tab(browser, "Result")


def test_a_broken_file_says_why(browser: Any, server: Server, media: Path) -> None:
    for button in all_of(browser, "#video button[aria-label=Clear]"):
        button.click()
    wait(lambda: all_of(browser, "#video input[type=file]"))[0].send_keys(str(media / "broken.mp4"))
    wait(lambda: list(server.uploads.glob("*/broken.mp4")))
    wait(lambda: all_of(browser, "#video video, #video button[aria-label=Clear]"))
    all_of(browser, "#analyse")[0].click()
    wait(lambda: text_of(browser, "#status .failed").startswith("No result for broken.mp4"))
    failed = text_of(browser, "#status .failed")
    assert "cannot be opened as media" in failed
    assert "It may be damaged, unfinished or no video; try another file" in failed
    assert "Results appear here" in text_of(browser, "#result")


def test_two_at_once_do_not_mix(browser: Any, server: Server, media: Path) -> None:
    tabs: dict[str, Any] = {}
    for name in ("portrait.mp4", "wall.mp4"):
        browser.switch_to.new_window("tab")
        tabs[name] = browser.current_window_handle
        browser.get(server.address)
        wait(lambda: all_of(browser, "#video input[type=file]"))
        send(browser, media / name)
        all_of(browser, "#text textarea")[0].send_keys(f"words of {name}")
    for handle in tabs.values():
        browser.switch_to.window(handle)
        all_of(browser, "#analyse")[0].click()
    for name, handle in tabs.items():
        browser.switch_to.window(handle)
        wait(lambda name=name: text_of(browser, "#result h2") == name)  # type: ignore[misc]
        assert text_of(browser, "#result blockquote") == f"words of {name}"
    for handle in tabs.values():
        browser.switch_to.window(handle)
        browser.close()
    browser.switch_to.window(browser.window_handles[0])


def test_nothing_but_this_machine_is_asked(browser: Any, server: Server) -> None:
    asked = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(urlsplit(message["params"]["request"]["url"])[:2])
    assert ("http", urlsplit(server.address).netloc) in asked
    assert {place for place in asked if place[0] not in ("data", "blob")} == {("http", urlsplit(server.address).netloc)}


def test_it_answers_on_loopback_and_by_its_name_alone(server: Server) -> None:
    port = urlsplit(server.address).port
    assert port is not None
    addresses = {
        each.address for found in psutil.net_if_addrs().values() for each in found if each.family == socket.AF_INET
    }
    for address in (addresses | {"127.0.0.2"}) - {"127.0.0.1"}:
        with pytest.raises(OSError, match=r"refused|timed out|unreachable"):
            socket.create_connection((address, port), 2)
    with urllib.request.urlopen(server.address, timeout=20) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    foreign = urllib.request.Request(server.address, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(foreign, timeout=20)


def test_a_large_file_is_turned_away(browser: Any, server: Server, tmp_path: Path) -> None:
    (tmp_path / "large.mp4").write_bytes(bytes(2**20 + 1))
    for button in all_of(browser, "#video button[aria-label=Clear]"):
        button.click()
    wait(lambda: all_of(browser, "#video input[type=file]"))[0].send_keys(str(tmp_path / "large.mp4"))
    wait(lambda: "exceed the maximum allowed size of 1" in text_of(browser, "body"))
    assert not list(server.uploads.glob("*/large.mp4"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_keyboards_and_screen_readers_have_all_of_it(
    browser: Any, server: Server, media: Path, width: int, theme: str
) -> None:
    set_view(browser, width, theme)
    try:
        browser.get(server.address)
        wait(lambda: all_of(browser, "#video input[type=file]"))
        for button in all_of(browser, "button"):
            if button.text.startswith(("Transcript file", "Several recordings")):
                browser.execute_script("arguments[0].click()", button)
        wait(lambda: all_of(browser, "#several input[type=file]"))
        require_accessible(browser, width, theme)
        all_of(browser, "#video input[type=file]")[0].send_keys(str(media / "portrait.mp4"))
        wait(lambda: all_of(browser, "#video video"))
        analyse(browser, "portrait.mp4")
        require_accessible(browser, width, theme)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_is_left_of_closed_pages_and_of_a_stopped_server(browser: Any, server: Server) -> None:
    uploads = server.uploads
    assert [path for path in uploads.rglob("*") if path.is_file()]
    browser.get("about:blank")
    wait(lambda: not list(uploads.iterdir()))
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    assert not list(server.place.glob("mmpsr-app-*"))
