"""The training loop of models in time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.metrics import average_precision_score

from mmpsr.config import validate
from mmpsr.errors import Interrupted
from tests.support.in_time import WIDTHS, planted
from training.config import InTimeConfig, InTimeTrainingConfig
from training.fit.callbacks import Callback, CheckpointWritten, EpochEnd
from training.fit.live import Stand
from training.in_time import baseline, fit
from training.in_time.baseline import FrameBaseline
from training.in_time.data import FrameData, Window
from training.in_time.fit import batches_of, frame_probabilities, learning_rate, train_in_time
from training.runs.directory import RunDirectory

CHANNELS = {name: [8, 8] for name in WIDTHS}


def config(folder: Path, **training: object) -> InTimeConfig:
    tree = {
        "corpora": {"sources": {"own": {"adapter": "table", "files": "own.csv", "id": "id", "split": "split"}}},
        "data": {"modalities": list(WIDTHS), "window": 40, "stride": 20},
        "model": {"kind": "lfan", "channels": CHANNELS, "width": 8, "dropout": 0.1},
        "training": {"num_epochs": 6, "batch_size": 8, "lr": 0.05, **training},
        "output": {"directory": str(folder)},
    }
    return validate(InTimeConfig, tree, "test")


def prepared(folder: Path) -> FrameData:
    data = planted(folder)[1]
    data.fit_scales(data.rows(["own"], "train"))
    return data


def trained(data: FrameData, folder: Path, say: object = lambda _: None, **training: object) -> torch.nn.Module:
    run = RunDirectory.create(config(folder, **training), "in_time")
    return train_in_time(config(folder, **training), data, Accelerator(cpu=True), run, say)


def test_the_learning_rate_falls_by_steps_down_to_its_floor() -> None:
    settings = InTimeTrainingConfig(lr=0.001, lr_epochs=40, gamma=0.1)
    assert learning_rate(settings, 39) == 0.001
    assert learning_rate(settings, 40) == pytest.approx(1e-4)
    assert learning_rate(settings, 400) == 1e-7


def test_batches_depend_on_seed_and_epoch_alone_and_none_is_of_one_window() -> None:
    windows = [Window(number, 0, 5) for number in range(9)]
    batches = batches_of(windows, 4, 0, 3)
    assert [len(batch) for batch in batches] == [4, 5]
    assert sorted(window.clip for batch in batches for window in batch) == list(range(9))
    assert batches_of(windows, 4, 0, 3) == batches
    assert batches_of(windows, 4, 0, 4) != batches


def test_a_killed_run_continues_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepared(tmp_path)
    whole = trained(data, tmp_path / "whole", num_epochs=2)
    settings = config(tmp_path / "cut", num_epochs=2)
    run = RunDirectory.create(settings, "in_time")
    step, taken = fit._step, []

    class Signals:
        received = False

        def __init__(self, enabled: bool) -> None: ...
        def __enter__(self) -> Signals:
            return self

        def __exit__(self, *_: object) -> None: ...

    def flagged(*given: object) -> float:
        taken.append(step(*given))
        Signals.received = len(taken) == 2
        return taken[-1]

    with monkeypatch.context() as patch:
        patch.setattr(fit, "StopSignals", Signals)
        patch.setattr(fit, "_step", flagged)
        with pytest.raises(Interrupted, match=r"stopped in epoch 1 after batch 2 of 3; .* --resume"):
            train_in_time(settings, data, Accelerator(cpu=True), run, lambda _: None)
    said: list[str] = []
    told: list[tuple[str, int, int, str]] = []

    class Watch(Callback):
        def on_epoch_end(self, epoch: EpochEnd) -> None:
            told.append(("epoch", epoch.epoch, epoch.step, f"{epoch.value == epoch.record['dev_figure']}"))

        def on_checkpoint(self, checkpoint: CheckpointWritten) -> None:
            told.append(("checkpoint", checkpoint.epoch, checkpoint.step, checkpoint.path.name))

    stands: list[Stand] = []
    again = train_in_time(settings, data, Accelerator(cpu=True), run, said.append, [Watch()], stands.append)
    # it goes on after two of three batches; dev figures are as a batch more
    assert [stand.epoch for stand in stands] == pytest.approx([0.5, 0.75, 1, 1, 1.25, 1.5, 1.75, 2])
    assert not any("epoch   " in message for message in said)
    assert told == [
        ("epoch", 1, 3, "True"), ("checkpoint", 1, 3, "step-00000003"),
        ("epoch", 2, 6, "True"), ("checkpoint", 2, 6, "step-00000006"),
    ]  # fmt: skip
    assert said[0] == "continuing at epoch 1, batch 3"
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.slow
def test_context_and_modalities_beat_single_frames(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    train, dev, test = (data.rows(["own"], split) for split in ("train", "dev", "test"))
    model = trained(data, tmp_path / "runs", num_epochs=15)
    linear_model = FrameBaseline(data, train, dev)
    labels = np.concatenate([data.labels[row] for row in test])
    ours = np.concatenate(frame_probabilities(model, data, test, config(tmp_path)))
    linear = np.concatenate(linear_model.probabilities(test))
    assert average_precision_score(labels, ours) > average_precision_score(labels, linear) + 0.05


def test_predictions_of_a_clip_do_not_depend_on_its_company(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    model = trained(data, tmp_path / "runs", num_epochs=1)
    settings = config(tmp_path)
    both = frame_probabilities(model, data, [3, 23], settings)
    np.testing.assert_array_equal(both[1], frame_probabilities(model, data, [23], settings)[0])
    assert [len(probs) for probs in both] == [60, 60]
    assert not model.training


def test_negatives_are_drawn_to_the_number_of_positives(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    rows = data.rows(["own"], "train")
    settings = InTimeTrainingConfig(balance="negatives")
    kept = fit._kept_negatives(data, rows, settings, 0)
    marked = np.concatenate([kept[row] for row in rows])
    labels = np.concatenate([data.labels[row] for row in rows])
    assert marked[labels == 1].all()
    assert marked[labels == 0].sum() == (labels == 1).sum() == 6 * 20
    assert not np.array_equal(
        marked, np.concatenate([fit._kept_negatives(data, rows, settings, 1)[row] for row in rows])
    )
    assert fit._class_weights(data, rows, 2, "weights").tolist() == pytest.approx([720 / (2 * 600), 720 / (2 * 120)])


def test_the_loss_of_an_epoch_is_the_mean_over_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, losses = prepared(tmp_path), iter([torch.tensor(value) for value in (1.0, 2.0, 6.0, 4.0, 4.0, 4.0)])
    monkeypatch.setattr(fit, "_step", lambda *_: next(losses))
    trained(data, tmp_path / "runs", num_epochs=2)
    (log,) = (tmp_path / "runs").rglob("metrics.jsonl")
    assert [json.loads(line)["loss"] for line in log.read_text().splitlines()] == [3.0, 4.0]


def test_the_linear_baseline_reads_every_kth_frame_and_misses_no_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline, "MOST_FRAMES", 40)
    data = prepared(tmp_path)
    train, dev = data.rows(["own"], "train"), data.rows(["own"], "dev")
    made = FrameBaseline(data, train, dev)
    assert made.step == 18  # 12 clips of 60 frames
    labels = np.array([-1, 0, 0, 1, 0, -1, *[0] * 40, 1], np.int8)
    # of class 0 (frames 1, 2, 4, 6, 7, ...) the first, the 19th and the 37th; of class 1 (frames 3 and 46) the first
    assert made._chosen(labels).tolist() == [1, 3, 21, 39]
    assert made.model.classes_.tolist() == [0, 1]
    assert made._chosen(np.full(5, -1, np.int8)).tolist() == []
