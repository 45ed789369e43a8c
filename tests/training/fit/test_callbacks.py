"""What callbacks receive, when, and what becomes of their errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from mmpsr.config import ConfigError
from mmpsr.models.base import FusionModel
from tests.support import joined as small
from training.config import RunConfig
from training.fit.callbacks import Callback, CallbackError, Callbacks, CheckpointWritten, EpochEnd
from training.fit.loop import train
from training.runs.directory import RunDirectory, read_tensors
from training.stacked.grouping import reason_alone

MADE: list[Watch] = []


class Watch(Callback):
    """Keeps what it is told, and draws a random number each time."""

    def __init__(self) -> None:
        self.told: list[EpochEnd | CheckpointWritten] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        MADE.append(self)

    def on_epoch_end(self, epoch: EpochEnd) -> None:
        torch.rand(3)
        assert not epoch.model.training
        self.told.append(epoch)
        self.weights.append({name: value.clone() for name, value in epoch.model.state_dict().items()})

    def on_checkpoint(self, checkpoint: CheckpointWritten) -> None:
        torch.rand(3)
        assert (checkpoint.path / "state.json").is_file()
        self.told.append(checkpoint)


class Failing(Callback):
    def __init__(self, method: str = "on_checkpoint", times: int = 1) -> None:
        self.method, self.times = method, times

    def on_epoch_end(self, epoch: EpochEnd) -> None:
        self._fail("on_epoch_end")

    def on_checkpoint(self, checkpoint: CheckpointWritten) -> None:
        self._fail("on_checkpoint")

    def _fail(self, method: str) -> None:
        if method == self.method and self.times:
            self.times -= 1
            raise KeyError("no such channel")


class Needy(Callback):
    def __init__(self, channel: str) -> None: ...


def config(**output: Any) -> RunConfig:
    """Five steps an epoch: 90 training clips by 18; a checkpoint after three, and after the epoch."""
    return small.config(
        training={"num_epochs": 2, "batch_size": 18}, semi_supervision={"method": "none"}, output=output
    )


def run(folder: Path, *callbacks: Callback, **output: Any) -> FusionModel:
    folder.mkdir(exist_ok=True)
    clips, accelerator, directory = small.joined(), Accelerator(cpu=True), RunDirectory(folder)
    return train(config(**output), clips, small.tasks(), accelerator, directory, print, callbacks=callbacks)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Weights of the run without callbacks."""
    return dict(run(tmp_path_factory.mktemp("plain")).state_dict())


def test_epochs_and_checkpoints_are_told_in_order_and_nothing_changes_by_it(
    plain: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    watch = Watch()
    watched = run(tmp_path / "watched", watch)
    for name, value in plain.items():
        assert torch.equal(watched.state_dict()[name], value), name
    assert [(type(event).__name__[:5], event.epoch, event.step) for event in watch.told] == [
        ("Check", 0, 3), ("Epoch", 1, 5), ("Check", 1, 5), ("Check", 1, 6), ("Check", 1, 9), ("Epoch", 2, 10),
        ("Check", 2, 10),
    ]  # fmt: skip
    epochs = [event for event in watch.told if isinstance(event, EpochEnd)]
    lines = (tmp_path / "watched" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [event.record for event in epochs] == [json.loads(line) for line in lines]
    assert [event.value for event in epochs] == [event.record["dev_figure"] for event in epochs]
    assert [event.is_best for event in epochs] == [True, epochs[1].value > epochs[0].value]
    assert {event.run for event in watch.told} == {tmp_path / "watched"}
    best = read_tensors(tmp_path / "watched" / "best.safetensors")
    own = watch.weights[1 if epochs[1].is_best else 0]
    assert all(torch.equal(best[name], own[name]) for name in best)


@pytest.mark.parametrize(("method", "place"), [("on_epoch_end", "epoch 1"), ("on_checkpoint", "step-00000003")])
def test_an_error_names_the_callback_and_the_run_goes_on_from_its_checkpoint(
    plain: dict[str, torch.Tensor], tmp_path: Path, method: str, place: str
) -> None:
    failing = Failing(method)
    message = (
        rf"callback tests\.training\.fit\.test_callbacks:Failing failed in {method}, {place}: KeyError: "
        r"'no such channel' \(test_callbacks\.py, line \d+\); mend it"
    )
    with pytest.raises(CallbackError, match=message) as error:
        run(tmp_path / "run", failing)
    assert isinstance(error.value.__cause__, KeyError)
    again = run(tmp_path / "run", failing)
    for name, value in plain.items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_configuration_names_them(tmp_path: Path) -> None:
    MADE.clear()
    given = Watch()
    run(tmp_path, given, callbacks=["tests.training.fit.test_callbacks:Watch"])
    assert len(MADE) == 2
    assert MADE[1].told == given.told
    assert reason_alone(config(callbacks=["a:B"])) == "output.callbacks"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nowhere.at_all:Watch",
            r"cannot be imported \(No module named 'nowhere'\); is its folder on PYTHONPATH",
        ),
        (f"{__name__}:Wach", r"the module tests.training.fit.test_callbacks has no 'Wach'"),
        ("json:JSONDecoder", "is no subclass of training.fit.callbacks.Callback"),
        (f"{__name__}:Needy", r"must be made without arguments \(.*'channel'"),
    ],
)
def test_a_name_that_is_no_callback_is_an_error(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"output.callbacks: .*{message}"):
        Callbacks.of([name])


def test_what_is_no_callback_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"output\.callbacks"):
        config(callbacks=["Watch"])
    with pytest.raises(TypeError, match=r"callbacks\[0\] is <class .*Watch'>, which is no Callback; give an"):
        Callbacks.of([], [Watch])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"callbacks\[0\] is <built-in .*print>, which is no Callback; derive"):
        Callbacks.of([], [print])  # type: ignore[list-item]
