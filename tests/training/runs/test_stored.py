"""A run read back from disk: every row of its results made again, and what is said of runs that cannot be read."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mmpsr.calibration.calibration import Calibration
from mmpsr.config import ConfigError
from mmpsr.metrics.definitions import METRICS
from mmpsr.tasks import AMBIVALENCE
from tests.support import joined as small
from tests.support import stored_run
from training.bundle.bundle import read_bundle, write_bundle
from training.runs.directory import RunError
from training.runs.stored import RunPredictions, TaskSplit, add_predictions
from training.runs.trained import TrainedModel
from training.scoring.scores import deviations, evaluate_rows, predict

PLACE = ("corpus", "split", "task", "metric")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_run.finish(tmp_path_factory.mktemp("runs"), training={"calibration": "thresholds"})


def test_every_row_of_the_results_is_made_again(path: Path) -> None:
    stated = json.loads((path / "results.json").read_text())
    made = RunPredictions.read(path).results()
    places = [tuple(row[name] for name in ("corpus", "split", "task", "metric")) for row in made]
    by_place = {tuple(row[name] for name in ("corpus", "split", "task", "metric")): row for row in stated}
    assert set(places) == set(by_place)
    assert len(places) == len(stated) > 10
    for place, row in zip(places, made, strict=True):
        for name in ("num_clips", "model", "uncalibrated", "linear", "chance"):
            assert row[name] == pytest.approx(by_place[place][name], abs=1e-9, nan_ok=True), (place, name)


def test_results_are_those_of_the_tensors_that_were_predicted(path: Path) -> None:
    """Against the road of the dev monitor: predictions of a model in memory, scored by `evaluate_rows`."""
    trained, clips = TrainedModel.read(path), small.joined()
    clips.clips.loc[clips.clips["corpus"].eq("meld") & clips.clips["split"].eq("test"), "split"] = "dev"
    corpora = trained.config.corpora
    made = {tuple(row[name] for name in PLACE): row for row in RunPredictions.read(path).results()}
    found = {}
    for split in ("dev", "test"):
        rows = clips.rows(list(small.SIZES), split)
        predicted = predict(trained.model, clips, rows)
        for name, calibration in (("uncalibrated", Calibration()), ("model", trained.calibration)):
            for figure in evaluate_rows(predicted, clips, rows, trained.tasks, corpora, calibration):
                place = (figure.corpus, figure.split, figure.task, figure.metric)
                if name == "uncalibrated" or split == "test" or figure.corpus == "meld":
                    assert made[place][name] == pytest.approx(figure.value, abs=1e-4), (place, name)
                else:
                    assert made[place]["model"] == made[place]["uncalibrated"]  # calibration was fitted on these
                found[place] = figure.num_clips
    assert found == {place: row["num_clips"] for place, row in made.items()}


def test_chance_is_what_shuffled_predictions_give() -> None:
    clips = small.joined()
    rows = np.arange(60)[clips.clips["split"].iloc[:60].eq("train").to_numpy(dtype=bool)]
    targets, spec = clips.labels["emotion"].numpy()[rows].astype(np.float64), small.tasks()["emotion"]
    table = clips.clips.iloc[rows].reset_index(drop=True)
    part = TaskSplit("mosei", "train", "emotion", spec, ("macro_f1",), table, targets, targets, None)
    assert 3 < part.chance("macro_f1") < 35  # seven classes; perfect predictions dealt out at random
    generator = np.random.default_rng(0)
    values = [METRICS["macro_f1"](targets, targets[generator.permutation(len(rows))], spec, None) for _ in range(20)]
    assert part.chance("macro_f1") == pytest.approx(np.mean(values))


def test_calibration_counts_everywhere_but_on_the_clips_it_was_fitted_on(path: Path) -> None:
    run = RunPredictions.read(path)
    parts = {(part.corpus, part.split): part for part in run.parts()}
    plain = {(part.corpus, part.split): part for part in run.parts("uncalibrated")}
    fitted, zero_shot = parts["mosei", "dev"], parts["meld", "dev"]
    assert fitted.thresholds is None
    assert zero_shot.thresholds is not None
    np.testing.assert_array_equal(fitted.predicted, plain["mosei", "dev"].predicted)
    expected = run.calibration.apply("emotion", plain["meld", "dev"].predicted)
    assert not np.allclose(expected, plain["meld", "dev"].predicted)
    np.testing.assert_array_equal(zero_shot.predicted, expected)
    linear = next(run.parts("linear"))
    assert (linear.task, linear.spec.loss) == ("emotion", "binary_cross_entropy")


def test_predictions_are_added_row_by_row_in_full_precision() -> None:
    table = pd.DataFrame({"clip_id": ["a", "b"]})
    predicted = {"ambivalence": np.array([[0.1, 0.9], [1 / 3, 2 / 3]])}
    found = add_predictions(table, "linear", predicted, {"ambivalence": AMBIVALENCE})
    assert list(found) == ["clip_id", "linear.ambivalence.absent", "linear.ambivalence.present"]
    assert found["linear.ambivalence.present"].tolist() == [0.9, 2 / 3]


def test_parts_of_parts_and_clips_without_a_group() -> None:
    clips = pd.DataFrame({"clip_id": ["a", "b", "c"], "group": pd.array(["x", pd.NA, "x"], dtype="string")})
    targets = np.eye(2)[[0, 1, 1]]
    part = TaskSplit("mine", "test", "ambivalence", AMBIVALENCE, ("uar",), clips, targets, np.eye(2)[[0, 1, 0]], None)
    assert part.groups.tolist() == ["x", "clip b", "x"]
    assert part.figures() == {"uar": 75.0}  # recalls 1 of 1 and 1 of 2
    for rows in (np.array([False, True, True]), np.array([1, 2])):
        some = part.take(rows)
        assert (some.clips["clip_id"].tolist(), some.clips.index.tolist()) == (["b", "c"], [0, 1])
        assert some.figures() == {"uar": 50.0}


def test_runs_that_cannot_be_read(path: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere is no run directory"):
        RunPredictions.read(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"has no config.json: name the folder of a finished run"):
        RunPredictions.read(tmp_path)
    (tmp_path / "demo" / "1").mkdir(parents=True)
    (tmp_path / "demo" / "1" / "config.json").touch()
    for folder in (tmp_path, tmp_path / "nowhere"):  # a folder above those of runs, and a misspelt one
        with pytest.raises(RunError, match=r"name the folder of a finished run; runs are in .*demo$"):
            RunPredictions.read(folder)
    copy = shutil.copytree(path, tmp_path / "copy")
    table = pd.read_parquet(copy / "predictions.parquet")
    table.drop(columns="uncalibrated.emotion.Fear").to_parquet(copy / "predictions.parquet")
    with pytest.raises(RunError, match=r"no column 'uncalibrated.emotion.Fear' \(1 are missing\)"):
        RunPredictions.read(copy)
    (copy / "predictions.parquet").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"predictions.parquet cannot be read"):
        RunPredictions.read(copy)
    (copy / "calibration.json").write_text("{")
    with pytest.raises(RunError, match=r"calibration.json cannot be read"):
        RunPredictions.read(copy)
    (copy / "config.json").write_text('{"trainign": {}}')
    with pytest.raises(ConfigError, match="did you mean 'training'"):
        RunPredictions.read(copy)


def test_a_run_without_the_baseline_s_predictions_has_the_other_figures(path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(path, tmp_path / "copy")
    table = pd.read_parquet(copy / "predictions.parquet")
    table[[name for name in table if not name.startswith("linear.")]].to_parquet(copy / "predictions.parquet")
    run = RunPredictions.read(copy)
    assert not run.has_linear
    row = run.results()[0]
    assert "linear" not in row
    assert math.isfinite(row["model"])


def test_deviations_of_scores_stand_beside_predictions_and_a_bundle_gives_them_again(
    tmp_path: Path, path: Path
) -> None:
    losses = {"personality": {"loss": "gaussian_nll"}, "emotion": {"loss": "soft_binary_cross_entropy"}}
    likely = stored_run.finish(tmp_path / "runs", tasks={"specs": losses})
    table = pd.read_parquet(likely / "predictions.parquet")
    columns = [f"deviation.personality.{trait}" for trait in small.tasks()["personality"].classes]
    assert [name for name in table if name.startswith("deviation.")] == columns
    assert ((table[columns] > 0.01) & (table[columns] < 1.0)).all(axis=None)
    assert not any(name.startswith("deviation.") for name in pd.read_parquet(path / "predictions.parquet"))
    write_bundle(likely, tmp_path / "bundle")
    bundled, clips = read_bundle(tmp_path / "bundle"), small.joined()
    rows = torch.tensor([clips.clips["clip_id"].tolist().index(name) for name in table["clip_id"]])
    found = deviations(bundled.model, clips, rows)["personality"]
    np.testing.assert_allclose(found, table[columns], rtol=1e-5)
    scores = predict(bundled.model, clips, rows)["personality"]
    stored = table[[name.replace("deviation", "uncalibrated") for name in columns]]
    np.testing.assert_allclose(scores, stored, rtol=1e-5)
    assert len(RunPredictions.read(likely).results()) > 10
