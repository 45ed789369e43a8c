"""The accelerator of a run, and where its figures are logged."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.utils import LoggerType

from mmpsr.config import ConfigError, validate
from mmpsr.extras import MissingExtraError
from training.config import TRACKERS, RunConfig
from training.runs import accelerator as launching
from training.runs.accelerator import create_accelerator, start_trackers


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
        ("tensorboard", r'output\.trackers: tensorboard is not installed; the extra "track", .*mmpsr\[track\]"'),
        ("wandb", r"output\.trackers: wandb is not installed; install it, or take it out"),
    ],
)
def test_a_missing_tracker_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str) -> None:
    monkeypatch.setattr(launching, "get_available_trackers", lambda: [])
    with pytest.raises(MissingExtraError, match=sentence):
        create_accelerator(config([name], tmp_path))
    create_accelerator(config([name], tmp_path), with_trackers=False)
