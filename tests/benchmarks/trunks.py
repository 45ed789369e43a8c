r"""Which tasks of a run are better off with a trunk of their own, by cross-validation over groups of training clips.

    uv run python tests/benchmarks/trunks.py configs/text_tables.toml corpora.root=<folder of the tables>

Clips of dev and test are left out. Training clips of each corpus are dealt to five folds of whole groups; of every fold
in turn the model is trained on three others, epochs are chosen on the fourth, and the task's metrics are taken on the
fold itself: jointly, and once for each task with `model.own_trunks` naming it. A task is given its own trunk where the
mean difference over folds exceeds its standard error; the folds share training clips, so that this is no test.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mmpsr.config import load_config
from mmpsr.tasks import TaskSpec
from training.config import RunConfig
from training.data.joined import JoinedCorpora
from training.data.load import load_run_data
from training.fit.loop import train
from training.linear.fusion import deal_folds
from training.runs.directory import RunDirectory
from training.scoring.scores import evaluate_rows, predict

NUM_FOLDS = 5


def folds_of(joined: JoinedCorpora) -> NDArray[np.int64]:
    """Deal the clips of each corpus to folds by group, `[N]`."""
    folds = np.zeros(len(joined.clips), dtype=np.int64)
    for places in joined.clips.reset_index(drop=True).groupby("corpus").indices.values():
        folds[places] = deal_folds(joined.clips["group"].iloc[places].tolist(), NUM_FOLDS)
    return folds


def held_out(
    config: RunConfig, joined: JoinedCorpora, tasks: Mapping[str, TaskSpec], folds: NDArray[np.int64], fold: int
) -> dict[str, float]:
    """Train without a fold, and give each task's mean metric over the corpora on it, in percent."""
    split = np.select([folds == fold, folds == (fold + 1) % NUM_FOLDS], ["test", "dev"], "train")
    part = joined.select(torch.arange(len(folds)))
    part.clips = part.clips.assign(split=split)
    with tempfile.TemporaryDirectory(prefix="mmpsr-") as place:
        run = RunDirectory(Path(place))
        model = train(config, part, tasks, Accelerator(cpu=True), run, lambda message: None)
    rows = part.rows(config.corpora.trained(), "test")
    figures = evaluate_rows(predict(model, part, rows), part, rows, tasks, config.corpora)
    return {task: float(np.mean([each.value for each in figures if each.task == task])) for task in tasks}


def choose(joint: NDArray[np.float64], own: NDArray[np.float64]) -> tuple[float, float, bool]:
    """Compare figures of the folds `[F]`: mean difference, its standard error, and whether own is chosen."""
    differences = own - joint
    error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
    return float(differences.mean()), error, bool(differences.mean() > error)


def compared(
    config: RunConfig, joined: JoinedCorpora, tasks: Mapping[str, TaskSpec]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Train all folds jointly and with each task apart, on the training clips alone; figures `[F]` of both by task."""
    joined = joined.select(joined.rows(config.corpora.trained(), "train"))
    folds, figures = folds_of(joined), {}
    for own in ((), *((task,) for task in tasks)):
        changed = config.model_copy(update={"model": config.model.model_copy(update={"own_trunks": own})})
        figures[own] = [held_out(changed, joined, tasks, folds, fold) for fold in range(NUM_FOLDS)]
    return {task: tuple(np.array([each[task] for each in figures[own]]) for own in ((), (task,))) for task in tasks}


def main() -> None:
    """Print a row for each task, and the setting that follows."""
    config = load_config(RunConfig, sys.argv[1], sys.argv[2:])
    tasks, joined = config.tasks.resolve(), load_run_data(config, Accelerator(cpu=True)).joined
    table, chosen = Table("task", "joint", "own trunk", "difference ± standard error", "folds better", "choice"), []
    for task, (joint, own) in compared(config, joined, tasks).items():
        mean, error, is_own = choose(joint, own)
        chosen += [task] if is_own else []
        better = f"{(own > joint).sum()} of {NUM_FOLDS}"
        cells = (f"{joint.mean():.2f}", f"{own.mean():.2f}", f"{mean:+.2f} ± {error:.2f}", better)
        table.add_row(task, *cells, "own" if is_own else "joint")
    Console().print(table)
    chosen = chosen[:-1] if len(chosen) == len(tasks) else chosen  # the last then has the shared trunk for itself
    print(f"model.own_trunks = {chosen}")


if __name__ == "__main__":
    main()
