"""Build the pages' parts, and what they do. It needs Gradio, which is an optional library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from mmpsr.calibration.conformal import COVERAGE, HIGHEST, LOWEST
from training.app.analysis import Limits, Wishes
from training.app.base import BaseService, Shown
from training.app.in_time import InTimeService
from training.app.service import Service
from training.app.view import status_view
from training.predict.transcripts import TRANSCRIPT_SUFFIXES

__all__ = ["build_page", "build_page_in_time"]

_TOP = """<div class="mmpsr top"><p class="about">{}</p><h1>What does the model make of a video?</h1>
<p class="soft">Videos of up to {:g} seconds and {:g} MB. Everything stays on this machine; files are removed when the
page is closed.</p></div>"""
_EMPTY = '<div class="mmpsr"><p class="empty">{}</p></div>'
_NO_RESULT = _EMPTY.format("Results appear here.")
_NO_PAIR = _EMPTY.format("Analyse two videos, and choose them here.")
_QUIET: Any = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
_AT_ONCE: Any = _QUIET | {"queue": False}
"""Of what takes no time: one request and its answer. What is queued is answered by a stream that is closed when nothing
is left to answer, and never answers what comes in that moment, such as an analysis as soon as its video has arrived."""
_SEEK = """const video = () => {
  const shown = document.querySelector('#video video'), name = element.querySelector('h2')?.textContent;
  const source = decodeURIComponent(shown?.currentSrc || '');
  return name && source.includes('/file=') && !source.endsWith('/' + name) ? null : shown;
};
const keys = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -1e9, End: 1e9};
const clock = seconds => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;
element.addEventListener('keydown', event => {
  const place = event.target.closest('.place'), shown = video();
  if (!shown || !place || !(event.key in keys)) return;
  event.preventDefault();
  const wanted = shown.currentTime + keys[event.key];
  shown.currentTime = Math.min(Math.max(wanted, Number(place.ariaValueMin)), Number(place.ariaValueMax));
});
element.addEventListener('click', event => {
  const moment = event.target.closest('.moment'), strip = event.target.closest('.seek'), shown = video();
  if (!shown || !(moment || strip)) return;
  let seconds = moment && Number(moment.dataset.seconds);
  if (!moment) {
    const box = strip.querySelector('.ground').getBoundingClientRect();
    const start = Number(strip.dataset.start), end = Number(strip.dataset.end);
    seconds = start + (event.clientX - box.left) / box.width * (end - start);
  }
  shown.currentTime = seconds;
  shown.scrollIntoView({block: 'nearest'});
  for (const told of element.querySelectorAll('.told')) told.textContent = `The video is at ${clock(seconds)}`;
});
document.addEventListener('timeupdate', event => {
  if (event.target !== video()) return;
  for (const strip of element.querySelectorAll('.seek')) {
    const start = Number(strip.dataset.start), end = Number(strip.dataset.end);
    const share = Math.min(Math.max((event.target.currentTime - start) / (end - start), 0), 1);
    const line = strip.querySelector('.playhead'), width = strip.querySelector('.ground').width.baseVal.value;
    line.setAttribute('transform', `translate(${share * width} 0)`);
    line.style.stroke = 'var(--warn)';
  }
  for (const place of element.querySelectorAll('.place')) {
    place.ariaValueNow = event.target.currentTime.toFixed(1);
    place.ariaValueText = place.querySelector('b').textContent = clock(event.target.currentTime);
  }
}, true)"""


def build_page(service: Service) -> gr.Blocks:
    """Build the page of a model of whole clips."""
    limits = service.limits
    with gr.Blocks(title="mmpsr", analytics_enabled=False) as page:
        gr.HTML(_top(service.about, limits))
        with gr.Row():
            with gr.Column(scale=2, min_width=300, elem_classes="left-side"):
                video = _video()
                with gr.Accordion("Several recordings, microphone", open=False):
                    several = _several()
                    voice = gr.Audio(
                        label="Sound alone", sources=["microphone", "upload"], type="filepath", elem_id="voice"
                    )
                text = gr.Textbox(label=_said(service), lines=2, elem_id="text")
                with gr.Accordion("Transcript file, timeline", open=False):
                    transcript = _transcript()
                    window = gr.Slider(2, 60, 10, step=1, label="Seconds of a window of the timeline", elem_id="window")
                    coverage = gr.Slider(
                        LOWEST, HIGHEST, COVERAGE, step=0.01, elem_id="coverage",
                        label="How often sets and intervals shall hold the truth",
                    )  # fmt: skip
                confidence = gr.Slider(
                    0, 1, 0, step=0.05, label="Decide only where at least this sure", elem_id="confidence"
                )
                button, status, download = _button(), _status(), _download()
            with gr.Column(scale=5, min_width=320), gr.Tabs():
                with gr.Tab("Result"):
                    chosen, result = _chosen(), _result()
                with gr.Tab("Compare", elem_id="compare"):
                    with gr.Row():
                        first = gr.Dropdown([], label="First", elem_id="first")
                        second = gr.Dropdown([], label="Second", elem_id="second")
                    compared = gr.HTML(_NO_PAIR, elem_id="compared")

        def shown(view: Shown) -> list[Any]:
            if view.result is None:
                return [*_shown(view), *[gr.skip()] * 2]
            names = list(view.labels)
            pair = names[-2] if len(names) > 1 else names[0], names[-1]
            return [*_shown(view), *(gr.update(choices=names, value=name) for name in pair)]

        def analyse(
            video: str | None, several: list[str] | None, voice: str | None, text: str, transcript: str | None,
            window: float, confidence: float, coverage: float, request: gr.Request,
        ) -> Iterator[list[Any]]:  # fmt: skip
            recordings = [path for path in (video, *(several or ()), voice) if path is not None]
            wishes = Wishes(text, None if transcript is None else Path(transcript), window, confidence, coverage)
            for view in service.analyse_all(str(request.session_hash), recordings, wishes):
                yield shown(view)

        def decide(confidence: float, request: gr.Request) -> list[Any]:
            view = service.decide(str(request.session_hash), confidence)
            return [gr.skip()] * 6 if view is None else [gr.skip(), *shown(view)[1:]]

        def compare(first: str | None, second: str | None, request: gr.Request) -> str:
            return service.compare(str(request.session_hash), first, second) or _NO_PAIR

        outputs = [status, result, download, chosen, first, second]
        asked = [video, several, voice, text, transcript, window, confidence, coverage]
        analysed = button.click(analyse, asked, outputs, **_QUIET)
        analysed.then(decide, confidence, outputs, **_AT_ONCE)  # the slider may have been moved meanwhile
        confidence.change(decide, confidence, outputs, trigger_mode="always_last", **_AT_ONCE)
        _show_chosen(service, chosen, [status, result, download])
        for menu in (first, second):
            menu.change(compare, [first, second], compared, **_AT_ONCE)
        _hold_files(page, service, (video, several, voice, transcript))
    return page


def build_page_in_time(service: InTimeService) -> gr.Blocks:
    """Build the page of a model in time."""
    limits = service.limits
    with gr.Blocks(title="mmpsr", analytics_enabled=False) as page:
        gr.HTML(_top(service.about, limits))
        with gr.Row():
            with gr.Column(scale=2, min_width=300, elem_classes="left-side"):
                video = _video()
                with gr.Accordion("Several recordings", open=False):
                    several = _several()
                text = gr.Textbox(label="What is said (optional)", lines=2, elem_id="text")
                with gr.Accordion("Transcript file, with the seconds of words", open=False):
                    transcript = _transcript()
                button, status, download = _button(), _status(), _download()
            with gr.Column(scale=5, min_width=320):
                chosen, result = _chosen(), _result()

        def analyse(
            video: str | None, several: list[str] | None, text: str, transcript: str | None, request: gr.Request
        ) -> Iterator[list[Any]]:
            recordings = [path for path in (video, *(several or ())) if path is not None]
            wishes = Wishes(text, None if transcript is None else Path(transcript))
            for view in service.analyse_all(str(request.session_hash), recordings, wishes):
                yield _shown(view)

        button.click(analyse, [video, several, text, transcript], [status, result, download, chosen], **_QUIET)
        _show_chosen(service, chosen, [status, result, download])
        _hold_files(page, service, (video, several, transcript))
    return page


def _said(service: Service) -> str:
    return "What is said (a video is optional)" if service.is_of_texts else "What is said (optional)"


def _top(about: str, limits: Limits) -> str:
    return _TOP.format(escape(about), limits.seconds, limits.megabytes)


def _video() -> gr.Video:
    return gr.Video(label="Video", height=300, sources=["upload", "webcam"], elem_id="video", buttons=[])


def _several() -> gr.File:
    return gr.File(
        label="Videos and sound files, analysed one after another", file_count="multiple",
        file_types=["video", "audio"], height=110, elem_id="several",
    )  # fmt: skip


def _chosen() -> gr.Dropdown:
    return gr.Dropdown([], label="Recording", elem_id="chosen")


def _result() -> gr.HTML:
    return gr.HTML(_NO_RESULT, elem_id="result", js_on_load=_SEEK)


def _transcript() -> gr.File:
    kinds = list(TRANSCRIPT_SUFFIXES)
    return gr.File(label=f"Transcript: {', '.join(kinds)}", file_types=kinds, height=110, elem_id="transcript")


def _button() -> gr.Button:
    return gr.Button("Analyse", variant="primary", elem_id="analyse")


def _status() -> gr.HTML:
    return gr.HTML(status_view({}), elem_id="status")


def _download() -> gr.DownloadButton:
    return gr.DownloadButton("Download everything", interactive=False, elem_id="download")


def _shown(view: Shown) -> list[Any]:
    """List what status, result, download and menu become."""
    if view.result is None:
        return [view.status, _NO_RESULT, gr.update(interactive=False), gr.skip()]
    menu = gr.update(choices=list(view.labels), value=view.shown)
    return [view.status, view.result, gr.update(value=str(view.download), interactive=True), menu]


def _show_chosen(service: BaseService[Any], menu: gr.Dropdown, outputs: Sequence[Any]) -> None:
    """Let a menu show another analysis in status, result and download."""

    def choose(label: str | None, request: gr.Request) -> list[Any]:
        view = None if label is None else service.show(str(request.session_hash), label)
        return [gr.skip()] * 3 if view is None else _shown(view)[:3]

    menu.input(choose, menu, outputs, **_AT_ONCE)


def _hold_files(page: gr.Blocks, service: BaseService[Any], uploads: Sequence[Any]) -> None:
    """Begin a session with the page, let it hold what is uploaded, and end it when the page is left."""

    def begin(request: gr.Request) -> None:
        service.sessions.of(str(request.session_hash))

    def arrived(files: str | list[str] | None, request: gr.Request) -> None:
        for file in [files] if isinstance(files, str) else files or ():
            service.sessions.hold(str(request.session_hash), file)

    def end(request: gr.Request) -> None:
        service.sessions.end(str(request.session_hash))

    for upload in uploads:
        upload.change(arrived, upload, None, **_AT_ONCE)
    page.load(begin, None, None, **_AT_ONCE)
    page.unload(end)
