"""Progress of training: the figure that is monitored, and the record of an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import Tensor

from corpora.registry import CorporaConfig
from mmpsr.config import ConfigError, nearest
from mmpsr.tasks import TaskSpec
from training.data.joined import JoinedCorpora
from training.fit.state import TrainState
from training.scoring.scores import MetricValue, dev_mean, evaluate_rows

__all__ = ["epoch_record", "monitor", "require_monitor", "track"]


def monitor(figures: Sequence[MetricValue], trained: Sequence[str], name: str) -> float:
    """Pick the figure named `name`, on the dev splits of the trained corpora; higher is better.

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
    values: dict[str, list[float]] = {}
    for figure in figures:
        if figure.split == "dev" and figure.corpus in trained:
            for key in (figure.task, f"{figure.corpus}/{figure.task}/{figure.metric}"):
                values.setdefault(key, []).append(figure.value)
    if name not in values:
        hint = nearest(name, ["mean", *values])
        raise ConfigError(f"training.monitor: no dev figure of the trained corpora is named {name!r}; {hint}")
    known = [value for value in values[name] if np.isfinite(value)]
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


def epoch_record(
    state: TrainState, value: float, figures: Sequence[MetricValue], quality: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Make one line of `metrics.jsonl`.

    Args:
        state: at the end of the epoch.
        value: the dev figure that epochs are chosen by.
        figures: all dev figures.
        quality: by task, what pseudo-labels are worth on dev, see `mmpsr.objective.pseudo_labels`.
    """
    objective, totals = state.objective, state.totals
    means = (totals.losses / totals.steps.clamp(min=1)).flatten().tolist()
    counts, weights = totals.counts.flatten().tolist(), state.balancer.weights.flatten().tolist()
    terms = {
        f"{branch}/{task}": {"loss": loss, "count": round(count, 3), "weight": weight}
        for (branch, task), loss, count, weight in zip(objective.keys, means, counts, weights, strict=True)
    }
    record: dict[str, Any] = {
        "epoch": state.progress.epoch + 1,
        "step": state.step,
        "lr": state.optimizer.param_groups[0]["lr"],
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
        for first, numbers in record.get(section, {}).items():
            values |= {f"{section}/{first}/{name}": value for name, value in numbers.items()}
    accelerator.log({name: value for name, value in values.items() if np.isfinite(value)}, step=step)
