"""What training costs: counted parameters, seconds over the steps of this process, and a peak that is forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from training.fit import cost
from training.fit.cost import CostMeter
from training.runs.directory import RunDirectory


def measured(folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, epoch: int, step: int) -> dict[str, object]:
    ticks = iter((100.0, 100.0 + seconds))
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(ticks))
    run, model = RunDirectory(folder), nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    meter = CostMeter(run, torch.device("cpu"))
    (folder / "metrics.jsonl").write_text(json.dumps({"epoch": epoch, "step": step}) + "\n", encoding="utf-8")
    meter.write(model)
    return run.read_json("cost.json")


def test_seconds_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(tmp_path, monkeypatch, seconds=6.0, epoch=4, step=12)
    # 6 s over 12 steps, 3 steps an epoch; a 2 x 3 weight learns, its bias does not
    assert (found["seconds_per_step"], found["seconds_per_epoch"]) == (0.5, 1.5)
    assert (found["num_parameters"], found["num_epochs"], found["num_steps"]) == (6, 4, 12)


def test_steps_of_an_earlier_process_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "latest_checkpoint", lambda folder: folder / "step-00000009")
    found = measured(tmp_path, monkeypatch, seconds=6.0, epoch=4, step=12)
    assert (found["seconds_per_step"], found["seconds_per_epoch"]) == (2.0, 6.0)
    monkeypatch.setattr(cost, "latest_checkpoint", lambda folder: folder / "step-12")
    assert measured(tmp_path, monkeypatch, seconds=6.0, epoch=4, step=12)["seconds_per_step"] is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell a process' peak")
def test_the_peak_is_of_what_was_measured_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ballast = torch.ones(100_000_000)
    before = cost._peak(torch.device("cpu"))
    del ballast
    found = measured(tmp_path, monkeypatch, seconds=1.0, epoch=1, step=1)["peak_megabytes"]
    assert before is not None
    assert isinstance(found, float)
    assert 50 < found < before - 300  # 400 MB were given back before
