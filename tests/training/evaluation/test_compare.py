"""`mmpsr compare`: differences on common clips, their tests and correction, and runs that cannot be compared."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mmpsr.metrics.paired_tests import holm, mcnemar, wilcoxon
from tests.support import stored_run
from training.commands.console import app
from training.evaluation import compare as compare_command
from training.evaluation.compare import compare_runs
from training.evaluation.figures import decided_classes, split_parts
from training.runs.directory import RunError
from training.runs.stored import RunPredictions


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return stored_run.finish(folder, seed=0), stored_run.finish(folder, seed=1)


@pytest.fixture
def runs(paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[RunPredictions, RunPredictions]:
    monkeypatch.setattr(compare_command, "NUM_RESAMPLES", 300)
    return RunPredictions.read(paths[0]), RunPredictions.read(paths[1])


def figure(found: dict[str, Any], corpus: str, metric: str) -> dict[str, Any]:
    return next(row for row in found["figures"] if (row["corpus"], row["metric"]) == (corpus, metric))


def without(run: RunPredictions, clips: list[str]) -> RunPredictions:
    return replace(run, table=run.table[~run.table["clip_id"].isin(clips)])


def test_differences_are_those_of_the_figures(runs: tuple[RunPredictions, RunPredictions]) -> None:
    found = compare_runs(*runs, None)
    results = [{tuple(list(row.values())[:4]): row["model"] for row in run.results()} for run in runs]
    assert len(found["figures"]) == 2 + 2 + 2 + 3
    for row in found["figures"]:
        place = tuple(row[name] for name in ("corpus", "split", "task", "metric"))
        assert (row["first"], row["second"]) == pytest.approx((results[0][place], results[1][place]))
        assert row["difference"]["value"] == pytest.approx(row["second"] - row["first"])
        assert row["num_clips"] == row["num_first"] == row["num_second"]
    for rows in (found["figures"], found["clips"]):
        assert [row["corrected_p"] for row in rows] == pytest.approx(holm([row["p"] for row in rows]))


def test_a_run_does_not_differ_from_itself(runs: tuple[RunPredictions, RunPredictions]) -> None:
    found = compare_runs(runs[0], runs[0], None)
    assert all(row["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0} for row in found["figures"])
    assert all(row["corrected_p"] == pytest.approx(1.0) for row in (*found["figures"], *found["clips"]))


def test_clips_are_tested_by_the_kind_of_decision(runs: tuple[RunPredictions, RunPredictions]) -> None:
    tests = {row["corpus"]: row for row in compare_runs(*runs, None)["clips"]}
    assert {corpus: row["test"] for corpus, row in tests.items()} == {
        "mosei": "Wilcoxon", "fiv2": "Wilcoxon", "bah": "McNemar", "meld": "McNemar",
    }  # fmt: skip
    parts = [{part.corpus: part for part in split_parts(run, None)} for run in runs]
    errors = [np.abs(part["fiv2"].predicted - part["fiv2"].targets).mean(axis=1) for part in parts]
    assert tests["fiv2"]["p"] == pytest.approx(wilcoxon(*errors))
    right = [decided_classes(part["meld"]) == part["meld"].targets.argmax(axis=1) for part in parts]
    expected = mcnemar(*right)
    assert tests["meld"]["p"] == expected.p
    assert (tests["meld"]["only_first"], tests["meld"]["only_second"]) == (expected.only_first, expected.only_second)


def test_only_common_clips_count_in_any_order(runs: tuple[RunPredictions, RunPredictions]) -> None:
    first, second = runs
    part = next(part for part in split_parts(second, "test") if part.corpus == "bah")
    gone = part.clips["clip_id"].tolist()[:3]
    shuffled = replace(second, table=second.table.sample(frac=1.0, random_state=0))
    row = figure(compare_runs(first, without(shuffled, gone), None), "bah", "macro_f1")
    expected = figure(compare_runs(without(first, gone), without(second, gone), None), "bah", "macro_f1")
    assert (row["num_clips"], row["num_first"], row["num_second"]) == (5, 8, 5)
    for name in ("first", "second", "p", "difference"):
        assert row[name] == expected[name]


def test_tables_and_document(paths: tuple[Path, Path], runs: tuple[RunPredictions, RunPredictions]) -> None:
    arguments = ["compare", *map(str, paths)]
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (document["first"], document["second"]) == tuple(map(str, paths))
    out = CliRunner().invoke(app, arguments).stdout
    row = figure(document, "fiv2", "mean_ccc")
    line = next(line for line in out.splitlines() if "mCCC" in line)
    difference = row["difference"]
    assert f"{difference['value']:+.2f}" in line
    assert f"[{difference['low']:+.2f}, {difference['high']:+.2f}]" in line
    assert "p corrected over the rows of its table (Holm)" in out
    out = " ".join(out.split())
    groups = figure(document, "bah", "uar")["num_groups"]
    assert f"bah ambivalence ({groups})" in out
    assert "Intervals and p from so few are unsure themselves." in out


def test_p_and_interval_of_a_difference_say_the_same(runs: tuple[RunPredictions, RunPredictions]) -> None:
    for row in compare_runs(*runs, None)["figures"]:
        low, high = row["difference"]["low"], row["difference"]["high"]
        assert (row["p"] < 0.05) == (low > 0 or high < 0)
        assert -200 <= low <= high <= 200
        assert row["metric"] == "mean_ccc" or -100 <= low <= high <= 100


def test_clips_of_one_run_only_are_told(
    paths: tuple[Path, Path], runs: tuple[RunPredictions, RunPredictions], tmp_path: Path
) -> None:
    copy = shutil.copytree(paths[1], tmp_path / "copy")
    without(runs[1], ["clip114"]).table.to_parquet(copy / "predictions.parquet")
    out = CliRunner().invoke(app, ["compare", str(paths[0]), str(copy)]).stdout
    assert "bah, ambivalence: some clips were evaluated by one run only and are left out" in out


def test_runs_that_cannot_be_compared(paths: tuple[Path, Path], runs: tuple[RunPredictions, RunPredictions]) -> None:
    first, second = runs
    table = second.table.copy()
    clip = table.loc[table["corpus"].eq("fiv2") & table["split"].eq("test"), "clip_id"].iloc[1]
    table.loc[table["clip_id"].eq(clip), "personality.openness"] = 0.125
    with pytest.raises(RunError, match=rf"fiv2, test, personality: the label of 1 common clip\(s\).*first of {clip}"):
        compare_runs(first, replace(second, table=table), "test")
    regrouped = second.table.assign(group="all")
    with pytest.raises(RunError, match=r"mosei, test, emotion: the group of 12 common"):
        compare_runs(first, replace(second, table=regrouped), "test")
    with pytest.raises(RunError, match="have no labelled clip and metric in common"):
        compare_runs(first, replace(second, table=second.table.assign(clip_id=second.table["clip_id"] + "x")), "test")
    result = CliRunner().invoke(app, ["compare", str(paths[0]), str(Path(__file__).parent)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "has no config.json" in result.stderr
