"""Training on propagated labels: made anew before every epoch, and again the same where a run continues."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from mmpsr.objective.pseudo_labels import SemiSupervision
from tests.support import joined as small
from tests.support.interrupted import kill_at, require_same_weights
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
    kill_at(monkeypatch, {4})
    with pytest.raises(KeyboardInterrupt):
        run_once("killed")
    torch.manual_seed(99)
    run_once("killed")
    require_same_weights(tmp_path / "whole", tmp_path / "killed")
