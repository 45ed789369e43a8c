"""Figures broken down: adapted to the labels of new data, and aggregated over clips."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mmpsr.calibration.label_shift import LabelShift
from mmpsr.metrics.definitions import evaluate as metrics_of
from mmpsr.tasks import AMBIVALENCE, BUILTIN_TASKS, TaskSpec
from tests.support import stored_run
from training.commands.console import app
from training.evaluation.breakdowns import adapted_rows, aggregate, aggregated_rows
from training.runs.directory import RunError
from training.runs.stored import RunPredictions, TaskSplit
from training.scoring.rows import plain

pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_run.finish(tmp_path_factory.mktemp("runs"))


def repeated(path: Path, times: int = 20) -> list[TaskSplit]:
    """The parts of a run with every clip several times, since the small corpora have few."""
    return [part.take(np.tile(np.arange(len(part.clips)), times)) for part in RunPredictions.read(path).parts()]


def test_figures_of_the_shifted_predictions(path: Path) -> None:
    parts = repeated(path)
    rows = plain({"adapted": list(adapted_rows(parts, {}, ("mosei", "fiv2", "bah")))})["adapted"]
    assert {(row["corpus"], row["task"]) for row in rows} == {("meld", "emotion")}
    assert [row["metric"] for row in rows] == ["macro_f1", "weighted_f1", "uar"]
    (part,) = (part for part in parts if part.corpus == "meld")
    shift = LabelShift.fit(part.predicted, "softmax")
    expected = metrics_of(part.targets, shift.apply(part.predicted), part.spec, part.metrics)
    assert [row["value"] for row in rows] == pytest.approx(list(expected.values()))
    assert [row["before"] for row in rows] == pytest.approx(list(part.figures().values()))
    assert list(rows[0]["shares"].values()) == pytest.approx(shift.shares)
    assert expected != pytest.approx(part.figures())


def test_no_label_is_read(path: Path) -> None:
    (part,) = (part for part in repeated(path) if part.corpus == "meld")
    other = replace(part, targets=part.targets[::-1].copy())
    found, again = (plain({"adapted": list(adapted_rows([each], {}, ()))})["adapted"][0] for each in (part, other))
    assert found["shares"] == again["shares"]
    assert found["value"] != again["value"]


def test_the_linear_baseline_is_fitted_likewise(path: Path) -> None:
    (part,) = (part for part in repeated(path) if part.corpus == "meld")
    (row, *_) = plain({"adapted": list(adapted_rows([part], {("meld", part.split, "emotion"): part}, ()))})["adapted"]
    assert row["linear"]["value"] == row["value"] != row["before"]
    assert row["over_linear"]["value"] == 0.0


def test_few_clips_are_left_alone(path: Path) -> None:
    (part,) = (part for part in repeated(path) if part.corpus == "meld")
    (row,) = plain({"adapted": list(adapted_rows([part.take(np.arange(29))], {}, ()))})["adapted"]
    assert row == {**part.key, "reason": "29 clips, fewer than 30"}


@pytest.mark.slow
def test_command(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*options: str) -> str:
        result = CliRunner().invoke(app, ["evaluate", str(path), *options])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert json.loads(run("--json"))["adapted"] == []
    assert "fewer than 30" in run("--adapt")
    monkeypatch.setattr("training.evaluation.breakdowns.MIN_CLIPS", 2)
    rows = json.loads(run("--adapt", "--json"))["adapted"]
    assert {row["corpus"] for row in rows} == {"meld"}
    assert all("corrected_p" in row["over_linear"] for row in rows)
    out = run("--adapt")
    assert "Not zero-shot: one class per clip" in out
    lines = out[out.index("Not zero-shot") :].splitlines()
    cells = [cell.strip() for cell in next(line for line in lines if " MF1 " in line).split("│")[1:-1]]
    assert cells[5:7] == [f"{rows[0]['before']:.2f}", f"{rows[0]['value']:.2f}"]
    share = next(iter(rows[0]["shares"].values()))
    assert f"meld dev, emotion: Neutral {100 * share:.0f} %" in out


@pytest.mark.slow
def test_several_seeds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.evaluation.breakdowns.MIN_CLIPS", 2)
    other = stored_run.finish(path.parents[1], seed=1)  # beside the first, of the same corpora
    options = ["evaluate", str(path), str(other), "--corpus", "meld", "--adapt"]
    document = json.loads(CliRunner().invoke(app, [*options, "--json"]).stdout)
    found = [each["adapted"][0]["value"] for each in document["evaluations"]]
    row = document["adapted_over_seeds"][0]
    assert (row["metric"], row["values"]) == ("macro_f1", found)
    assert row["mean"] == pytest.approx(np.mean(found))
    out = CliRunner().invoke(app, options).stdout
    assert f"{row['mean']:.2f}" in out[out.index("Not zero-shot") :]


NAN = float("nan")


def part(spec: TaskSpec, targets: list[list[float]], predicted: list[list[float]], groups: list[str]) -> TaskSplit:
    clips = pd.DataFrame({"clip_id": [f"c{index}" for index in range(len(groups))], "group": groups})
    return TaskSplit("bah", "test", "task", spec, ("macro_f1",), clips, np.array(targets), np.array(predicted), None)


def test_videos_of_frames_by_hand() -> None:
    # Video b: frames absent, present: present; mean (0.6 + 0.3) / 2 = 0.45. Video a: one absent frame.
    frames = part(AMBIVALENCE, [[1, 0], [1, 0], [0, 1]], [[0.4, 0.6], [0.9, 0.1], [0.7, 0.3]], ["p1", "p2", "p1"])
    videos = aggregate(frames, pd.Series(["b", "a", "b"]))
    assert videos.clips[["clip_id", "group"]].to_numpy().tolist() == [["a", "p2"], ["b", "p1"]]
    assert videos.targets.tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(videos.predicted, [[0.9, 0.1], [0.55, 0.45]])
    # a is right, b is decided absent: F1 of absent 2/3, of present 0.
    row = next(aggregated_rows(frames, pd.Series(["b", "a", "b"])))
    assert (row.model.value, row.num_clips, row.num_wholes) == (pytest.approx(100 / 3), 3, 2)


def test_labels_of_the_other_kinds() -> None:
    moods = BUILTIN_TASKS["emotion"].model_copy(
        update={"kind": "single_label", "classes": ("a", "b", "c"), "neutral": None}
    )
    whole = pd.Series(["v", "v", "v"])
    found = aggregate(part(moods, [[0, 1, 0], [0, 0, 1], [0, 1, 0]], [[0.2, 0.5, 0.3]] * 3, ["g"] * 3), whole)
    assert found.targets.tolist() == [[0, 1, 0]]  # most frequent
    several = moods.model_copy(update={"kind": "multi_label"})
    found = aggregate(part(several, [[0, 0.2, 0], [0, 0.5, 1], [0, 0, 0]], [[0.2, 0.5, 0.3]] * 3, ["g"] * 3), whole)
    assert found.targets.tolist() == [[0, 0.5, 1]]  # each at its strongest
    traits = BUILTIN_TASKS["personality"].model_copy(update={"classes": ("a", "b", "c")})
    found = aggregate(
        part(traits, [[0.2, NAN, NAN], [0.4, NAN, 0.5], [0.6, NAN, NAN]], [[0.5] * 3] * 3, ["g"] * 3), whole
    )
    np.testing.assert_allclose(found.targets, [[0.4, NAN, 0.5]])  # the mean of those that are known


def test_clips_without_a_whole_stay_for_themselves() -> None:
    frames = part(AMBIVALENCE, [[1, 0]] * 3, [[0.9, 0.1]] * 3, ["g"] * 3)
    found = aggregate(frames, pd.Series(["v", None, None]))
    assert found.clips["clip_id"].tolist() == ["c1", "c2", "v"]


def test_wholes_across_groups_are_refused() -> None:
    frames = part(AMBIVALENCE, [[1, 0]] * 2, [[0.9, 0.1]] * 2, ["g", "h"])
    with pytest.raises(RunError, match="--aggregate: 'v' of bah has clips of several groups"):
        aggregate(frames, pd.Series(["v", "v"]))
