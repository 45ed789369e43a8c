"""Where the page can be reached: this machine's own address alone (what it answers, test_app_page)."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support import predicted_run
from tests.support.analysed import small_predictor
from training.app.analysis import Limits
from training.app.server import HOST, POLICY, AddressError, listen, warm_up
from training.app.service import Service


def test_the_socket_is_of_this_machine_alone() -> None:
    with listen(0) as opened:
        opened.listen()
        address, port = opened.getsockname()
        assert address == HOST == "127.0.0.1"
        with socket.create_connection((HOST, port), 1):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), 1)  # also loopback, but another address
        with pytest.raises(AddressError, match=rf"port {port} cannot be had \(.*\); name another with --port"):
            listen(port)


def test_the_policy_names_no_host() -> None:
    sources = {word for part in POLICY.split("; ") for word in part.split()[1:]}
    assert sources == {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}


def test_encoders_are_loaded_before_the_first_video(tmp_path: Path) -> None:
    predicted_run.ENCODED.clear()
    (tmp_path / "root").mkdir()
    with small_predictor(tmp_path) as predictor:
        warm_up(Service(predictor, "small", Limits(), tmp_path / "root"), tmp_path)
        assert len(predicted_run.ENCODED) == 1
        assert predictor._warm is not None
        results = predictor.predict(tmp_path / "grey.mkv", "Hello.")
        assert results[0].absent == {}  # every encoder has had something to do
