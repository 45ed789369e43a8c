"""Training that is killed at a step, and a look at whether what continued ends where a whole run does."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest
from safetensors.torch import load_file

import training.fit.loop
from training.fit.checkpoint import latest_checkpoint


def kill_at(monkeypatch: pytest.MonkeyPatch, steps: Collection[int]) -> None:
    """Let training end by `KeyboardInterrupt` in place of these steps, counted from 1 over all runs."""
    real, taken = training.fit.loop.training_step, 0

    def dying(*arguments: object, **named: object) -> object:
        nonlocal taken
        taken += 1
        if taken in steps:
            raise KeyboardInterrupt
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(training.fit.loop, "training_step", dying)


def require_same_weights(whole: Path, killed: Path) -> None:
    """Compare the best weights and the last checkpoint of two runs bit for bit."""
    last = latest_checkpoint(whole / "checkpoints")
    assert last is not None
    for left in [whole / "best.safetensors", *last.glob("*.safetensors")]:
        expected, found = load_file(left), load_file(killed / left.relative_to(whole))
        assert expected.keys() == found.keys()
        bits = {name: each.numpy().tobytes() for name, each in found.items()}
        assert [name for name, each in expected.items() if each.numpy().tobytes() != bits[name]] == []
