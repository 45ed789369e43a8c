"""Progress of training: the figure that is monitored, sums of an epoch, and its record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from corpora.registry import CorporaConfig
from mmpsr.config import ConfigError, nearest
from mmpsr.objective.objective import Objective
from mmpsr.tasks import TaskSpec
from training.data.joined import JoinedCorpora
from training.fit.views import StepResult
from training.scoring.scores import MetricValue, dev_mean, evaluate_rows

__all__ = ["Progress", "Totals", "epoch_record", "monitor", "require_monitor", "track"]


def monitor(figures: Sequence[MetricValue], trained: Sequence[str], name: str) -> float:
    """The figure named `name`, on the dev splits of the trained corpora; higher is better.

    Args:
        figures: of any splits and corpora.
        trained: corpora that count.
        name: `mean` (see `training.scoring.scores.dev_mean`), a task (the mean of its dev metrics), or
            `<corpus>/<task>/<metric>`.

    Raises:
        ConfigError: no figure has this name; the nearest is named.
    """
    if name == "mean":
        return dev_mean(list(figures), tuple(trained))
    found: dict[str, list[float]] = {}
    for figure in figures:
        if figure.split == "dev" and figure.corpus in trained:
            for key in (figure.task, f"{figure.corpus}/{figure.task}/{figure.metric}"):
                found.setdefault(key, []).append(figure.value)
    if name not in found:
        hint = nearest(name, ["mean", *found])
        raise ConfigError(f"training.monitor: no dev figure of the trained corpora is named {name!r}; {hint}")
    known = [value for value in found[name] if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def require_monitor(
    name: str,
    joined: JoinedCorpora,
    dev_rows: Tensor,
    tasks: Mapping[str, TaskSpec],
    corpora: CorporaConfig,
) -> None:
    """Check, before anything is trained, that the dev rows will give the figure named `name`.

    Raises:
        ConfigError: see `monitor`.
    """
    blank = {task: np.zeros((len(dev_rows), spec.num_outputs)) for task, spec in tasks.items()}
    monitor(evaluate_rows(blank, joined, dev_rows, tasks, corpora), corpora.trained(), name)


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
        for name, found in (("accepted", result.accepted), ("candidates", result.candidates)):
            for task, values in found.items():
                getattr(self, f"{name}_{task}").add_(values)

    def means(self) -> Tensor:
        """Mean losses of the steps in which they counted, NaN where they never did, `[branches, T]`."""
        return torch.where(self.steps > 0, self.losses / self.steps, torch.nan)

    def acceptance(self) -> dict[str, dict[str, float]]:
        """By task and class, the share of the candidates whose pseudo-labels counted; NaN without candidates."""
        found = {}
        for task, spec in self.tasks.items():
            shares = getattr(self, f"accepted_{task}") / getattr(self, f"candidates_{task}")
            found[task] = dict(zip(spec.classes, shares.tolist(), strict=True))
        return found

    def conflicts(self, keys: Sequence[tuple[str, str]]) -> dict[str, dict[str, float]]:
        """Mean cosine between two losses' gradients by the first's name and the second's, for each pair that was seen.

        Args:
            keys: branch and task of the losses in order.
        """
        names = ["/".join(key) for key in keys]
        found: dict[str, dict[str, float]] = {}
        cosines, looks = self.cosines.tolist(), self.looks.tolist()
        for i, first in enumerate(names):
            seen = {second: cosines[i][j] / looks[i][j] for j, second in enumerate(names) if j > i and looks[i][j]}
            found |= {first: seen} if seen else {}
        return found

    def clear(self) -> None:
        """Start an epoch."""
        for buffer in self.buffers():
            buffer.zero_()


def epoch_record(
    progress: Progress,
    step: int,
    value: float,
    figures: Sequence[MetricValue],
    totals: Totals,
    objective: Objective,
    weights: Tensor,
    optimizer: torch.optim.Optimizer,
    quality: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """One line of `metrics.jsonl`.

    Args:
        progress: of the epoch that has ended.
        step: optimizer steps so far.
        value: the dev figure that epochs are chosen by.
        figures: all dev figures.
        totals: of the epoch's steps.
        objective: names of the loss terms.
        weights: of the loss terms now, `[branches, T]`.
        optimizer: its learning rate.
        quality: by task, what pseudo-labels are worth on dev, see `mmpsr.objective.pseudo_labels`.
    """
    means = (totals.losses / totals.steps.clamp(min=1)).flatten().tolist()
    terms = {
        f"{branch}/{task}": {"loss": loss, "count": round(count, 3), "weight": weight}
        for (branch, task), loss, count, weight in zip(
            objective.keys, means, totals.counts.flatten().tolist(), weights.flatten().tolist(), strict=True
        )
    }
    record: dict[str, Any] = {
        "epoch": progress.epoch + 1,
        "step": step,
        "lr": optimizer.param_groups[0]["lr"],
        "dev_figure": value,
        "dev": {f"{figure.corpus}/{figure.task}/{figure.metric}": figure.value for figure in figures},
        "terms": terms,
    }
    if conflicts := totals.conflicts(objective.keys):
        record["gradient_cosines"] = conflicts
    if objective.semi_supervision is not None:
        record["accepted"] = totals.acceptance()
        record["pseudo_label_quality"] = quality
    return record


def track(accelerator: Accelerator, record: Mapping[str, Any], step: int) -> None:
    """Send a record's finite numbers to the trackers."""
    values = {"dev_figure": record["dev_figure"], "lr": record["lr"]}
    values |= {f"dev/{name}": value for name, value in record["dev"].items()}
    for name, term in record["terms"].items():
        values |= {f"{kind}/{name}": value for kind, value in term.items()}
    for section in ("accepted", "pseudo_label_quality", "gradient_cosines"):
        for first, found in record.get(section, {}).items():
            values |= {f"{section}/{first}/{name}": value for name, value in found.items()}
    accelerator.log({name: value for name, value in values.items() if np.isfinite(value)}, step=step)
