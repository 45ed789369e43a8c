"""`mmpsr adapt`: what its options ask for, what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mmpsr.config import ConfigError
from tests.support.starting import after_first_line
from training.adaptation import request as module
from training.adaptation.config import PersonalizationConfig
from training.adaptation.request import AdaptationRequest
from training.commands.console import app

ROW = {
    "seed": 0, "method": "source", "participant": "p", "split_by": "video", "note": "", "num_train": 7, "num_val": 1,
    "num_test": 2, "num_positives": 1, "epoch": 0, "share_present": 50.0, "average_f1": 60.0,
    "bah_average_precision": None, "average_precision": 70.0, "share_predicted": 40.0,
}  # fmt: skip
FIGURES = ("average_f1", "bah_average_precision", "average_precision", "share_predicted", "share_present")
DOCUMENT: dict[str, Any] = {
    "run": "r", "corpus": "bah", "task": "ambivalence", "by": "participant", "form": "features", "encoders": {},
    "settings": PersonalizationConfig().model_dump(mode="json"), "folder": "r/adaptation/bah/0", "participants": [ROW],
    "methods": [
        {
            "method": method, "figure": figure, "num_participants": 1, "num_without": 1 if figure == FIGURES[1] else 0,
            "mean": 61.5, "deviation": None,
        }
        for method in ("source", "oracle") for figure in FIGURES
    ],
    "comparisons": [
        {
            "method": "oracle", "figure": "average_f1", "num_participants": 1, "better": 1, "worse": 0, "p": None,
            "difference": {"value": 1.5, "low": -2.0, "high": 4.0}, "wilcoxon_p": None, "corrected_p": 0.25,
        }
    ],
    "skipped": [{"participant": f"q[{number}]", "reason": "too few"} for number in range(7)],
    "notes": ["a note"],
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[AdaptationRequest]:
    requests: list[AdaptationRequest] = []

    def answer(request: AdaptationRequest, _: object) -> dict[str, Any]:
        print("reading")  # whatever is said on the way
        requests.append(request)
        return DOCUMENT

    monkeypatch.setattr(module, "answer", answer)
    return requests


def run(*arguments: str, status: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["adapt", *arguments])
    assert result.exit_code == status, result.output
    return result.stdout, after_first_line(result.stderr)


def test_tables(asked: list[AdaptationRequest]) -> None:
    out, err = run("r", "--corpus", "bah", "--method", "shot, nrc", "--method", "shot", "--set", "protocol.seeds=[1]")
    assert err == "reading"
    (request,) = asked
    assert request.methods == ("source", "shot", "nrc")
    assert request.settings == ("protocol.seeds=[1]",)
    assert (request.run, request.by, request.config, request.output) == (Path("r"), "participant", None, None)
    assert "bah, ambivalence: 1 test participants, 1 seed(s)" in out
    line = next(line for line in out.splitlines() if "oracle (reads labels)" in line)
    assert "61.50 ± -" in line
    assert "(of 1)" in line
    assert "[-2.00, +4.00]" in out
    assert "left out: q[4]: too few" in out
    assert "left out: 2 more participants, see adaptation.json" in out
    assert "a note" in out
    assert "chosen by labels" not in out


def test_all_methods_where_none_is_named(asked: list[AdaptationRequest]) -> None:
    run("r")
    assert asked[0].methods == ("source", "mmd", "subject", "shot", "nrc", "oracle")


def test_the_document_is_strict_json(asked: list[AdaptationRequest]) -> None:
    out, _ = run("r", "--json")
    assert json.loads(out, parse_constant=lambda name: pytest.fail(name)) == DOCUMENT


def test_a_choice_by_labels_is_said(asked: list[AdaptationRequest], monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = {**DOCUMENT["settings"]["protocol"], "select": "labelled"}
    monkeypatch.setitem(DOCUMENT, "settings", {"protocol": protocol})
    assert "not unsupervised" in run("r")[0]


def test_errors_and_stops_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ConfigError("no method is named so")

    monkeypatch.setattr(module, "answer", fails)
    assert run("r", status=2)[1] == "error: no method is named so"

    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "answer", stops)
    assert run("r", status=130)[1].startswith("stopped; participants that are done are kept")
