"""The page's server, which answers this machine alone.

Everything the page loads comes from the server itself: system fonts, no analytics, and a policy that lets the browser
ask no other host.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from mmpsr.errors import UserError
from training.app.base import BaseService
from training.app.in_time import InTimeService
from training.app.service import Service

__all__ = ["HOST", "POLICY", "AddressError", "application_of", "listen", "serve", "warm_up"]

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""Host names that requests may be for: a foreign name that resolves to this machine is turned away."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = ((b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer"))

_TEMPLATES = Path(__file__).parents[1] / "templates"


class AddressError(UserError):
    """The address is in use; the message says what to do."""


def listen(port: int) -> socket.socket:
    """Open a socket of this machine's own address.

    Args:
        port: 0 for any that is free.

    Raises:
        AddressError: the port cannot be had.
    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((HOST, port))
    except OSError as error:
        opened.close()
        raise AddressError(f"port {port} cannot be had ({error.strerror}); name another with --port") from None
    return opened


def serve(make_service: Callable[[Path], Service | InTimeService], port: int, on_start: Callable[[str], None]) -> None:
    """Serve the page until the process is interrupted or terminated; then remove every file that came to it.

    Args:
        make_service: makes what is behind the page, of the folder that uploads come to.
        port: of this machine's own address; 0 for any that is free.
        on_start: told the page's address.

    Raises:
        AddressError: the port cannot be had.
        ModuleNotFoundError: Gradio is not installed.
    """
    import uvicorn

    connection = listen(port)
    place = Path(tempfile.mkdtemp(prefix="mmpsr-app-")).resolve()
    root = place / "uploads"
    root.mkdir()
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(root)}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    service = make_service(root)
    try:
        application = application_of(service)
        threading.Thread(target=warm_up, args=(service, place), daemon=True).start()
        connection.listen()  # so that whoever reads the address is not refused
        on_start(f"http://{HOST}:{connection.getsockname()[1]}/")
        config = uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=1, server_header=False)
        uvicorn.Server(config).run(sockets=[connection])
    finally:
        connection.close()
        service.close()  # waits for what is being encoded, which would write into the folder again
        shutil.rmtree(place, ignore_errors=True)


def warm_up(service: BaseService[Any], folder: Path) -> None:
    """Predict a second of grey and hiss, so that encoders are loaded before the first video comes.

    Args:
        service: whose encoders stay.
        folder: to write into.
    """
    path = folder / "grey.mkv"
    with av.open(str(path), "w") as container:
        pictures, sound = container.add_stream("mpeg4", rate=10), container.add_stream("pcm_s16le", rate=16_000)
        pictures.width = pictures.height = 64
        for _ in range(10):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode(None))
        waves = np.random.default_rng(0).integers(-99, 100, (1, 16_000)).astype(np.int16)
        hiss = av.AudioFrame.from_ndarray(waves, format="s16", layout="mono")
        hiss.sample_rate = 16_000
        container.mux(sound.encode(hiss))
        container.mux(sound.encode(None))
    service.warm_up(path, folder / "grey")


def application_of(service: Service | InTimeService) -> Any:
    """Make the page with its guards an ASGI application."""
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from training.app.page import build_page, build_page_in_time

    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    application.add_middleware(_Headers)
    application.add_middleware(TrustedHostMiddleware, allowed_hosts=list(NAMES), www_redirect=False)
    theme = gradio.themes.Default(
        primary_hue="blue", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["monospace"]
    ).set(  # others have less contrast than WCAG asks for
        body_text_color_subdued="*neutral_500", input_placeholder_color="*neutral_500",
        button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
    )  # fmt: skip
    page = build_page_in_time(service) if isinstance(service, InTimeService) else build_page(service)
    return gradio.mount_gradio_app(
        application, page, "/", server_name=HOST, footer_links=[], run_history=False,
        max_file_size=round(service.limits.megabytes * 2**20), enable_monitoring=False, ssr_mode=False, pwa=False,
        mcp_server=False, favicon_path=str(_TEMPLATES / "icon.svg"), theme=theme,
        css_paths=[_TEMPLATES / "app.css", _TEMPLATES / "timeline.css"],
    )  # fmt: skip


class _Headers:
    """Adds the policy to every answer."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.application(scope, receive, send_guarded)
