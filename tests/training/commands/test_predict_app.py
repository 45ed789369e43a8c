"""The command `mmpsr app`: what it gives to the server, and errors in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.support.in_time_run import write_run_in_time
from tests.support.predicted_run import write_run
from tests.support.worded import ENCODER, write_mood
from training.app import server as app_server
from training.app.analysis import Limits
from training.app.in_time import InTimeService
from training.app.service import Service
from tuning.console import app


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["app", *map(str, arguments)])


def test_the_server_gets_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def serve(make_service: Callable[[Path], Any], port: int, on_start: Callable[[str], None]) -> None:
        service = make_service(tmp_path)
        calls.append((type(service), service.name, service.limits, port))
        on_start("http://here/")

    monkeypatch.setattr(app_server, "serve", serve)
    folder = write_run(tmp_path / "small")
    result = run(folder, "--port", "81", "--max-seconds", "9", "--max-megabytes", "3")
    assert (result.exit_code, result.stdout) == (0, "http://here/ (this machine only; stop with Ctrl-C)\n")
    run(folder)
    run(write_run_in_time(tmp_path / "in_time"), "--max-seconds", "9")
    refused = run(tmp_path / "in_time", "--task-texts", "emotion")
    assert "a model in time has no class texts beside it" in " ".join(refused.stderr.split())
    assert calls.pop() == (InTimeService, "in_time", Limits(9, 200), 7860)
    assert calls == [(Service, "small", Limits(9, 3), 81), (Service, "small", Limits(120, 200), 7860)]
    assert run("--task-texts", write_mood(tmp_path), "--encoder", ENCODER).exit_code == 0
    assert calls.pop()[:2] == (Service, f"class texts of {tmp_path / 'mood.toml'}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "error: nothing is no folder; name a finished run or a bundle"),
        (["."], "error: . has no config.json"),
        ([], "error: there is no model; name a finished run or a bundle, or give --task-texts, which needs none"),
        (
            ["--task-texts", "moot"],
            "error: --task-texts: 'moot' is neither a file nor one of the tasks whose texts ship",
        ),
        (["nothing", "--max-seconds", "0"], "error: limits are above 0, found 0 seconds and 200 megabytes"),
    ],
)
def test_what_cannot_be_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_taken_port_and_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path / "small")
    with app_server.listen(0) as taken:
        taken.listen()
        result = run(folder, "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 2
    assert "name another with --port" in result.stderr

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app_server, "serve", stop)
    result = run(folder)
    assert (result.exit_code, result.stderr) == (0, f"opening {folder.name}\nstopped; what was uploaded is removed\n")
