"""`mmpsr zero-shot`: its options over the file, its tables, its document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.starting import after_first_line
from training.commands.console import app
from training.zero_shot import protocol
from training.zero_shot.config import ZeroShotRunConfig
from training.zero_shot.protocol import AnswerTable


def row(split: str, system: str, metric: str, value: float | None, **more: Any) -> dict[str, Any]:
    return {"system": system, "corpus": "bah", "split": split, "task": "ambivalence", "metric": metric, "num": 9,
            "num_groups": 3, "value": value, "low": None, "high": None, "num_undefined": 0, **more}  # fmt: skip


DOCUMENT: dict[str, Any] = {
    "model": "LanguageBind/Video-LLaVA-7B-hf", "task": "ambivalence", "window": None, "num_resamples": 2000,
    "prompts": [{"prompt": "bah-simple"}, {"prompt": "bah-definition-2"}],
    "figures": [
        row("dev", "bah-simple", "macro_f1", 30.0), row("dev", "bah-definition-2", "macro_f1", 40.0),
        row("test", "bah-simple", "macro_f1", 28.28, low=20.5, high=35.25),
        row("test", "bah-simple likelihood", "macro_f1", 31.0),
        row("test", "bah-simple likelihood", "average_precision", 55.5),
    ],
    "counts": [
        {"prompt": "bah-simple", "corpus": "bah", "split": "test", "num_clips": 12, "num_questions": 13,
         "num_unread": 10, "num_several": 1, "num_without_transcript": 16, "num_failed": 2, "num_failed_clips": 11},
    ],
    "chosen": {"prompt": "bah-definition-2", "split": "dev", "metric": "macro_f1", "value": 40.0},
}  # fmt: skip


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the command asks for; it is told `DOCUMENT`."""
    found: dict[str, Any] = {}

    def run(config: ZeroShotRunConfig, name: str, _: object, corpora: list[str]) -> AnswerTable:
        found.update(config=config, name=name, corpora=list(corpora))
        return AnswerTable(tmp_path, None, {**DOCUMENT, **found.get("changes", {})})  # type: ignore[arg-type]

    monkeypatch.setattr(protocol, "run_zero_shot", run)
    return found


def call(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["zero-shot", *arguments])
    assert result.exit_code == status, result.output
    return result.stdout if status < 2 else after_first_line(result.stderr)


def test_options_go_over_the_file(given: dict[str, Any]) -> None:
    call()
    assert given["config"].zero_shot.splits == ("dev", "test")
    assert given["name"] == "zero_shot"
    assert not given["config"].zero_shot.likelihood
    call("--task", "mood", "--prompt", "simple", "--prompt", "transcript", "--split", "dev", "--window", "24",
         "--likelihood", "--retry-failed", "--corpus", "bah", "--set", "zero_shot.batch_size=2")  # fmt: skip
    asked = given["config"].zero_shot
    assert (asked.task, asked.ask, asked.splits, asked.window) == ("mood", ("simple", "transcript"), ("dev",), 24)
    assert (asked.likelihood, asked.batch_size, given["config"].features.retry_failed) == (True, 2, True)
    assert given["corpora"] == ["bah"]


def test_tables(given: dict[str, Any]) -> None:
    out = call()
    lines = [" ".join(line.replace("│", " ").split()) for line in out.splitlines()]
    assert lines[0].startswith("LanguageBind/Video-LLaVA-7B-hf, ambivalence: one answer a clip; percent")
    assert any(line.endswith("bah-simple 9 3 28.28 [20.50, 35.25] -") for line in lines)
    assert "bah-simple likelihood 9 3 31.00 55.50" in lines
    assert "bah-definition-2 (best on dev) 9 3 40.00 -" in lines
    assert "bah-simple bah test 12 13 10 1 16 2 11" in lines
    assert "bah-definition-2 is best on dev (MF1 40.00)" in out
    given["changes"] = {"chosen": None, "window": 24}
    out = call()
    assert "one answer for 24 frames" in out
    assert "No prompt is chosen: dev was not asked, and test chooses nothing" in out
    assert "frames" in out.splitlines()[2]


def test_the_document(given: dict[str, Any], tmp_path: Path) -> None:
    assert json.loads(call("--json")) == {"folder": str(tmp_path), **DOCUMENT}


def test_without_any_answer_the_status_is_1(given: dict[str, Any]) -> None:
    given["changes"] = {"counts": [{**DOCUMENT["counts"][0], "num_failed": 13}]}
    assert "bah-simple" in call(status=1)
    assert json.loads(call("--json", status=1))["counts"][0]["num_failed"] == 13


def test_a_wrong_setting_is_told(given: dict[str, Any]) -> None:
    assert "no split is named 'tset'" in call("--split", "tset", status=2)
    assert "did you mean 'window'" in call("--set", "zero_shot.windw=8", status=2)
    assert given == {}
