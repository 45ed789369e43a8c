"""The state of training: what a step and an epoch change of it, and that a checkpoint holds all of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from tests.support import joined as small
from training.config import RunConfig
from training.fit.checkpoint import CheckpointError
from training.fit.loop import build_model
from training.fit.state import Progress, TrainState


def begun(**sections: dict[str, object]) -> tuple[TrainState, RunConfig]:
    config, clips = small.config(**sections), small.joined()
    return TrainState.create(build_model(config, clips, small.tasks()), config, clips, num_steps=20), config


@pytest.mark.parametrize(
    ("sections", "files"),
    [
        ({}, set()),
        ({"training": {"weight_averaging": 0.9}}, {"average"}),
        ({"semi_supervision": {"method": "mean_teacher"}}, {"teacher"}),
    ],
)
def test_a_checkpoint_holds_all_that_training_carries(
    sections: dict[str, dict[str, object]], files: set[str], tmp_path: Path
) -> None:
    first, config = begun(**sections)
    with torch.no_grad():
        for parameter in first.model.parameters():
            parameter.add_(1.0)
    first.optimizer.step()
    first.advance(config.training)
    first.end_epoch(50.0)
    first.progress.best, first.progress.best_epoch = 50.0, 0
    first.save(tmp_path, Accelerator(cpu=True))
    path = tmp_path / "step-00000001"
    fixed = {"model", "objective", "balancer", "totals", "optimizer", "rng-0"}
    assert {file.stem for file in path.glob("*.safetensors")} == fixed | files
    second, _ = begun(**sections)
    second.restore(path, Accelerator(cpu=True))
    assert asdict(second.progress) == asdict(Progress(epoch=1, batch=0, best=50.0, best_epoch=0))
    assert second.step == 1
    assert second.schedule.state_dict() == first.schedule.state_dict()
    for name in ("model", "average", "teacher", "objective", "balancer", "totals"):
        ours, theirs = getattr(first, name), getattr(second, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(theirs.state_dict(), ours.state_dict(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "rng-0.safetensors", "state.json"])
def test_a_checkpoint_that_is_cut_off_is_named_and_changes_nothing(name: str, tmp_path: Path) -> None:
    state, _ = begun()
    state.save(tmp_path, Accelerator(cpu=True))
    (path,) = tmp_path.glob("step-*")
    (path / name).write_bytes((path / name).read_bytes()[:-1])
    before = {key: value.clone() for key, value in state.model.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=rf"{name} cannot be read .*; remove .*{path.name}, and the checkpoint bef"
    ):
        state.restore(path, Accelerator(cpu=True))
    torch.testing.assert_close(state.model.state_dict(), before, rtol=0, atol=0, equal_nan=True)


def test_averages_follow_the_model_fast_at_first() -> None:
    state, config = begun(training={"weight_averaging": 0.9})
    before = [parameter.detach().clone() for parameter in state.average.parameters()]
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.add_(1.0)
    state.optimizer.step()
    state.advance(config.training)  # at step 1 the decay is min(0.9, 2/11), so that 9/11 of the difference is taken
    for parameter, value in zip(state.average.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), value + 9 / 11)
    assert (state.step, state.progress.batch) == (1, 1)
