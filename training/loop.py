"""The training loop: epochs over mixed batches, dev figures after each, early stopping, checkpoints anywhere."""

from __future__ import annotations

import copy
import math
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from safetensors.torch import load_file
from torch import Tensor, nn

from mmpsr.balancing import create_balancer
from mmpsr.model import MCDM
from mmpsr.objective import Objective
from mmpsr.tasks import TaskSpec
from training.baseline import LinearBaseline
from training.blending import choose_shares
from training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint, save_tensors
from training.config import RunConfig, TrainingConfig
from training.data import JoinedCorpora
from training.evaluation import Figure, dev_mean, evaluate_rows, predict
from training.run_directory import RunDirectory
from training.sampling import epoch_batches
from training.step import StepResult, hide_modalities, training_step

__all__ = ["DivergedError", "Interrupted", "build_model", "train"]

LEARNING_RATE_FACTOR, LEARNING_RATE_PATIENCE, LEARNING_RATE_FLOOR = 0.5, 2, 1e-7


class Interrupted(Exception):  # noqa: N818  a wish of the user's, not an error
    """Training was stopped by a signal, after a checkpoint was written."""


class DivergedError(RuntimeError):
    """No epoch gave dev figures that are numbers."""


@dataclass
class Progress:
    """Where a run is; belongs to the checkpoint."""

    epoch: int = 0
    batch: int = 0
    best: float = -math.inf
    best_epoch: int = -1


class Totals(nn.Module):
    """Sums over an epoch's steps, on the device, so that logging waits for it once an epoch."""

    losses: Tensor
    steps: Tensor
    counts: Tensor

    def __init__(self, num_branches: int, num_tasks: int) -> None:
        super().__init__()
        for name in ("losses", "steps", "counts"):
            self.register_buffer(name, torch.zeros(num_branches, num_tasks))

    def add(self, result: StepResult) -> None:
        """Add a step."""
        self.losses += result.losses
        self.steps += result.counts > 0
        self.counts += result.counts

    def clear(self) -> None:
        """Start an epoch."""
        for buffer in self.buffers():
            buffer.zero_()


def build_model(
    config: RunConfig, joined: JoinedCorpora, tasks: Mapping[str, TaskSpec], baseline: LinearBaseline | None = None
) -> MCDM:
    """A model with initial weights from the seed, the training clips' feature statistics, and its linear path."""
    set_seed(config.training.seed)
    model = MCDM(joined.widths, tasks, config.model).to(joined.presence.device)
    joined.fit_standardizers(model.standardizers, joined.rows(config.corpora.trained(), "train"))
    if model.linear_paths:
        baseline = baseline or LinearBaseline(joined, tasks, config.corpora)
        for task in model.linear_paths:
            weight, bias = baseline.coefficients(task)
            model.set_linear_path(task, torch.from_numpy(weight), torch.from_numpy(bias))
    return model


def build_optimizer(model: MCDM, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer of everything that is trained."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    cls = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return cls(trained, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def train(
    config: RunConfig,
    joined: JoinedCorpora,
    tasks: Mapping[str, TaskSpec],
    accelerator: Accelerator,
    run: RunDirectory,
    say: Callable[[str], None],
    baseline: LinearBaseline | None = None,
) -> MCDM:
    """Train until the dev mean stops rising, and return the model with its best weights.

    Args:
        config: the run's configuration.
        joined: clips on the accelerator's device.
        tasks: active tasks.
        accelerator: device, precision, processes and trackers.
        run: where checkpoints, best weights and figures go; training continues from its newest checkpoint.
        say: takes progress messages.
        baseline: the linear models of `model.linear_path`; fitted here where left out.

    Raises:
        Interrupted: SIGINT or SIGTERM came and a checkpoint was written.
    """
    settings, trained = config.training, config.corpora.trained()
    model = build_model(config, joined, tasks, baseline)
    average = copy.deepcopy(model) if settings.weight_averaging else model
    train_rows = [joined.rows([name], "train").cpu().numpy() for name in trained]
    dev_rows = joined.rows(trained, "dev")
    labels = {task: values[joined.rows(trained, "train")] for task, values in joined.labels.items()}
    objective = Objective(tasks, config.objective, labels, settings.pseudo_labels == "paper").to(accelerator.device)
    balancer = create_balancer(objective.keys, config.balancing).to(accelerator.device)
    optimizer = build_optimizer(model, settings)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", LEARNING_RATE_FACTOR, LEARNING_RATE_PATIENCE, min_lr=LEARNING_RATE_FLOOR
    )
    totals = Totals(len(objective.branches), len(tasks)).to(accelerator.device)
    modules: dict[str, nn.Module] = {"model": model, "balancer": balancer, "totals": totals}
    if average is not model:
        modules["average"] = average
    set_seed(settings.seed + 1 + accelerator.process_index)

    progress, step = Progress(), 0
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint is not None:
        state = load_checkpoint(checkpoint, modules, optimizer, accelerator)
        progress, step = Progress(**state["progress"]), state["step"]
        scheduler.load_state_dict(state["scheduler"])
        say(f"continuing at epoch {progress.epoch + 1}, step {step}")
    if accelerator.is_main_process:
        run.rewind(progress.epoch)

    def save() -> None:
        state = {"progress": asdict(progress), "scheduler": scheduler.state_dict()}
        save_checkpoint(run.checkpoints, step, modules, optimizer, state, accelerator)

    model.train()
    with _StopSignals(accelerator.num_processes == 1) as signals:
        while progress.epoch < settings.num_epochs and progress.epoch - progress.best_epoch <= settings.patience:
            batches = epoch_batches(train_rows, settings.batch_size, config.data, settings.seed, progress.epoch)
            while progress.batch < len(batches):
                rows = batches[progress.batch][accelerator.process_index :: accelerator.num_processes]
                batch = joined.batch(torch.from_numpy(rows).to(accelerator.device))
                batch = hide_modalities(batch, settings.modality_dropout)
                result = training_step(model, objective, balancer, batch, accelerator)
                optimizer.step()
                step += 1
                progress.batch += 1
                totals.add(result)
                if average is not model:
                    _update_average(average, model, min(settings.weight_averaging, (1 + step) / (10 + step)))
                if signals.received or step % settings.checkpoint_steps == 0:
                    save()
                if signals.received:
                    raise Interrupted(f"stopped after step {step}; repeat the command with --resume to continue")
            predicted = predict(average, joined, dev_rows)
            figures = evaluate_rows(predicted, joined, dev_rows, tasks, config.corpora)
            value = _from_main(dev_mean(figures, trained))
            if value > progress.best:
                progress.best, progress.best_epoch = value, progress.epoch
                if accelerator.is_main_process:
                    save_tensors(dict(average.state_dict()), run.best)
            if accelerator.is_main_process:
                record = _record(progress, step, value, figures, totals, objective, balancer.weights, optimizer)
                run.log(record)
                _track(accelerator, record, step)
                if progress.best_epoch == progress.epoch or (progress.epoch + 1) % 10 == 0:
                    star = " *" if progress.best_epoch == progress.epoch else ""
                    say(f"epoch {progress.epoch + 1:3d}  dev mean {value:6.2f}  best {progress.best:6.2f}{star}")
            if settings.scheduler == "plateau":
                scheduler.step(value)
            totals.clear()
            progress.epoch, progress.batch = progress.epoch + 1, 0
            save()
    accelerator.wait_for_everyone()
    if progress.best_epoch < 0:
        raise DivergedError(
            f"the dev mean was not a number in any of {progress.epoch} epochs, so there are no best weights; "
            "training diverged: lower training.lr"
        )
    model.load_state_dict(load_file(run.best))
    shares = choose_shares(model, joined, config)
    accelerator.wait_for_everyone()
    if shares and accelerator.is_main_process:
        save_tensors(dict(model.state_dict()), run.best)
        say("the network's share beside the linear path: " + ", ".join(f"{k} {v:g}" for k, v in shares.items()))
    return model.eval()


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)


def _from_main(value: float) -> float:
    """The main process' figure, so that all processes decide alike."""
    return broadcast_object_list([value])[0]


def _record(
    progress: Progress,
    step: int,
    value: float,
    figures: list[Figure],
    totals: Totals,
    objective: Objective,
    weights: Tensor,
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any]:
    """One line of `metrics.jsonl`."""
    means = (totals.losses / totals.steps.clamp(min=1)).flatten().tolist()
    terms = {
        f"{branch}/{task}": {"loss": loss, "count": int(count), "weight": weight}
        for (branch, task), loss, count, weight in zip(
            objective.keys, means, totals.counts.flatten().tolist(), weights.flatten().tolist(), strict=True
        )
    }
    dev = {f"{figure.corpus}/{figure.task}/{figure.metric}": figure.value for figure in figures}
    return {
        "epoch": progress.epoch + 1,
        "step": step,
        "lr": optimizer.param_groups[0]["lr"],
        "dev_mean": value,
        "dev": dev,
        "terms": terms,
    }


def _track(accelerator: Accelerator, record: Mapping[str, Any], step: int) -> None:
    values = {"dev_mean": record["dev_mean"], "lr": record["lr"]}
    values |= {f"dev/{name}": value for name, value in record["dev"].items()}
    for name, term in record["terms"].items():
        values |= {f"{kind}/{name}": value for kind, value in term.items()}
    accelerator.log({name: value for name, value in values.items() if np.isfinite(value)}, step=step)


class _StopSignals:
    """Turns SIGINT and SIGTERM into a flag that the loop reads between steps; a second one stops at once.

    With several processes the flag would be read at different steps, so signals keep their meaning there.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.received = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _StopSignals:
        if self.enabled:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True
