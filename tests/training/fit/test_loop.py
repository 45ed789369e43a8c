"""What a model is built of before training: texts of classes among it, whatever the linear path is."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from mmpsr.config import ConfigError
from mmpsr.layers.text_guides import TextGuides
from mmpsr.models.base import FusionModel
from mmpsr.models.build import restore_model
from mmpsr.tasks import task_of_texts
from tests.support import joined as small
from training.fit import loop
from training.fit.loop import StopSignals, build_model, train
from training.fit.state import TrainState
from training.runs.directory import RunDirectory

WIDTH = 6
TASKS = small.tasks() | {name: task_of_texts(name) for name in ("emotion", "personality")}


@pytest.fixture(autouse=True)
def _embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors by the length of a text and its first letters, in place of an encoder's."""

    def embed(texts: Sequence[str], features: object) -> NDArray[np.float32]:
        codes = [[len(text), *map(ord, text[: WIDTH - 1].ljust(WIDTH - 1))] for text in texts]
        return np.array(codes, dtype=np.float32)

    monkeypatch.setattr("training.class_texts.points.embed_texts", embed)


@pytest.mark.parametrize("fusion", ["concatenated", "late"])
def test_guides_are_texts_whatever_the_linear_path_is(fusion: str) -> None:
    paths = {"emotion": "fixed"}
    config = small.config(model={"guides": "texts", "linear_path": paths}, linear={"fusion": fusion})
    model = build_model(config, small.joined(), TASKS)
    guides = model.towers["emotion"].text_guides
    assert isinstance(guides, TextGuides)
    assert guides["text"].points.shape == (1, 7, WIDTH)
    assert model.towers["personality"].text_guides["text"].points.shape == (2, 5, WIDTH)
    assert model.towers["ambivalence"].text_guides is None
    assert (model.prototypes is None) == (fusion == "concatenated")
    stored = [each.data_ptr() for name, each in model.state_dict().items() if name.endswith(".points")]
    assert len(set(stored)) == len(stored)  # a file takes no tensor that shares memory with another
    again = restore_model(config.model, model.modalities, TASKS, model.state_dict())
    batch = small.joined().batch(torch.arange(5))
    assert torch.equal(again(batch).of("emotion"), model.eval()(batch).of("emotion"))


@pytest.mark.parametrize("guides", ["texts", "tied"])
def test_training_moves_the_points_that_are_not_tied(guides: str, tmp_path: Path) -> None:
    config = small.config(model={"guides": guides}, training={"num_epochs": 1})
    clips = small.joined()
    start = build_model(config, clips, TASKS).state_dict()
    model = train(config, clips, TASKS, Accelerator(cpu=True), RunDirectory(tmp_path), lambda message: None)
    end = model.state_dict()
    for task in ("emotion", "personality"):
        name = f"towers.{task}.text_guides.text"
        assert torch.equal(end[f"{name}.points"], start[f"{name}.points"])
        assert (f"{name}.offsets" in end) == (guides == "texts")
        assert guides == "tied" or end[f"{name}.offsets"].abs().max() > 0


def test_guides_without_a_text_are_an_error() -> None:
    with pytest.raises(ConfigError, match="none of the tasks emotion, personality, ambivalence has both"):
        build_model(small.config(model={"guides": "tied"}), small.joined(), small.tasks())


def test_class_texts_teach_clips_whose_corpus_lacks_the_task(tmp_path: Path) -> None:
    """Pseudo-labels by prototypes count where a task has texts and nowhere else, and a run that is killed goes on."""
    semi = {"method": "prototypes", "regression": "none"}
    settings = {"training": {"num_epochs": 2, "checkpoint_steps": 1}, "semi_supervision": semi}
    config = small.config(model={"linear_path": {"emotion": "fixed"}}, linear={"fusion": "late"}, **settings)
    clips, records = small.joined(), tmp_path / "whole" / "metrics.jsonl"

    def run(name: str, log: Callable[[str], None]) -> FusionModel:
        folder = RunDirectory(tmp_path / name)
        folder.path.mkdir(exist_ok=True)
        return train(config, clips, TASKS, Accelerator(cpu=True), folder, log)

    whole = run("whole", lambda message: None)
    first = json.loads(records.read_text().splitlines()[0])
    counts = {task: first["terms"][f"pseudo/{task}"]["count"] for task in TASKS}
    assert counts["emotion"] > 0
    assert (counts["personality"], counts["ambivalence"]) == (0, 0)  # left to its labels; no texts here

    class KilledError(Exception):
        pass

    def kill(message: str) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        run("killed", kill)
    again = run("killed", lambda message: None)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_class_texts_that_are_not_there_teach_nothing() -> None:
    config = small.config(semi_supervision={"method": "prototypes", "regression": "none"})
    clips = small.joined()
    model = build_model(config, clips, TASKS)
    with pytest.raises(ConfigError, match=r"makes pseudo-labels by texts of the classes, and this model holds none"):
        TrainState.create(model, config, clips, 1)


def test_signals_stay_as_they_are_where_another_thread_trains() -> None:
    """As in a cluster's workers; only the first thread may say what a signal does."""

    def handler() -> object:
        with StopSignals(True):
            return signal.getsignal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(handler).result() is before
    assert handler() is not before


@pytest.mark.parametrize(("quiet", "told"), [(-1.0, {1, 2, 3}), (1e9, {1})])
def test_an_epoch_that_is_not_better_is_told_after_a_silence(
    quiet: float, told: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "QUIET", quiet)
    monkeypatch.setattr(loop, "monitor", lambda *_: 50.0)  # no epoch is better than the first
    lines: list[str] = []
    config = small.config(training={"num_epochs": 3})
    train(config, small.joined(), small.tasks(), Accelerator(cpu=True), RunDirectory(tmp_path), lines.append)
    assert {int(line.split()[1]) for line in lines if line.startswith("epoch")} == told
