"""`mmpsr evaluate`: its tables, its document, and its exit statuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support import stored_run
from tests.support.starting import after_first_line
from tests.support.worded import without_workers, write_corpus, write_mood
from training.commands.console import app
from training.evaluation import evaluate as full_evaluation
from training.evaluation.evaluate import EvaluationOptions
from training.scoring.rows import Estimate, LeakageEffect, MetricRow

pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_run.finish(tmp_path_factory.mktemp("runs"), apart=True)


def run(*arguments: str, status: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    assert result.exit_code == status, result.output
    return result.stdout, after_first_line(result.stderr)


def test_tables(path: Path) -> None:
    out, err = run(str(path), "--by", "group", "--aggregate", "group")
    assert err == ""
    assert out.startswith("warning (unchecked): the run has no identities.parquet")  # of an earlier version
    for title in (
        "Of clips averaged to one by group",
        "Outputs of different tasks",
        "Figures in percent",
        "By class or trait",
        "By the modalities",
        "By group",
        "calibration error",
    ):
        assert title in out
    assert "bah test, ambivalence: clips by actual (rows) and decided (columns) class" in out
    document = json.loads(run(str(path), "--json")[0])
    row = document["figures"][0]
    line, difference, *_ = (line for line in out.splitlines() if "mMF1" in line)
    assert f"{row['value']:.2f}" in line
    assert f"[{row['low']:.2f}, {row['high']:.2f}]" in line
    assert f"{row['over_linear']['value']:+.2f}" in difference
    assert f"{row['over_linear']['corrected_p']:.3f}" in difference


def test_coverage_is_asked_and_told(path: Path) -> None:
    out = run(str(path), "--coverage", "0.75")[0]
    assert "Coverage of sets and intervals that were asked to hold the truth 75 % of the time" in out
    row = next(row for row in json.loads(run(str(path), "--coverage", "0.75", "--json")[0])["coverage"]["rows"]
               if row["task"] == "ambivalence")  # fmt: skip
    (line,) = (line for line in out.splitlines() if "ambivalence" in line and f"{row['size']:.2f} of 2" in line)
    assert f"{row['value']:.2f}" in line
    assert f"[{row['low']:.2f}, {row['high']:.2f}]" in line
    assert "bah test, ambivalence: 75 % is promised for new groups like the dev groups of bah (4)" in out
    assert "exchangeable with the dev groups of the same corpus" in " ".join(out.split())
    assert "--coverage is a chance from 0.5 to 0.99, found 1.2" in run(str(path), "--coverage", "1.2", status=2)[1]


def test_the_document_is_strict_json(path: Path) -> None:
    out, err = run(str(path), "--split", "dev", "--json")
    document = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    assert err == ""
    assert document["run"] == str(path)
    assert {row["split"] for row in document["figures"]} == {"dev"}
    assert set(document) == {
        "run", "config", "leakage", "level", "num_resamples", "column", "figures", "classes", "confusion",
        "calibration", "presence", "novelty", "by", "whole", "aggregated", "subsets", "adapted",
        "correlations", "coverage",
    }  # fmt: skip


def test_what_cannot_be_evaluated(path: Path, tmp_path: Path) -> None:
    out, err = run(str(tmp_path), status=2)
    assert out == ""
    assert err.endswith("has no config.json: name the folder of a finished run")
    assert "no labelled clip of split 'tset' was evaluated; did you mean 'test'?" in run(
        str(path), "--split", "tset", status=2
    )[1]  # fmt: skip


def test_several_seeds(path: Path) -> None:
    other = stored_run.finish(path.parents[1], seed=1, apart=True)  # beside the first, of the same corpora
    options = ("--corpus", "mosei")
    document = json.loads(run(str(path), str(other), *options, "--json")[0])
    assert (document["runs"], document["seeds"]) == ([str(path), str(other)], [0, 1])
    row = document["over_seeds"][0]
    alone = json.loads(run(str(other), *options, "--json")[0])
    assert document["evaluations"][1] == alone
    assert row["values"] == [each["figures"][0]["value"] for each in document["evaluations"]]
    out = run(str(path), str(other), *options)[0]
    assert "Mean and standard deviation over 2 seeds" in out
    line = next(line for line in out.splitlines() if "mMF1" in line)
    assert f"{row['mean']:.2f}" in line
    assert f"{row['deviation']:.2f}" in line
    assert "both have seed 0" in run(str(path), str(path), status=2)[1]


def test_what_leaks_is_printed_first_with_its_effect(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = MetricRow("bah", "test", "ambivalence", "uar", 9, 3, Estimate(81.0, 70.0, 90.0))
    unseen = replace(row, model=Estimate(72.5, 70.0, 90.0), num_clips=5, num_groups=2)
    found = {
        "checked": True,
        "findings": [
            {"kind": "trained_clip", "severity": "error", "message": "trained on 3"},
            {"kind": "group", "severity": "warning", "message": "4 of 9 share"},
        ],
        "effects": [LeakageEffect("group", row, unseen), LeakageEffect("text", row, None)],
    }
    monkeypatch.setattr(full_evaluation, "guard", lambda *_: found)
    lines = run(str(path))[0].splitlines()
    assert lines[:2] == ["LEAKAGE (trained_clip): trained on 3", "warning (group): 4 of 9 share"]
    group, text = (next(line for line in lines if f"│ {kind} " in line) for kind in ("group", "text"))
    assert [cell.strip() for cell in group.split("│")[5:-1]] == [
        "UAR", "9", "81.00", "[70.00, 90.00]", "5", "72.50", "[70.00, 90.00]",
    ]  # fmt: skip
    assert [cell.strip() for cell in text.split("│")[8:-1]] == ["[70.00, 90.00]", "0", "-", ""]


def test_the_options_reach_the_evaluation(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(full_evaluation, "evaluate", lambda *arguments: given.append(arguments) or {"run": "r"})
    options = ["--config", "a.toml", "--set", "a.b=1", "--corpus", "c", "--corpus", "d", "--split", "dev", "--by", "e"]
    options += ["--aggregate", "f", "--subsets", "--adapt"]
    assert json.loads(run("r", *options, "--allow-trained", "--json")[0]) == {"run": "r"}
    expected = EvaluationOptions("dev", "e", "f", Path("a.toml"), ("a.b=1",), ("c", "d"), True, True, True)
    assert given == [(Path("r"), expected)]


def test_ctrl_c_ends_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(full_evaluation, "evaluate", stop)
    assert run("r", status=130) == ("", "stopped; vectors made so far are kept, and the same command begins again")


def test_class_texts_are_evaluated_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_workers(monkeypatch)
    mood, config = write_mood(tmp_path), str(write_corpus(tmp_path))
    out, _ = run("--task-texts", mood, "--config", config)
    assert "mood: Zero-shot by the texts of " in out
    assert "By class or trait" in out
    document = json.loads(run("--task-texts", mood, "--config", config, "--all-wordings", "--json")[0])
    assert [row["metric"] for row in document["figures"]] == ["uar"]
    assert {row["wordings"] for row in document["wordings"]} > {"names", "phrases"}
    table, _ = run("--task-texts", mood, "--config", config, "--all-wordings")
    assert "the usual ones together" in table
    assert "By class or trait" not in table
    one, _ = run("--zero-shot", "--task-texts", mood, "--config", config, "--wordings", "behaviors")
    assert "(described behaviour with behaviors;" in " ".join(one.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: there is nothing to evaluate; name a finished run, or give --zero-shot, which needs none"),
        (["--zero-shot"], "error: name the corpora to evaluate class texts on with --config"),
        (["run", "--zero-shot", "--config", "c.toml"], "error: run: class texts are evaluated without a run"),
        (["--task-texts", "emotion", "--config", "c.toml", "--subsets"], "error: --subsets is of a run's figures"),
        (["run", "--wordings", "names"], "error: --wordings is of class texts; give --zero-shot or --task-texts"),
        (["--zero-shot", "--config", "demo", "--wordings", "nouns"], "error: --wordings: no wording is named 'nouns'"),
    ],
)
def test_class_texts_that_cannot_be_evaluated(arguments: list[str], message: str) -> None:
    assert message in run(*arguments, status=2)[1]
