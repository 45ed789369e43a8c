"""Runs in a stack: each is what it would be alone, whatever the others are, resumed or not."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from safetensors.torch import load_file

from mmpsr.batch import Batch
from mmpsr.errors import Interrupted
from mmpsr.models.fused import FusedMCDM, FusedPass
from mmpsr.stacked.model import NotStackableError
from tests.support import joined as small
from training.config import RunConfig
from training.data.joined import JoinedCorpora
from training.fit import loop
from training.fit.loop import Course, train
from training.runs.directory import RunDirectory
from training.stacked.loop import train_stacked

Run = tuple[RunConfig, JoinedCorpora]


def folds(number: int) -> list[JoinedCorpora]:
    """Clips of other vectors, of which a member more trains on fewer: batches and epochs of other sizes."""
    members = [small.joined(seed) for seed in range(number)]
    for index, member in enumerate(members):
        member.clips.loc[member.clips.index[: 7 * index], "split"] = "dev"
    return members


def alone(folder: Path, run: Run) -> None:
    folder.mkdir()
    train(*run, small.tasks(), Accelerator(cpu=True), RunDirectory(folder), lambda message: None)


def together(folders: Sequence[Path], runs: Sequence[Run]) -> None:
    def begin(folder: Path, run: Run) -> Course:
        folder.mkdir(exist_ok=True)
        return Course.begin(*run, small.tasks(), Accelerator(cpu=True), RunDirectory(folder), lambda message: None)

    begun = [lambda pair=pair: begin(*pair) for pair in zip(folders, runs, strict=True)]
    finished = []
    for index, course in train_stacked(begun):
        course.finish()
        finished.append(index)
    assert sorted(finished) == list(range(len(runs)))


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def difference(one: Any, other: Any) -> float:
    """The largest between two records of the same form."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return max((difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, str) or one is None or one != one:
        return 0.0 if one == other or (one != one and other != other) else 1.0
    return abs(one - other)


def require_same(one: Path, other: Path) -> None:
    """See that figures of all epochs are the same to 1e-5, and that predictions would be."""
    before, after = records(one), records(other)
    assert len(before) == len(after)
    assert max(map(difference, before, after)) < 1e-5
    weights, others = (load_file(folder / "best.safetensors") for folder in (one, other))
    assert max((weights[name] - others[name]).abs().max().item() for name in weights) < 1e-3


DEMO: dict[str, dict[str, Any]] = {
    "model": {
        "hidden_width": 16, "head_width": 16, "num_heads": 2, "guide_temperature": True, "predictor_norm": "none",
        "linear_path": {"emotion": "trained", "personality": "fixed"},
    },
    "objective": {"class_weights": "balanced"},
    "training": {"modality_dropout": 0.2, "weight_averaging": 0.98, "batch_size": 16},
}  # fmt: skip
OTHER: dict[str, dict[str, Any]] = {
    "model": {
        "hidden_width": 16, "head_width": 16, "num_heads": 2, "graph": "edgnn", "attention": "mta", "text_head": True,
        "conflict_features": True,
    },
    "balancing": {"cost": "last_layer"},
    "semi_supervision": {"method": "mean_teacher", "regression": "agreement"},
    "training": {"optimizer": "sgd", "max_gradient_norm": 0.5, "scheduler": "cosine"},
}  # fmt: skip
EQUAL: dict[str, dict[str, Any]] = {"balancing": {"method": "equal"}, "semi_supervision": {"method": "none"}}


def configured(tree: dict[str, dict[str, Any]], index: int, epochs: int = 2) -> RunConfig:
    """A member's configuration: its own seed, rates of learning and of dropout."""
    own = {name: dict(section) for name, section in tree.items()}
    own["training"] = {**own.get("training", {}), "seed": index, "lr": 1e-3 * (index + 1), "num_epochs": epochs - index}
    own["model"] = {**own.get("model", {"hidden_width": 16, "head_width": 16}), "dropout": 0.2 * index}
    return small.config(**own)


def test_runs_of_the_same_clips_are_judged_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joined = small.joined()
    runs = [(configured({**DEMO, **EQUAL}, index), joined) for index in range(2)]
    for index, run in enumerate(runs):
        alone(tmp_path / f"alone-{index}", run)
    folders = [tmp_path / f"together-{index}" for index in range(2)]
    with monkeypatch.context() as patched:
        patched.setattr(loop, "predict", lambda *_: pytest.fail("dev clips were predicted run by run"))
        together(folders, runs)
    for index, folder in enumerate(folders):
        require_same(tmp_path / f"alone-{index}", folder)


@pytest.mark.parametrize(
    "tree", [DEMO, EQUAL, pytest.param(OTHER, marks=pytest.mark.slow)], ids=["demo", "equal weights", "other layers"]
)
def test_each_run_is_what_it_is_alone(tree: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """The second run ends an epoch before the first; its clips are others, and so are its batches' sizes."""
    runs = [(configured(tree, index), member) for index, member in enumerate(folds(2))]
    for index, run in enumerate(runs):
        alone(tmp_path / f"alone{index}", run)
    together([tmp_path / f"stacked{index}" for index in range(2)], runs)
    assert [len(records(tmp_path / f"stacked{index}")) for index in range(2)] == [2, 1]
    for index in range(2):
        require_same(tmp_path / f"alone{index}", tmp_path / f"stacked{index}")


@pytest.mark.parametrize("most_clips", [128, 8], ids=["few-clips", "many-clips"])
def test_runs_are_fused_in_a_stack_as_they_are_alone(
    most_clips: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    ordinary = FusedPass.__init__

    def begin(own: FusedPass, fused: FusedMCDM, batch: Batch) -> None:
        passes.append(len(fused.models))
        ordinary(own, fused, batch)

    monkeypatch.setattr(FusedPass, "__init__", begin)
    for place in ("fit", "stacked"):
        monkeypatch.setattr(f"training.{place}.step.MOST_CLIPS", most_clips)
    paths = {"model": {**DEMO["model"], "linear_path": {"emotion": "trained", "personality": "trained"}}}
    runs = [(configured({**DEMO, **paths}, index, 2), member) for index, member in enumerate(folds(2))]
    for index, run in enumerate(runs):
        alone(tmp_path / f"alone{index}", run)
    taken = len(passes)
    together([tmp_path / f"stacked{index}" for index in range(2)], runs)
    assert passes[:taken] == [1] * taken
    assert set(passes[taken:]) == {1, 2}
    for index in range(2):
        require_same(tmp_path / f"alone{index}", tmp_path / f"stacked{index}")
    layered = configured({**DEMO, "training": {**DEMO["training"], "fused": False}}, 0, 1)
    del passes[:]
    together([tmp_path / "layered0", tmp_path / "layered1"], [(layered, runs[0][1])] * 2)
    assert not passes


@pytest.mark.slow
def test_a_run_goes_on_in_a_stack_and_out_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped within an epoch alone, continued in a stack, stopped there, and ended alone."""
    clips = small.joined()
    runs = [(configured(DEMO, 0, 3), clips), (configured(DEMO, 0, 3).model_copy(deep=True), clips)]
    runs[1][0].training.__dict__["seed"] = 5
    folders = [tmp_path / "first", tmp_path / "second"]
    alone(tmp_path / "whole", runs[0])

    class StoppedAfter(loop.StopSignals):
        """Says that a signal has come once it was asked so often."""

        asked, most = 0, 0

        @property
        def received(self) -> bool:
            type(self).asked += 1
            return type(self).asked > type(self).most

        @received.setter
        def received(self, value: bool) -> None:
            pass

    monkeypatch.setattr(loop, "StopSignals", StoppedAfter)
    monkeypatch.setattr("training.stacked.loop.StopSignals", StoppedAfter)
    StoppedAfter.most = 2
    with pytest.raises(Interrupted):
        alone(folders[0], runs[0])
    StoppedAfter.asked, StoppedAfter.most = 0, 6 * 2 - 3  # at the last of 6 steps of the second epoch
    with pytest.raises(Interrupted):
        together(folders, runs)
    assert 1 <= len(records(folders[0])) < 3
    monkeypatch.undo()
    train(*runs[0], small.tasks(), Accelerator(cpu=True), RunDirectory(folders[0]), lambda message: None)
    require_same(tmp_path / "whole", folders[0])


def test_a_signal_while_a_run_is_finished_stops_the_others(tmp_path: Path) -> None:
    """The second run is over after one epoch; that the first could go on is in its checkpoint."""
    folders = [tmp_path / "first", tmp_path / "second"]

    def begin(index: int) -> Course:
        folders[index].mkdir(exist_ok=True)
        run = (configured(EQUAL, index), small.joined())
        return Course.begin(*run, small.tasks(), Accelerator(cpu=True), RunDirectory(folders[index]), lambda _: None)

    finished: list[int] = []

    def train_until(number: int) -> None:
        for index, _ in train_stacked([partial(begin, index) for index in range(2)]):
            finished.append(index)
            if len(finished) == number:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="--resume"):
        train_until(1)
    assert finished == [1]
    going_on = begin(0)
    assert (going_on.state.progress.epoch, going_on.state.progress.batch) == (1, 0)
    with pytest.raises(Interrupted):
        train_until(3)  # the last of all
    assert finished == [1, 1, 0]


def test_models_of_other_shapes_are_refused_before_anything_changes(tmp_path: Path) -> None:
    wide = small.config(model={"hidden_width": 32, "head_width": 16, "num_heads": 2})
    with pytest.raises(NotStackableError, match=r"is \(16, 8\) in one model and \(32, 8\) in another|in another"):
        together([tmp_path / "one", tmp_path / "two"], [(small.config(), small.joined()), (wide, small.joined())])
    assert not (tmp_path / "one" / "metrics.jsonl").exists()
