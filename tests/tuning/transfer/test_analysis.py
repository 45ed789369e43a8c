"""Do tasks help each other: figures against `compare` of the same runs, trajectories by hand, errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.support import stored_run
from training.evaluation.compare import compare_runs
from training.runs.directory import RunError
from training.runs.stored import RunPredictions
from tuning.console import app
from tuning.transfer.analysis import _verdict, find_runs, transfer_report


def record(epoch: int, weight: float, cosine: float | None, share: float) -> dict[str, object]:
    terms = {"supervised/emotion": {"loss": 1.0, "weight": weight}}
    found: dict[str, object] = {"epoch": epoch, "step": epoch, "terms": terms, "accepted": {"emotion": {"a": share}}}
    if cosine is not None:
        found["gradient_cosines"] = {"supervised/emotion": {"supervised/personality": cosine}}
    return found


def write_log(run: Path, *records: dict[str, object]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Emotion and personality, jointly with two seeds and alone with one."""
    folder = tmp_path_factory.mktemp("transfer")
    for active, seeds in ((["emotion", "personality"], (0, 1)), (["emotion"], (2,)), (["personality"], (4,))):
        for seed in seeds:
            run = stored_run.finish(folder / "-".join(active) / str(seed), seed, tasks={"active": active})
            write_log(run, record(1, 1.0, None, float("nan")))
    joint = sorted((folder / "emotion-personality").glob("*/small/*"))
    write_log(joint[0], record(1, 1.0, -0.5, 0.2), record(2, 0.5, None, 0.4))
    write_log(joint[1], record(1, 2.0, 0.1, 0.4))
    return folder


def test_one_seed_is_what_compare_says(runs: Path, tmp_path: Path) -> None:
    for name in ("emotion-personality/0", "emotion/2", "personality/4"):
        shutil.copytree(runs / name, tmp_path / name)
    report = transfer_report(find_runs(tmp_path), None)
    joint, alone = (RunPredictions.read(find_runs(tmp_path / name)[0]) for name in ("emotion-personality", "emotion"))
    expected = {(row["corpus"], row["metric"]): row for row in compare_runs(alone, joint, None)["figures"]}
    found = {(row["corpus"], row["metric"]): row for row in report["figures"] if row["task"] == "emotion"}
    assert found.keys() == expected.keys()
    for place, row in found.items():
        assert row["difference"] == pytest.approx(expected[place]["difference"])
        assert (row["alone"], row["joint"], row["p"]) == pytest.approx(
            (expected[place]["first"], expected[place]["second"], expected[place]["p"])
        )


def test_seeds_are_averaged_and_verdicts_follow_corrected_p(runs: Path) -> None:
    report = transfer_report(find_runs(runs), None)
    stated: dict[tuple[str, ...], list[float]] = {}
    for path in find_runs(runs):
        tasks = tuple(json.loads((path / "config.json").read_text())["tasks"]["active"])
        for row in json.loads((path / "results.json").read_text()):
            stated.setdefault((*tasks, row["corpus"], row["split"], row["task"], row["metric"]), []).append(
                row["model"]
            )
    assert {row["task"] for row in report["figures"]} == {"emotion", "personality"}
    for row in report["figures"]:
        place = (row["corpus"], row["split"], row["task"], row["metric"])
        joint, alone = stated["emotion", "personality", *place], stated[row["task"], *place]
        assert (len(joint), row["num_seeds"], len(alone), row["num_seeds_alone"]) == (2, 2, 1, 1)
        assert row["joint"] == pytest.approx(np.mean(joint))
        assert row["difference"]["value"] == pytest.approx(np.mean(joint) - np.mean(alone))
        direction = "helped" if row["joint"] > row["alone"] else "hurt"
        assert row["verdict"] == ("undecided" if row["corrected_p"] >= 0.05 else direction)
        assert row["corrected_p"] >= row["p"]


@pytest.mark.parametrize(
    ("p", "difference", "verdict"),
    [(0.049, 1.0, "helped"), (0.049, -1.0, "hurt"), (0.05, 1.0, "undecided"), (None, None, "undecided")],
)
def test_verdicts(p: float | None, difference: float | None, verdict: str) -> None:
    assert _verdict({"corrected_p": p, "difference": {"value": difference}}) == verdict


def test_trajectories_are_means_over_the_seeds_that_reached_an_epoch(runs: Path) -> None:
    report = transfer_report(find_runs(runs), None)
    both = ("emotion", "personality")
    (conflict,) = report["conflicts"]
    # epoch 1: (-0.5 + 0.1) / 2; no seed looked in epoch 2
    assert conflict == {
        "tasks": both, "first": "supervised/emotion", "second": "supervised/personality", "epochs": [1],
        "values": [pytest.approx(-0.2)],
    }  # fmt: skip
    (weights,) = [each for each in report["weights"] if each["tasks"] == both]
    assert (weights["term"], weights["epochs"], weights["values"]) == ("supervised/emotion", [1, 2], [1.5, 0.5])
    (accepted,) = report["accepted"]  # shares that are no numbers, of the single runs, are left out
    assert (accepted["task"], accepted["values"]) == ("emotion", [pytest.approx(0.3), 0.4])


def transfer(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["transfer", *map(str, arguments)], catch_exceptions=False)


def test_what_it_prints(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = transfer(runs)
    assert result.exit_code == 0
    out = result.stdout
    assert "with personality" in out
    assert "supervised/emotion" in out
    assert "1 of 1" in out  # epochs below 0
    assert "2 / 1" in out
    assert "\\[" not in out
    result = transfer(runs, "--split", "dev", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert {row["split"] for row in document["figures"]} == {"dev"}


def test_what_cannot_be_compared_is_told(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = transfer(tmp_path / "empty")
    assert result.exit_code == 2
    assert "holds no finished run" in result.stderr
    with pytest.raises(RunError, match="there is no run with several tasks"):
        transfer_report(find_runs(runs / "emotion"), None)
    with pytest.raises(RunError, match="there is no run of personality alone"):
        transfer_report([*find_runs(runs / "emotion"), *find_runs(runs / "emotion-personality")], None)
    shutil.copytree(runs, tmp_path / "runs")
    (changed,) = find_runs(tmp_path / "runs" / "personality")
    table = RunPredictions.read(changed).table
    table.loc[table.index[table["corpus"].eq("fiv2") & table["split"].eq("test")][0], "group"] = "another"
    table.to_parquet(changed / "predictions.parquet", index=False)
    with pytest.raises(RunError, match="the runs have different groups"):
        transfer_report(find_runs(tmp_path / "runs"), None)
