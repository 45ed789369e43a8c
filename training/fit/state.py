"""The state of training: all that steps change, so that a run continues from it as if it had never stopped."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from mmpsr.balancing.base import Balancer
from mmpsr.balancing.build import create_balancer
from mmpsr.batch import Batch, Predictions
from mmpsr.config import ConfigError
from mmpsr.models.base import FusionModel
from mmpsr.models.fused import FusedMCDM, fits
from mmpsr.models.mcdm import MCDM
from mmpsr.models.prototype_teacher import PrototypeTeacher
from mmpsr.objective.objective import Objective
from mmpsr.objective.pseudo_labels import SemiSupervision
from mmpsr.tasks import TaskSpec
from training.config import RunConfig, TrainingConfig
from training.data.joined import JoinedCorpora
from training.fit.checkpoint import load_checkpoint, save_checkpoint
from training.fit.optimization import Schedule, build_optimizer
from training.fit.views import StepResult, compile_model

__all__ = ["Progress", "Totals", "TrainState"]


@dataclass
class Progress:
    """Where a run is; belongs to the checkpoint.

    Attributes:
        epoch: the one being trained, from 0.
        batch: optimizer steps taken in it.
        best: the best dev figure so far.
        best_epoch: whose it is; -1 before any.
    """

    epoch: int = 0
    batch: int = 0
    best: float = -math.inf
    best_epoch: int = -1


class Totals(nn.Module):
    """Sums over an epoch's steps, on the device, so that logging waits for it once an epoch."""

    losses: Tensor
    steps: Tensor
    counts: Tensor
    cosines: Tensor
    looks: Tensor

    def __init__(self, num_branches: int, tasks: Mapping[str, TaskSpec]) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        for name in ("losses", "steps", "counts"):
            self.register_buffer(name, torch.zeros(num_branches, len(tasks)))
        for name in ("cosines", "looks"):
            self.register_buffer(name, torch.zeros(num_branches * len(tasks), num_branches * len(tasks)))
        for task, spec in tasks.items():
            for name in ("accepted", "candidates"):
                self.register_buffer(f"{name}_{task}", torch.zeros(spec.num_outputs))

    def add(self, result: StepResult) -> None:
        """Add a step."""
        self.losses += result.losses
        self.steps += result.counts > 0
        self.counts += result.counts
        if result.cosines is not None:
            self.cosines += result.cosines.nan_to_num()
            self.looks += result.cosines.isfinite()
        for name, of_task in (("accepted", result.accepted), ("candidates", result.candidates)):
            for task, values in of_task.items():
                getattr(self, f"{name}_{task}").add_(values)

    def means(self) -> Tensor:
        """Average losses over the steps in which they counted, NaN where they never did, `[branches, T]`."""
        return torch.where(self.steps > 0, self.losses / self.steps, torch.nan)

    def acceptance(self) -> dict[str, dict[str, float]]:
        """Give, by task and class, the share of candidates whose pseudo-labels counted; NaN without candidates."""
        shares_by_task = {}
        for task, spec in self.tasks.items():
            shares = getattr(self, f"accepted_{task}") / getattr(self, f"candidates_{task}")
            shares_by_task[task] = dict(zip(spec.classes, shares.tolist(), strict=True))
        return shares_by_task

    def conflicts(self, keys: Sequence[tuple[str, str]]) -> dict[str, dict[str, float]]:
        """Mean cosine between two losses' gradients by the first's name and the second's, for each pair that was seen.

        Args:
            keys: branch and task of the losses in order.
        """
        names = ["/".join(key) for key in keys]
        conflicts: dict[str, dict[str, float]] = {}
        cosines, looks = self.cosines.tolist(), self.looks.tolist()
        for i, first in enumerate(names):
            seen = {second: cosines[i][j] / looks[i][j] for j, second in enumerate(names) if j > i and looks[i][j]}
            conflicts |= {first: seen} if seen else {}
        return conflicts

    def clear(self) -> None:
        """Start an epoch."""
        for buffer in self.buffers():
            buffer.zero_()


@dataclass
class TrainState:
    """What training carries from step to step; all but the compiled model is in a checkpoint.

    Attributes:
        model: as the optimizer changes it.
        average: of the model's weights over steps, which is evaluated; the model itself without averaging.
        teacher: averaged model in evaluation mode, or class texts, where the semi-supervised method needs one.
        objective: loss terms.
        balancer: weights of the loss terms.
        optimizer: of the model's parameters.
        schedule: of the optimizer's learning rate.
        totals: sums over the steps of the epoch.
        compiled: the model, compiled, where the configuration asks for it.
        fused: the model, in few products, where the configuration asks for it.
        progress: epoch, batch and the best dev figure.
        step: optimizer steps taken so far.
    """

    model: FusionModel
    average: FusionModel
    teacher: FusionModel | PrototypeTeacher | None
    objective: Objective
    balancer: Balancer
    optimizer: Optimizer
    schedule: Schedule
    totals: Totals
    compiled: Callable[[Batch], Predictions] | None
    fused: FusedMCDM | None = None
    progress: Progress = field(default_factory=Progress)
    step: int = 0
    _listed: dict[int, list[Tensor]] = field(default_factory=dict)

    @classmethod
    def create(cls, model: FusionModel, config: RunConfig, joined: JoinedCorpora, num_steps: int) -> TrainState:
        """Begin training.

        Args:
            model: with initial weights, on the device of the clips.
            config: the run's configuration.
            joined: clips, whose training labels balance the losses.
            num_steps: optimizer steps of the whole run.

        Raises:
            ConfigError: a setting does not fit the run.
        """
        settings, device = config.training, joined.presence.device
        train_rows = joined.rows(config.corpora.trained(), "train")
        labels = {task: values[train_rows] for task, values in joined.labels.items()}
        average = copy.deepcopy(model) if settings.weight_averaging else model
        objective = Objective(model.tasks, config.objective, labels, config.semi_supervision, train_rows).to(device)
        optimizer = build_optimizer(model, settings)
        return cls(
            model,
            average,
            _create_teacher(model, objective.semi_supervision),
            objective,
            create_balancer(objective.keys, config.balancing, model.own_trunks).to(device),
            optimizer,
            Schedule(optimizer, settings, num_steps),
            Totals(len(objective.branches), model.tasks).to(device),
            compile_model(model) if settings.compile else None,
            _fuse(model, settings),
        )

    @torch.no_grad()
    def advance(self, settings: TrainingConfig) -> None:
        """Count a step of the optimizer, and let the averages follow it."""
        self.count_step()
        for average, decay in self.averages(settings):
            torch._foreach_lerp_(self._parameters(average), self._parameters(self.model), 1.0 - decay)

    def count_step(self) -> None:
        """Count a step of the optimizer."""
        self.schedule.step()
        self.model.constrain()
        self.step += 1
        self.progress.batch += 1

    def averages(self, settings: TrainingConfig) -> list[tuple[FusionModel, float]]:
        """List the averaged models, each with its decay at this step."""
        most, decays = (1 + self.step) / (10 + self.step), []
        if self.average is not self.model:
            decays.append((self.average, min(settings.weight_averaging, most)))
        if isinstance(self.teacher, FusionModel) and self.objective.semi_supervision is not None:
            decays.append((self.teacher, min(self.objective.semi_supervision.teacher_decay, most)))
        return decays

    def _parameters(self, module: nn.Module) -> list[Tensor]:
        """List a model's parameters, which are looked for once."""
        if id(module) not in self._listed:
            self._listed[id(module)] = list(module.parameters())
        return self._listed[id(module)]

    def end_epoch(self, value: float) -> None:
        """Let schedule and balancer follow an epoch with this dev figure, and begin the next one."""
        self.schedule.epoch_ended(value)
        self.balancer.epoch_ended(self.totals.means())
        self.totals.clear()
        self.progress.epoch, self.progress.batch = self.progress.epoch + 1, 0

    def save(self, folder: Path, accelerator: Accelerator) -> Path:
        """Write a checkpoint, and return its folder; every process calls this.

        Args:
            folder: `<run>/checkpoints`.
            accelerator: who is the main process.
        """
        values = {"progress": asdict(self.progress), "schedule": self.schedule.state_dict()}
        return save_checkpoint(folder, self.step, self._modules(), self.optimizer, values, accelerator)

    def restore(self, path: Path, accelerator: Accelerator) -> None:
        """Continue from a checkpoint.

        Raises:
            CheckpointError: the checkpoint was written by another number of processes.
        """
        values = load_checkpoint(path, self._modules(), self.optimizer, accelerator)
        self.progress, self.step = Progress(**values["progress"]), values["step"]
        self.schedule.load_state_dict(values["schedule"])

    def _modules(self) -> dict[str, nn.Module]:
        """Name modules by their file in a checkpoint."""
        modules: dict[str, nn.Module] = {
            "model": self.model, "objective": self.objective, "balancer": self.balancer, "totals": self.totals,
        }  # fmt: skip
        if self.average is not self.model:
            modules["average"] = self.average
        if isinstance(self.teacher, FusionModel):  # class texts are the model's own
            modules["teacher"] = self.teacher
        return modules


def _fuse(model: FusionModel, settings: TrainingConfig) -> FusedMCDM | None:
    is_plain = not settings.compile and settings.mixed_precision == "no"
    is_cpu = next(model.parameters()).device.type == "cpu"
    if settings.fused is False or (settings.fused == "auto" and not (is_plain and is_cpu)):
        return None
    if isinstance(model, MCDM) and fits(model):
        return FusedMCDM([model])
    if settings.fused == "auto":
        return None
    raise ConfigError(
        'training.fused takes steps of the published layers alone: model.kind "mcdm", graph "ucgnn" (unitary, relu), '
        'attention "mha", guide banks, task projectors and what can be switched beside them; leave it out for others'
    )


def _create_teacher(model: FusionModel, semi: SemiSupervision | None) -> FusionModel | PrototypeTeacher | None:
    if semi is None or not semi.needs_teacher:
        return None
    if semi.averages_weights:
        return copy.deepcopy(model).eval()
    if model.prototypes is None:
        raise ConfigError(
            'semi_supervision.method = "prototypes" makes pseudo-labels by texts of the classes, and this model holds '
            'none; give a task `texts`, set linear.fusion = "late" and model.linear_path, or choose another method'
        )
    return PrototypeTeacher(model.prototypes, model.tasks)
