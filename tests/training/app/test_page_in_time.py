"""The page of a model in time in headless Chromium, served by the command itself."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.accessible import set_view
from tests.support.in_time_run import write_run_in_time
from tests.support.predicted_run import write_video
from tests.support.report_in_browser import headless
from tests.training.app.test_page import ROOT, all_of, analyse, require_accessible, send, text_of, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(270)]
PLACE = "return document.querySelector('#video video').currentTime"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless() as driver:
        yield driver


@pytest.fixture(scope="module")
def address(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    run = write_run_in_time(tmp_path_factory.mktemp("runs") / "in_time")
    command = [sys.executable, "-m", "tuning.console", "app", str(run), "--port", "0"]
    place = str(tmp_path_factory.mktemp("place"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": place, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0]
        process.kill()


def test_segments_lead_to_their_moments(browser: Any, address: str, tmp_path: Path) -> None:
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.get(address)
    wait(lambda: all_of(browser, "#video input[type=file]"))
    send(browser, write_video(tmp_path / "talk.mp4", seconds=4, audio_codec="aac"))
    analyse(browser, "talk.mp4")
    assert "Segments found" in text_of(browser, "#result")
    assert "text is absent" in text_of(browser, "#result")
    for selector in ("#result td .moment", "#result rect.moment"):
        moment = all_of(browser, selector)[0]
        place = float(moment.get_attribute("data-seconds"))
        browser.execute_script("document.querySelector('#video video').currentTime = 0")
        browser.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", moment)
        assert place > 1.0
        wait(lambda place=place: abs(browser.execute_script(PLACE) - place) < 0.1)
        told = all_of(browser, "#result .told[aria-live=polite]")[0].get_attribute("textContent")
        assert told == f"The video is at 0:0{int(place)}"
    slider, playhead = all_of(browser, "#result .place[role=slider]")[0], all_of(browser, "#result .curve .playhead")[0]
    for key, at in (("\ue010", 4.0), ("\ue011", 0.0), ("\ue014", 1.0)):  # End, Home, right
        slider.send_keys(key)
        wait(lambda at=at: abs(browser.execute_script(PLACE) - at) < 0.3)
    wait(lambda: slider.get_attribute("aria-valuetext") == "0:01")
    assert playhead.get_attribute("transform") == "translate(160 0)"  # a quarter of the curve
    for width, theme in ((360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")):
        set_view(browser, width, theme)
        require_accessible(browser, width, theme)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    all_of(browser, "#download")[0].click()
    file = wait(lambda: next(filter(zipfile.is_zipfile, tmp_path.glob("*.zip")), None))  # whole by now
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == ["talk.csv", "talk.html", "talk.json"]
