"""A run that was killed and resumed equals one that never stopped, bit for bit."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

import training.fit.loop
from mmpsr.errors import Interrupted
from tests.support import joined as small
from training.config import RunConfig
from training.fit.checkpoint import CheckpointError, latest_checkpoint
from training.fit.loop import DivergedError, train
from training.fit.views import StepResult
from training.runs.directory import RunDirectory

pytestmark = pytest.mark.slow


class KilledError(Exception):
    pass


def run_once(config: RunConfig, folder: Path) -> RunDirectory:
    run = RunDirectory(folder)
    folder.mkdir(exist_ok=True)
    train(config, small.joined(), small.tasks(), Accelerator(cpu=True), run, lambda message: None)
    return run


def everything(run: RunDirectory) -> dict[str, torch.Tensor]:
    """All tensors that a run leaves, and its log, as one dictionary."""
    last = latest_checkpoint(run.checkpoints)
    assert last is not None
    found = {f"best.{name}": value for name, value in load_file(run.best).items()}
    for path in sorted(last.glob("*.safetensors")):
        found |= {f"{path.name}.{name}": value for name, value in load_file(path).items()}
    return found


def assert_same(left: RunDirectory, right: RunDirectory) -> None:
    expected, found = everything(left), everything(right)
    assert expected.keys() == found.keys()
    different = [name for name, value in expected.items() if value.numpy().tobytes() != found[name].numpy().tobytes()]
    assert not different
    assert (left.path / "metrics.jsonl").read_text() == (right.path / "metrics.jsonl").read_text()


SETTINGS = {
    "plain": {},
    "everything on": {
        "training": {
            "num_epochs": 4,
            "batch_size": 16,
            "checkpoint_steps": 3,
            "lr": 1e-2,
            "scheduler": "plateau",
            "weight_averaging": 0.9,
            "modality_dropout": 0.3,
            "patience": 3,
        },
        "data": {"modalities": ["text", "audio"], "sampling": "balanced"},
        "model": {
            "hidden_width": 16,
            "head_width": 16,
            "num_heads": 2,
            "graph": "gat",
            "linear_path": {"emotion": "trained", "personality": "fixed"},
        },
    },
}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """A run of each of the `SETTINGS` that never stopped."""
    folder = tmp_path_factory.mktemp("wholes")
    return {name: run_once(small.config(**sections), folder / name) for name, sections in SETTINGS.items()}


def combined(balancing: str, semi: str, optimizer: str, scheduler: str) -> dict[str, dict[str, object]]:
    """Settings that use one of each; agreement of scores where the method has two views."""
    two_views = semi in ("consistency", "adaptive_consistency", "mean_teacher")
    return {
        "balancing": {"method": balancing, **({"cost": "every_k", "every": 3} if semi == "soft" else {})},
        "semi_supervision": {
            "method": semi,
            "regression": "agreement" if two_views else "paper",
            "align_distribution": semi == "adaptive",
            "probability": 0.7,
            "ramp": "sigmoid",
            "ramp_steps": 10,
        },
        "tasks": {"specs": {"emotion": {"threshold": 0.5}, "ambivalence": {"threshold": 0.5}}},
        "training": {
            "num_epochs": 3,
            "batch_size": 16,
            "checkpoint_steps": 2,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "accumulation": 2,
            "max_gradient_norm": 0.5,
            "monitor": "mosei/emotion/multilabel_macro_f1",
        },
        "model": {"hidden_width": 8, "head_width": 8, "num_heads": 2},
    }


METHODS = [
    ("fixed", "none", "adam", "none"),
    ("uncertainty", "soft", "adamw", "cosine"),
    ("dwa", "adaptive", "lion", "onecycle"),
    ("random", "consistency", "sgd", "linear"),
    ("pcgrad", "mean_teacher", "rmsprop", "plateau"),
    ("cagrad", "adaptive_consistency", "adam", "onecycle"),
    ("aligned_mtl", "paper", "lion", "cosine"),
    ("imtl_g", "mean_teacher", "sgd", "onecycle"),
    ("mgda", "paper", "rmsprop", "linear"),
    ("upgrad", "adaptive", "adamw", "none"),
    ("gradnorm", "soft", "adam", "plateau"),
]


@pytest.mark.parametrize("methods", METHODS, ids="-".join)
def test_every_method_continues_exactly(
    methods: tuple[str, str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small.config(**combined(*methods))
    whole = run_once(config, tmp_path / "whole")
    real, taken = training.fit.loop.clip_gradients, 0

    def dying(*arguments: object) -> object:
        nonlocal taken
        taken += 1
        if taken in (2, 6):
            raise KilledError
        return real(*arguments)

    monkeypatch.setattr(training.fit.loop, "clip_gradients", dying)
    for _ in range(2):
        with pytest.raises(KilledError):
            run_once(config, tmp_path / "killed")
        torch.manual_seed(99)
    assert_same(whole, run_once(config, tmp_path / "killed"))


@pytest.mark.parametrize(
    ("name", "deaths"),
    [("plain", (1,)), ("plain", (7, 9)), ("everything on", (4,)), ("everything on", (13, 14, 20))],
)
def test_killed_and_resumed_equals_never_stopped(
    name: str,
    deaths: tuple[int, ...],
    wholes: dict[str, RunDirectory],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small.config(**SETTINGS[name])
    real, taken = training.fit.loop.training_step, 0

    def dying(*arguments: object, **named: object) -> StepResult:
        nonlocal taken
        taken += 1
        if taken in deaths:
            raise KilledError
        return real(*arguments, **named)

    monkeypatch.setattr(training.fit.loop, "training_step", dying)
    for _ in deaths:
        with pytest.raises(KilledError):
            run_once(config, tmp_path / "killed")
        torch.manual_seed(99)  # nothing may depend on what a new process' generator holds
    assert_same(wholes[name], run_once(config, tmp_path / "killed"))


def test_interrupt_saves_at_once_and_resume_continues(
    wholes: dict[str, RunDirectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small.config()
    real, taken = training.fit.loop.training_step, 0

    def interrupted(*arguments: object, **named: object) -> StepResult:
        nonlocal taken
        taken += 1
        if taken == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **named)

    monkeypatch.setattr(training.fit.loop, "training_step", interrupted)
    with pytest.raises(Interrupted, match=r"stopped after step 5.*--resume"):
        run_once(config, tmp_path / "stopped")
    state = json.loads((tmp_path / "stopped" / "checkpoints" / "step-00000005" / "state.json").read_text())
    assert state["step"] == 5
    assert_same(wholes["plain"], run_once(config, tmp_path / "stopped"))


def test_a_half_written_checkpoint_is_ignored(wholes: dict[str, RunDirectory], tmp_path: Path) -> None:
    config = small.config()
    stopped = run_once(small.config(training={"num_epochs": 2}), tmp_path / "stopped")
    torn = stopped.checkpoints / ".step-00000099"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    assert_same(wholes["plain"], run_once(config, tmp_path / "stopped"))


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    run = run_once(small.config(training={"num_epochs": 1}), tmp_path / "run")
    last = latest_checkpoint(run.checkpoints)
    assert last is not None
    (last / "rng-1.safetensors").write_bytes((last / "rng-0.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"written by 2 processes .* --num_processes 2"):
        run_once(small.config(), tmp_path / "run")


def test_a_run_without_a_single_dev_figure_says_that_it_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.fit.loop, "monitor", lambda figures, trained, name: float("nan"))
    with pytest.raises(DivergedError, match=r"not a number in any of 2 epochs.*lower training\.lr"):
        run_once(small.config(training={"num_epochs": 2}), tmp_path / "run")


@pytest.mark.parametrize("checkpoint_steps", [3, 4])
def test_killed_between_an_epochs_line_and_its_checkpoint_the_line_is_not_doubled(
    checkpoint_steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"num_epochs": 3, "batch_size": 16, "checkpoint_steps": checkpoint_steps, "lr": 1e-3}
    config = small.config(training=settings)  # 6 steps an epoch: with 3 a checkpoint lies on the epoch's last step
    whole = run_once(config, tmp_path / "whole")
    real = RunDirectory.log

    def dying(run: RunDirectory, record: dict[str, object]) -> None:
        real(run, record)
        if record["epoch"] == 2:
            raise KilledError

    monkeypatch.setattr(RunDirectory, "log", dying)
    with pytest.raises(KilledError):
        run_once(config, tmp_path / "killed")
    monkeypatch.setattr(RunDirectory, "log", real)
    assert_same(whole, run_once(config, tmp_path / "killed"))
