"""The accelerator of a run, and where its figures are logged."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from accelerate.utils import LoggerType

from mmpsr.config import ConfigError, validate
from mmpsr.extras import MissingExtraError
from tests.support import joined
from training.config import TRACKERS, RunConfig
from training.fit.loop import train
from training.runs import accelerator as launching
from training.runs.accelerator import create_accelerator, start_trackers
from training.runs.directory import RunDirectory

Logged = dict[tuple[str, int], float]


def config(trackers: list[str], folder: Path) -> RunConfig:
    return validate(RunConfig, {"output": {"directory": str(folder), "trackers": trackers}}, "test")


def test_trackers_are_those_that_accelerate_knows(tmp_path: Path) -> None:
    assert set(TRACKERS) == {str(kind.value) for kind in LoggerType} - {"all"}
    with pytest.raises(ConfigError, match=r"output\.trackers: no tracker is named 'tensorbord'; did you mean 'tensorb"):
        config(["tensorbord"], tmp_path)


def test_a_tracker_writes_below_the_run(tmp_path: Path) -> None:
    settings = config(["tensorboard"], tmp_path)
    accelerator = create_accelerator(settings)
    start_trackers(accelerator, settings, tmp_path / "run")
    accelerator.log({"dev_figure": 1.0}, step=1)
    accelerator.end_training()
    assert list((tmp_path / "run" / "trackers" / "mmpsr").glob("events*"))


def read_tensorboard(folder: Path) -> Logged:
    """Figures by name and step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "mmpsr"))
    events.Reload()
    return {(name, each.step): each.value for name in events.Tags()["scalars"] for each in events.Scalars(name)}


def read_wandb(folder: Path) -> Logged:
    """Figures by name and step, of the one run that was logged without a network."""
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    store, logged = DataStore(), {}
    store.open_for_scan(str(file))
    while (data := store.scan_data()) is not None:
        history = Record.FromString(data).history
        for item in history.item:
            name = item.key or "/".join(item.nested_key)
            if not name.startswith("_"):
                logged[name, history.step.num] = float(json.loads(item.value_json))
    return logged


@pytest.mark.slow
def test_trackers_log_the_figures_of_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tracker stored is `metrics.jsonl` again: dev figures, rate, and losses with their weights and counts."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "run" / "cache"))
    monkeypatch.chdir(tmp_path)
    settings = joined.config(
        training={"num_epochs": 2}, output={"directory": str(tmp_path), "trackers": ["tensorboard", "wandb"]}
    )
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    accelerator = create_accelerator(settings)
    start_trackers(accelerator, settings, run.path)
    clips = joined.joined().to(accelerator.device)
    train(settings, clips, joined.tasks(), accelerator, run, lambda message: None)
    accelerator.end_training()
    expected: Logged = {}
    for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        figures = {"dev_figure": record["dev_figure"], "lr": record["lr"]}
        figures |= {f"dev/{name}": value for name, value in record["dev"].items()}
        for name, term in record["terms"].items():
            figures |= {f"{kind}/{name}": value for kind, value in term.items()}
        expected |= {(name, record["step"]): value for name, value in figures.items() if math.isfinite(value)}
    assert len(expected) > 2 * 20
    for logged in (read_tensorboard(run.path / "trackers"), read_wandb(run.path / "trackers")):
        assert {key: logged[key] for key in expected} == pytest.approx(expected, rel=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    settings = config([], tmp_path)
    accelerator = create_accelerator(settings)
    start_trackers(accelerator, settings, tmp_path / "run")
    accelerator.log({"dev_figure": 1.0}, step=1)
    accelerator.end_training()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tensorboard", r'output\.trackers: tensorboard is not installed; the extra "track", .*\.\[track\]"'),
        ("wandb", r"output\.trackers: wandb is not installed; install it, or take it out"),
    ],
)
def test_a_missing_tracker_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str) -> None:
    monkeypatch.setattr(launching, "get_available_trackers", lambda: [])
    with pytest.raises(MissingExtraError, match=sentence):
        create_accelerator(config([name], tmp_path))
    create_accelerator(config([name], tmp_path), with_trackers=False)
