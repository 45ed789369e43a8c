"""Figures of frames and clips, from stored predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from tests.support.in_time import WIDTHS, planted
from tests.training.in_time.test_fit import config
from training.in_time.command import evaluate_command
from training.in_time.figures import prediction_table, results_of, results_over_seeds
from training.in_time.tables import result_table
from training.runs.directory import RunError
from training.scoring.tables import metric_name


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Four clips of two participants at 2 frames a second, so that a second is two frames."""
    (tmp_path / "config.json").write_text(json.dumps(config(tmp_path).model_dump(mode="json")))
    pd.DataFrame({
        "corpus": "own", "split": "test", "clip_id": list("abcd"), "group": ["p", "p", "q", "q"], "rate": "2",
        "label": np.array([1, 0, 1, -1], np.int8),
        "labels": [[0, 1, 1], [0, 0, 0], [1, 0, -1], [-1, -1, -1]],
        "model": [[0.1, 0.6, 0.8], [0.2, 0.7, 0.2], [0.7, 0.6, 0.9], [0.9] * 3],
        "linear": [[0.1, 0.4, 0.8], [0.7, 0.7, 0.2], [0.7, 0.6, 0.9], [0.9] * 3],
    }).to_parquet(tmp_path / "predictions.parquet")  # fmt: skip
    return tmp_path


def test_frames_are_pooled_and_clips_take_their_highest_second(run: Path) -> None:
    rows = {(row["level"], row["metric"]): row for row in results_of(run)}
    frames = rows["frame", "positive_f1"]
    # decided present: a 2, b 1, c 2 of the known frames; present: a 2, c 1, all three found: 2 * 3 / (2 * 3 + 2 + 0)
    assert (frames["model"], frames["num_frames"], frames["num_clips"], frames["num_groups"]) == (75.0, 8, 3, 2)
    assert frames["linear"] == pytest.approx(100 * 4 / (4 + 3 + 1))
    assert frames["over_linear"] == pytest.approx(25.0)
    assert (frames["absent"], frames["present"]) == (0.0, pytest.approx(100 * 6 / 11))
    assert frames["chance"] == frames["present"]
    # found and true frames: a both 1-2, b found 1, c both 0 and found 1: 3 shared of 5 in either
    assert rows["frame", "frame_iou"]["model"] == pytest.approx(60.0)
    assert ("clip", "frame_iou") not in rows
    clips = rows["clip", "positive_f1"]
    # highest means of two frames: a 0.7, b 0.45, c 0.75; d has no label of its own
    assert (clips["model"], clips["num_clips"]) == (100.0, 3)
    # of the linear baseline b has 0.7, which is more than 0.5
    assert clips["linear"] == pytest.approx(80.0)
    assert clips["low"] <= clips["model"] <= clips["high"]


def test_the_table_says_what_is_counted(run: Path) -> None:
    table = result_table(results_of(run))
    counted = list(table.columns[2].cells)
    assert counted == ["8 frames", *[""] * 7, "3 clips", *[""] * 4]
    assert list(table.columns[3].cells)[3] == metric_name("bah_average_precision") == "AP (BAH)"


def test_predictions_are_stored_by_clip(tmp_path: Path) -> None:
    data = planted(tmp_path)[1]
    probs = [np.full(60, 0.25, np.float32), np.full(60, 0.75, np.float32)]
    table = prediction_table(data, [4, 23], probs, probs[::-1])
    assert table[["corpus", "split", "clip_id", "group", "rate", "label"]].to_numpy().tolist() == [
        ["own", "train", "clip04", "p2", "10", 1], ["own", "test", "clip23", "p11", "10", 0],
    ]  # fmt: skip
    table.to_parquet(tmp_path / "predictions.parquet")
    again = pd.read_parquet(tmp_path / "predictions.parquet")
    assert again["labels"][0].tolist() == data.labels[4].tolist()
    assert again["linear"][0].tolist() == [0.75] * 60
    assert set(WIDTHS) == set(data.widths)


def test_runs_are_compared_seed_by_seed() -> None:
    place = {"corpus": "own", "split": "test", "level": "frame", "metric": "positive_f1"}
    seeds = [(50.0, 40.0), (60.0, None), (None, 10.0), (70.0, 50.0)]
    (row,) = results_over_seeds([[{**place, "model": ours, "linear": theirs}] for ours, theirs in seeds])
    assert row["model"] == pytest.approx(60.0)  # of 50, 60, 70
    assert row["linear"] == pytest.approx(100 / 3)
    assert row["over_linear"] == pytest.approx(15.0)  # of 50 - 40 and 70 - 50; not of 60 - 10
    assert (row["over_linear_low"], row["over_linear_high"]) == pytest.approx(
        (-48.53, 78.53), abs=0.01
    )  # 12.706 sd / sqrt 2
    [wide] = results_over_seeds([[{**place, "model": ours, "linear": 5.0}] for ours in (99.0, 60.0)])
    assert (wide["low"], wide["high"], wide["over_linear_low"], wide["over_linear_high"]) == (0.0, 100.0, -100.0, 100.0)


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    tree = json.loads((run / "config.json").read_text())
    tree["training"]["seed"] = 1
    second = {**tree, "corpora": {**tree["corpora"], "sources": {**tree["corpora"]["sources"]}}}
    second["corpora"]["sources"]["more"] = tree["corpora"]["sources"]["own"]
    (other / "config.json").write_text(json.dumps(tree))
    (run / "config.json").write_text(json.dumps(second))  # the first has a corpus more
    with pytest.raises(RunError, match=r"other differs from .* in corpora\.sources\.more"):
        evaluate_command([run, other], None, True, [], Console())
    (other / "config.json").unlink()
    with pytest.raises(RunError, match="other is no run of a model in time"):
        evaluate_command([run, other], None, True, [], Console())
