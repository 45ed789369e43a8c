"""Training on propagated labels: made anew before every epoch, and again the same where a run continues."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

import training.fit.loop
from mmpsr.objective.pseudo_labels import SemiSupervision
from tests.support import joined as small
from training.fit.checkpoint import latest_checkpoint
from training.fit.loop import train
from training.runs.directory import RunDirectory


@pytest.mark.parametrize("space", ["fused", "inputs"])
def test_a_run_with_propagated_labels_continues_exactly(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    semi = {"method": "propagation", "regression": "propagated", "propagation_space": space}
    settings = {"num_epochs": 2, "checkpoint_steps": 2, "weight_averaging": 0.9, "modality_dropout": 0.3}
    config, clips, seen = small.config(semi_supervision=semi, training=settings), small.joined(), []
    refresh = SemiSupervision.refresh

    def noted(self: SemiSupervision, vectors: torch.Tensor) -> None:
        seen.append(vectors)
        refresh(self, vectors)

    monkeypatch.setattr(SemiSupervision, "refresh", noted)

    def run_once(folder: str) -> None:
        run = RunDirectory(tmp_path / folder)
        run.path.mkdir(exist_ok=True)
        train(config, clips, small.tasks(), Accelerator(cpu=True), run, lambda message: None)

    run_once("whole")
    assert [len(vectors) for vectors in seen] == [90, 90]  # once an epoch, three of five of MOSEI, FIv2 and BAH
    assert torch.equal(*seen) == (space == "inputs")
    real, taken = training.fit.loop.training_step, 0

    def dying(*arguments: object, **named: object) -> object:
        nonlocal taken
        taken += 1
        if taken == 4:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(training.fit.loop, "training_step", dying)
    with pytest.raises(KeyboardInterrupt):
        run_once("killed")
    torch.manual_seed(99)
    run_once("killed")
    last = latest_checkpoint(tmp_path / "whole" / "checkpoints")
    assert last is not None
    for left in [tmp_path / "whole" / "best.safetensors", *last.glob("*.safetensors")]:
        expected, found = load_file(left), load_file(tmp_path / "killed" / left.relative_to(tmp_path / "whole"))
        assert [
            name for name, each in expected.items() if each.numpy().tobytes() != found[name].numpy().tobytes()
        ] == []
