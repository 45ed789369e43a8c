"""The training loop of models in time: shuffled windows, dev average precision after each epoch, checkpoints anywhere.

Shape suffixes: B windows, L frames, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from corpora.timeline import UNKNOWN
from mmpsr.errors import Interrupted
from mmpsr.metrics.in_time import frame_metrics
from mmpsr.temporal.base import TemporalModel
from mmpsr.temporal.build import create_temporal
from mmpsr.temporal.windows import predict_clip
from training.config import InTimeConfig, InTimeTrainingConfig
from training.fit.callbacks import Callback, Callbacks, CheckpointWritten, EpochEnd
from training.fit.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint, save_tensors
from training.fit.live import Stand, Watch
from training.fit.loop import DivergedError, StopSignals
from training.in_time.data import FrameBatch, FrameData, Window
from training.runs.directory import RunDirectory

__all__ = ["batches_of", "frame_probabilities", "train_in_time"]

LOWEST_LR = 1e-7
MONITOR = "bah_average_precision"
"""Of dev frames, the figure that epochs are chosen by."""
IGNORED = UNKNOWN
"""Target of a frame that no loss is taken of."""


def learning_rate(settings: InTimeTrainingConfig, epoch: int) -> float:
    """Compute the learning rate of an epoch, counted from 0.

        lr_e = max(lr gamma^floor(e / lr_epochs), 1e-7)

    Example:
        >>> settings = InTimeTrainingConfig(lr=0.008, gamma=0.9, lr_epochs=50)
        >>> learning_rate(settings, 49), round(learning_rate(settings, 50), 6)
        (0.008, 0.0072)
    """
    return max(settings.lr * settings.gamma ** (epoch // settings.lr_epochs), LOWEST_LR)


def batches_of(windows: Sequence[Window], batch_size: int, seed: int, epoch: int) -> list[list[Window]]:
    """Shuffle windows into batches, a pure function of seed and epoch.

    A last batch of a single window joins the one before: batch normalisation of one window tells little.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(windows))
    batches = [
        [windows[place] for place in order[first : first + batch_size]] for first in range(0, len(order), batch_size)
    ]
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2].extend(batches.pop())
    return batches


def train_in_time(
    config: InTimeConfig,
    data: FrameData,
    accelerator: Accelerator,
    run: RunDirectory,
    say: Callable[[str], None],
    callbacks: Sequence[Callback] = (),
    watch: Watch | None = None,
) -> TemporalModel:
    """Train on all windows of the labelled training clips; return the model of the best epoch.

    Best is the highest average precision of dev frames (by thresholds, see `mmpsr.metrics.in_time`), the later of
    equals. There is no early stopping.

    Args:
        config: the run's configuration.
        data: clips with fitted scales.
        accelerator: device and precision; one process.
        run: where checkpoints, best weights and figures go; training continues from its newest checkpoint.
        say: takes progress messages.
        callbacks: told of epochs and checkpoints, after those that `output.callbacks` names.
        watch: told where training stands, in place of messages about epochs.

    Raises:
        CallbackError: a callback has failed; it is named.
        DivergedError: no epoch gave a dev figure that is a number.
        Interrupted: SIGINT or SIGTERM came and a checkpoint was written.
    """
    settings, trained = config.training, config.corpora.trained()
    told = Callbacks.of(config.output.callbacks, callbacks)
    spec = config.tasks.resolve()[config.tasks.active[0]]
    set_seed(settings.seed)
    model = create_temporal(config.model, data.widths, spec.num_outputs)
    for name, scale in data.scales.items():
        model.standardizers[name].load_state_dict(
            {"mean": torch.from_numpy(scale.mean), "std": torch.from_numpy(scale.std)}
        )
    model.to(accelerator.device)
    optimizer = torch.optim.SGD(
        model.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0.0,
    )  # fmt: skip
    train_rows = data.rows(trained, "train")
    train_rows = train_rows[data.labelled[train_rows]]
    dev_rows = data.rows(trained, "dev")
    dev_rows = dev_rows[data.labelled[dev_rows]]
    windows = data.windows(train_rows, config.data.window, config.data.stride)
    weights = _class_weights(data, train_rows, spec.num_outputs, settings.balance).to(accelerator.device)
    set_seed(settings.seed + 1)
    progress: dict[str, Any] = {"epoch": 0, "batch": 0, "steps": 0, "best": -math.inf, "best_epoch": -1, "loss": 0.0}
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint is not None:
        stored = load_checkpoint(checkpoint, {"model": model}, optimizer, accelerator)
        progress = {name: stored[name] for name in progress}
        say(f"continuing at epoch {progress['epoch'] + 1}, batch {progress['batch'] + 1}")
    run.rewind(progress["epoch"])

    losses: list[Tensor] = []  # of steps since the last look at them, which waits for the device

    def add_losses() -> None:
        progress["loss"] += float(torch.stack(losses).double().sum()) if losses else 0.0
        losses.clear()

    def save() -> None:
        add_losses()
        modules: dict[str, torch.nn.Module] = {"model": model}
        path = save_checkpoint(run.checkpoints, progress["steps"], modules, optimizer, progress, accelerator)
        told.checkpoint_written(CheckpointWritten(run.path, path, progress["epoch"], progress["steps"]))

    def show(epoch: float, value: float = math.nan) -> None:
        if watch is not None:
            best = progress["best"] if progress["best_epoch"] >= 0 else math.nan
            watch(Stand(epoch, settings.num_epochs, "dev AP", value, best, progress["best_epoch"] + 1))

    value = math.nan
    with StopSignals(True) as signals:
        while progress["epoch"] < settings.num_epochs:
            epoch = progress["epoch"]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, epoch)
            batches = batches_of(windows, settings.batch_size, settings.seed, epoch)
            show(epoch + progress["batch"] / (len(batches) + 1), value)  # dev figures count as a batch
            kept = _kept_negatives(data, train_rows, settings, epoch)
            model.train()
            for batch, targets in _read_ahead(data, batches[progress["batch"] :], kept):
                losses.append(_step(model, optimizer, batch, targets, weights, accelerator))
                progress["batch"] += 1
                progress["steps"] += 1
                show(epoch + progress["batch"] / (len(batches) + 1), value)
                if signals.received:
                    save()
                    raise Interrupted(
                        f"stopped in epoch {epoch + 1} after batch {progress['batch']} of {len(batches)}; repeat the "
                        "command with --resume to continue"
                    )
            add_losses()
            probs = frame_probabilities(model, data, dev_rows, config)
            value = frame_metrics([data.labels[row] for row in dev_rows], probs, [MONITOR])[MONITOR]
            best = bool(value >= progress["best"])
            if best:
                progress["best"], progress["best_epoch"] = value, epoch
                save_tensors(dict(model.state_dict()), run.best)
            record = {
                "epoch": epoch + 1, "step": progress["steps"], "lr": learning_rate(settings, epoch),
                "loss": progress["loss"] / len(batches), "dev_figure": value,
            }  # fmt: skip
            run.log(record)
            accelerator.log({name: number for name, number in record.items() if math.isfinite(number)}, step=epoch + 1)
            told.epoch_ended(EpochEnd(run.path, epoch + 1, progress["steps"], value, best, record, model))
            show(epoch + 1, value)
            if watch is None and (best or (epoch + 1) % 10 == 0):
                star = " *" if best else ""
                say(
                    f"epoch {epoch + 1:3d}  loss {record['loss']:.4f}  dev AP {value:6.2f}  "
                    f"best {progress['best']:6.2f}{star}"
                )
            progress |= {"epoch": epoch + 1, "batch": 0, "loss": 0.0}
            save()
    if progress["best_epoch"] < 0:
        raise DivergedError(
            f"the dev figure was not a number in any of {settings.num_epochs} epochs, so there are no best weights; "
            "training diverged: lower training.lr"
        )
    model.load_state_dict(load_file(run.best))
    return model.eval()


def _step(
    model: TemporalModel,
    optimizer: torch.optim.Optimizer,
    batch: FrameBatch,
    targets: Tensor,
    weights: Tensor,
    accelerator: Accelerator,
) -> Tensor:
    """Take a step by the mean cross-entropy of the frames that have a label; none of a batch without any."""
    if not bool((targets != IGNORED).any()):
        return weights.new_zeros(())
    optimizer.zero_grad(set_to_none=True)
    with accelerator.autocast():
        logits = model(*batch.to(accelerator.device))
    targets = targets.to(accelerator.device)
    loss = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), weights, ignore_index=IGNORED)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _read_ahead(
    data: FrameData, batches: Sequence[Sequence[Window]], kept: dict[int, NDArray[np.bool_]]
) -> Iterator[tuple[FrameBatch, Tensor]]:
    """Read the next batch while one is trained on."""

    def read(windows: Sequence[Window]) -> tuple[FrameBatch, Tensor]:
        targets = data.targets(windows)
        for row, window in enumerate(windows):
            if window.clip in kept:
                left_out = ~kept[window.clip][window.begin : window.end]
                targets[row, : len(left_out)][torch.from_numpy(left_out)] = IGNORED
        return data.batch(windows), targets

    with ThreadPoolExecutor(1) as reader:
        waiting = None
        for windows in batches:
            following = reader.submit(read, windows)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def _class_weights(data: FrameData, rows: NDArray[np.int64], num_classes: int, balance: str) -> Tensor:
    """Weigh classes by n / (C n_c) over the training frames, or all alike; a class without a frame counts as one."""
    if balance != "weights":
        return torch.ones(num_classes)
    counts = np.zeros(num_classes)
    for row in rows:
        labels = data.labels[row]
        counts += np.bincount(labels[labels != UNKNOWN], minlength=num_classes)
    return torch.from_numpy(counts.sum() / (num_classes * np.maximum(counts, 1))).float()


def _kept_negatives(
    data: FrameData, rows: NDArray[np.int64], settings: InTimeTrainingConfig, epoch: int
) -> dict[int, NDArray[np.bool_]]:
    """Draw which frames count in the loss: all positives, and as many negatives; nothing is left out otherwise."""
    if settings.balance != "negatives":
        return {}
    labels = np.concatenate([data.labels[row] for row in rows])
    negatives = np.flatnonzero(labels == 0)
    number = min(len(negatives), int((labels > 0).sum()))
    drawn = np.random.default_rng([settings.seed, epoch, 1]).choice(negatives, number, replace=False)
    kept = labels > 0
    kept[drawn] = True
    ends = np.cumsum([len(data.labels[row]) for row in rows])
    return dict(zip(map(int, rows), np.split(kept, ends[:-1]), strict=True))


@torch.no_grad()
def frame_probabilities(
    model: TemporalModel, data: FrameData, rows: Sequence[int] | NDArray[np.int64], config: InTimeConfig
) -> list[NDArray[np.float32]]:
    """Predict the probability of the last class for each frame of some clips, `[T]` each.

    Models that are applied to a whole clip see it at once; of others the logits of windows are averaged where these
    overlap. A clip is read alone, so that nothing depends on its company.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    found = []
    for row in rows:
        features, _, presence_BM = data.batch([Window(int(row), 0, int(data.lengths[row]))]).to(device)
        whole = {name: values_BTD[0] for name, values_BTD in features.items()}
        settings = config.data
        logits_TC = predict_clip(model, whole, settings.window, settings.stride, presence_BM[0])
        found.append(logits_TC.double().softmax(dim=-1)[:, -1].float().cpu().numpy())
    model.train(was_training)
    return found
