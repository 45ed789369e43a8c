"""The first command's system on the full demo: what it learns, what it says of broken clips, and how it survives kills.

The demo and its features are those of the repository's own `data/` folder, made here where they are missing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate import Accelerator
from typer.testing import CliRunner

from corpora.demo.build import MARKER, build_demo
from corpora.registry import read_corpora
from encoders.extraction.extract import extract
from mmpsr.calibration.calibration import Calibration
from mmpsr.config import load_config
from training.config import RunConfig
from training.data.joined import JoinedCorpora, join
from training.data.load import load_clips
from training.fit.loop import train
from training.linear.baseline import LinearBaseline
from training.runs.directory import RunDirectory
from training.runs.stored import RunPredictions, add_predictions
from training.scoring.scores import predict, prediction_table
from tuning.console import app

REPOSITORY = Path(__file__).parents[2]
SEEDS = (0, 1)
pytestmark = pytest.mark.slow


def configuration(*settings: str) -> RunConfig:
    places = [f"corpora.root={REPOSITORY / 'data' / 'demo'}", f"features.store={REPOSITORY / 'data' / 'features'}"]
    return load_config(RunConfig, REPOSITORY / "configs" / "demo.toml", [*places, *settings])


@pytest.fixture(scope="module")
def demo() -> JoinedCorpora:
    config = configuration()
    tasks = config.tasks.resolve()
    clips = load_clips(config, tasks, Accelerator(cpu=True)).clips
    extract(clips, config.features)
    return join(clips, config.features, tasks, config.corpora)


def scores(config: RunConfig, clips: JoinedCorpora, folder: Path, seeds: tuple[int, ...]) -> pd.DataFrame:
    """Test figures of the model, the linear baseline and chance, by task, metric and seed (over all test clips)."""
    tasks = config.tasks.resolve()
    rows = clips.rows(list(config.corpora.sources), "test")
    baseline = LinearBaseline(clips, tasks, config.corpora)
    table, found = add_predictions(prediction_table(clips, tasks, rows), "linear", baseline.predict(rows), tasks), []
    for seed in seeds:
        run = RunDirectory(folder / f"seed{seed}")
        run.path.mkdir()
        seeded = config.model_copy(update={"training": config.training.model_copy(update={"seed": seed})})
        model = train(seeded, clips, tasks, Accelerator(cpu=True), run, lambda message: None, baseline)
        predicted = add_predictions(table, "uncalibrated", predict(model, clips, rows), tasks)
        found += RunPredictions(run.path, seeded, tasks, predicted, Calibration(), Calibration()).results()
    shown = pd.DataFrame(found).rename(columns={"model": "value"})
    return shown.groupby(["corpus", "task", "metric"])[["value", "linear", "chance"]].mean()


@pytest.mark.timeout(1200)
def test_the_model_beats_chance_and_is_not_below_the_linear_baseline(demo: JoinedCorpora, tmp_path: Path) -> None:
    found = scores(configuration(), demo, tmp_path, SEEDS)
    print(found)
    assert set(found.index.get_level_values("corpus")) == {"mosei", "fiv2", "bah", "meld"}
    ahead = (found["value"] - found["linear"]).groupby(level="task").mean()
    assert ahead.mean() > 0, found
    assert (ahead > -0.25).all(), found  # a quarter of a point is less than one clip of 36
    gain = found["value"] - found["chance"]
    least = {
        ("mosei", "multilabel_macro_f1"): 20,
        ("fiv2", "mean_ccc"): 30,
        ("bah", "macro_f1"): 10,
        ("meld", "macro_f1"): 20,
    }
    for (corpus, metric), margin in least.items():
        assert gain.xs((corpus, metric), level=("corpus", "metric")).item() > margin, found


@pytest.mark.timeout(1200)
def test_with_shuffled_labels_it_falls_to_chance(demo: JoinedCorpora, tmp_path: Path) -> None:
    root = tmp_path / "shuffled"
    shutil.copytree(REPOSITORY / "data" / "demo", root)
    marker = json.loads((root / MARKER).read_text())
    (root / MARKER).write_text(json.dumps({**marker, "shuffle_labels": True, "complete": False}))
    build_demo(root, shuffle_labels=True)
    config = configuration(f"corpora.root={root}")
    tasks = config.tasks.resolve()
    clips = read_corpora(config.corpora, tasks).clips
    clips = clips[~(clips["corpus"].eq("meld") & clips["split"].eq("train"))].reset_index(drop=True)
    shuffled = join(clips, config.features, tasks, config.corpora)
    assert shuffled.presence.float().mean() > 0.9  # the media are the same, and so are their vectors
    found = scores(config, shuffled, tmp_path, SEEDS[:1])
    gain = (found["value"] - found["chance"]).drop(index="mean_accuracy", level="metric")
    assert abs(gain.mean()) < 6, found
    assert (gain < 15).all(), found


def test_broken_clips_are_in_the_ledger_and_stay_with_what_they_have(demo: JoinedCorpora) -> None:
    config = configuration()
    summary = extract(demo.clips, config.features, show_progress=False)
    assert summary.num_clips == 0  # everything is reused
    broken = pd.read_csv(REPOSITORY / "data" / "demo" / "broken.csv")
    expected = {
        "no_face": {"video": "no face found", "behavior": "no face found"},
        "truncated": {name: "cannot be opened" for name in ("video", "audio", "behavior")},
        "no_audio": {"audio": "no audio stream"},
        "silent": {"audio": "audio is silent"},
        "no_text": {"text": "no transcript"},
    }
    wanted = {
        (row.corpus, row.clip_id, modality): reason
        for row in broken.itertuples()
        for modality, reason in expected[str(row.broken)].items()
        if (row.corpus, row.split) != ("meld", "train")
    }
    rows = {(row.corpus, row.clip_id, row.modality): row.reason for row in summary.ledger.itertuples()}
    assert rows.keys() == wanted.keys()
    assert all(wanted[key] in reason for key, reason in rows.items())
    place = {(row.corpus, row.clip_id): row.Index for row in demo.clips.itertuples()}
    names = list(demo.features)
    for corpus, clip, modality in wanted:
        row = place[corpus, clip]
        missing = {name for c, k, name in wanted if (c, k) == (corpus, clip)}
        assert demo.presence[row].tolist() == [name not in missing for name in names]
        assert demo.clips["split"][row] in ("train", "dev", "test")
        labeled = any(bool(np.isfinite(values[row].numpy()).any()) for values in demo.labels.values())
        assert labeled, f"{corpus}/{clip} lost its label with its {modality}"


def command(tmp_path: Path, *arguments: str) -> list[str]:
    settings = [
        f"corpora.root={REPOSITORY / 'data' / 'demo'}", f"features.store={REPOSITORY / 'data' / 'features'}",
        f"output.directory={tmp_path}", "training.num_epochs=2", "training.checkpoint_steps=3",
    ]  # fmt: skip
    sets = [part for setting in settings for part in ("--set", setting)]
    launch = [sys.executable, "-m", "accelerate.commands.launch", str(REPOSITORY / "training" / "run.py")]
    return [*launch, *sets, *arguments]


def newest(folder: Path) -> Path:
    return sorted((folder / "demo").iterdir())[-1]


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("demo")
def test_a_killed_command_resumes_to_the_same_table(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command(whole), capture_output=True, text=True, env=environment, check=True, timeout=200)
    assert "zero-shot" in done.stdout
    assert "linear" in done.stdout
    process = subprocess.Popen(
        command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 150
    while not list(killed.glob("demo/*/checkpoints/step-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (newest(killed) / "results.json").exists()
    assert list(newest(whole).glob("trackers/mmpsr/events*"))
    resumed = subprocess.run(
        command(killed, "--resume"), capture_output=True, text=True, env=environment, check=True, timeout=200
    )
    assert "continuing at epoch" in resumed.stdout
    for name in ("best.safetensors", "results.json", "metrics.jsonl"):
        assert (newest(killed) / name).read_bytes() == (newest(whole) / name).read_bytes(), name
    again = CliRunner().invoke(app, ["train", *command(killed, "--resume")[4:]], catch_exceptions=False)
    assert "is finished" in again.output
    assert len(list((killed / "demo").iterdir())) == 1


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("demo")
def test_two_processes_train_one_run(tmp_path: Path) -> None:
    launch = command(tmp_path)
    file = REPOSITORY / "configs" / "accelerate" / "cpu.yaml"
    launch[3:3] = ["--config_file", str(file), "--num_processes", "2"]
    done = subprocess.run(launch, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "demo").iterdir())) == 1
    last = sorted((newest(tmp_path) / "checkpoints").iterdir())[-1]
    assert (last / "rng-1.safetensors").exists()
    assert done.stdout.count("\nrun directory ") == 2  # once when it starts, once under the table: one process speaks
