"""Which tasks of a configuration are better off with a trunk of their own, out of fold on its training clips.

Clips of dev and test are left out. Training clips of each corpus are dealt to five folds of whole groups; of every fold
in turn the model is trained on three others, epochs are chosen on the fourth, and the task's metrics are taken on the
fold itself: jointly, and once for each task with `model.own_trunks` naming it. All have the same linear models. A task
is given its own trunk where the mean difference over folds exceeds its standard error; the folds share training clips,
so that this is no test.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.table import Table

from mmpsr.config import ConfigError
from mmpsr.errors import Interrupted
from mmpsr.files import read_json_lines, sha256_of, write_whole
from mmpsr.models.config import ModelConfig
from mmpsr.tasks import TaskSpec
from training.config import RunConfig
from training.data.joined import JoinedCorpora
from training.fit.live import Show, Watch, showing
from training.fit.loop import train
from training.linear.baseline import LinearBaseline
from training.linear.fusion import deal_folds
from training.linear.late import create_baseline
from training.runs.directory import RunDirectory, comparable
from training.scoring.scores import evaluate_rows, predict

__all__ = ["NUM_FOLDS", "TrunkChoice", "choose_trunk", "compare_trunks", "own_trunks", "trunk_folds", "trunk_table"]

NUM_FOLDS = 5


@dataclass(frozen=True)
class TrunkChoice:
    """What one task loses or gains by a trunk of its own.

    Attributes:
        joint: mean of its metrics on each fold, trained with all tasks in one trunk, percent `[F]`.
        own: likewise, with a trunk of its own.
        difference: mean over folds of own less joint.
        standard_error: of that mean.
    """

    joint: NDArray[np.float64]
    own: NDArray[np.float64]
    difference: float
    standard_error: float

    @property
    def is_own(self) -> bool:
        """Whether the task is better off by more than the standard error."""
        return self.difference > self.standard_error


def choose_trunk(joint: NDArray[np.float64], own: NDArray[np.float64]) -> TrunkChoice:
    """Compare figures of the same folds, `[F]` each."""
    differences = own - joint
    error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
    return TrunkChoice(joint, own, float(differences.mean()), error)


def trunk_folds(joined: JoinedCorpora) -> NDArray[np.int64]:
    """Deal the clips of each corpus to folds by group, `[N]`."""
    folds = np.zeros(len(joined.clips), dtype=np.int64)
    for places in joined.clips.reset_index(drop=True).groupby("corpus").indices.values():
        folds[places] = deal_folds(joined.clips["group"].iloc[places].tolist(), NUM_FOLDS)
    return folds


def compare_trunks(
    config: RunConfig,
    joined: JoinedCorpora,
    tasks: Mapping[str, TaskSpec],
    log: Path,
    say: Callable[[str], None],
    show: Show = lambda name, stand: None,
) -> dict[str, TrunkChoice]:
    """Train all folds jointly and with each task apart, on the training clips alone.

    Args:
        config: of the run; its `model.own_trunks` is what is asked for.
        joined: all clips.
        tasks: active tasks, two at least.
        log: file of records, one for each training that is done; those of the same configuration are not repeated.
        say: told after each training.
        show: told where each stands, by name; None when it is over.

    Returns:
        By task.

    Raises:
        ConfigError: the model has no trunk, there is but one task, or a fold has no label of a corpus' task.
        Interrupted: SIGINT or SIGTERM came; the trainings that are done are kept.
    """
    if not isinstance(config.model, ModelConfig):
        raise ConfigError(f'trunks are those of model.kind = "mcdm", and this configuration has {config.model.kind!r}')
    if len(tasks) < 2:
        raise ConfigError(f"a task alone has its trunk for itself; tasks.active has only {', '.join(tasks)}, give more")
    joined = joined.select(joined.rows(config.corpora.trained(), "train"))
    folds, settings = trunk_folds(joined), comparable(config.model_dump(mode="json"))
    settings = {name: value for name, value in settings.items() if name != "model.own_trunks"}
    key = sha256_of(json.dumps(settings, sort_keys=True))[:16]
    records = list(read_json_lines(log)) if log.exists() else []  # those of other settings stay
    done = {(tuple(each["own"]), each["fold"]): each["figures"] for each in records if each["settings"] == key}
    variants = [(), *((task,) for task in tasks)]
    _require_labels(joined, folds, tasks)
    log.parent.mkdir(parents=True, exist_ok=True)
    for fold in range(NUM_FOLDS):
        if all((own, fold) in done for own in variants):
            continue
        split = np.select([folds == fold, folds == (fold + 1) % NUM_FOLDS], ["test", "dev"], "train")
        part = joined.select(torch.arange(len(folds)))
        part.clips = part.clips.assign(split=split)
        baseline = create_baseline(config, part, tasks)
        for own in variants:
            if (own, fold) in done:
                continue
            model = config.model.model_copy(update={"own_trunks": own})
            name = f"fold {fold + 1} of {NUM_FOLDS}, {f'{own[0]} apart' if own else 'joint'}"
            try:
                with showing(show, name) as watch:
                    done[own, fold] = _held_out(
                        config.model_copy(update={"model": model}), part, tasks, baseline, watch
                    )
            except Interrupted:
                kept = f"stopped; {len(done)} trainings are kept in {log}: repeat the command to continue"
                raise Interrupted(kept) from None
            records.append({"settings": key, "own": own, "fold": fold, "figures": done[own, fold]})
            write_whole(log, "".join(json.dumps(each) + "\n" for each in records))
            say(f"{name}: {len(done)} of {NUM_FOLDS * len(variants)} trainings are done")
    figures = {
        (own, task): np.array([done[own, fold][task] for fold in range(NUM_FOLDS)])
        for own in variants
        for task in tasks
    }
    return {task: choose_trunk(figures[(), task], figures[(task,), task]) for task in tasks}


def _require_labels(joined: JoinedCorpora, folds: NDArray[np.int64], tasks: Mapping[str, TaskSpec]) -> None:
    """See that every fold has labels of each task that a corpus is labelled for."""
    for corpus, places in joined.clips.reset_index(drop=True).groupby("corpus").indices.items():
        for task in tasks:
            is_labelled = ~torch.isnan(joined.labels[task][torch.from_numpy(places)]).all(dim=1).cpu().numpy()
            filled = len(np.unique(folds[places][is_labelled]))
            if 0 < filled < NUM_FOLDS:
                groups = joined.clips["group"].iloc[places[is_labelled]].nunique()
                raise ConfigError(
                    f"{corpus}: its {is_labelled.sum()} training clips with labels of {task} are of {groups} groups, "
                    f"which fill {filled} of {NUM_FOLDS} folds; trunks are compared on every fold: leave the corpus or "
                    "the task out"
                )


def own_trunks(choices: Mapping[str, TrunkChoice]) -> Sequence[str]:
    """List the tasks of `model.own_trunks`; where all gain, the last keeps the shared trunk, for itself."""
    chosen = [task for task, choice in choices.items() if choice.is_own]
    return chosen[:-1] if len(chosen) == len(choices) else chosen


def trunk_table(choices: Mapping[str, TrunkChoice]) -> Table:
    """Lay out a row for each task."""
    table = Table("task", "joint", "own trunk", "difference ± standard error", "folds better", "choice")
    for task, choice in choices.items():
        table.add_row(
            task, f"{choice.joint.mean():.2f}", f"{choice.own.mean():.2f}",
            f"{choice.difference:+.2f} ± {choice.standard_error:.2f}",
            f"{(choice.own > choice.joint).sum()} of {NUM_FOLDS}", "own" if choice.is_own else "joint",
        )  # fmt: skip
    return table


def _held_out(
    config: RunConfig, part: JoinedCorpora, tasks: Mapping[str, TaskSpec], baseline: LinearBaseline, watch: Watch
) -> dict[str, float]:
    """Train without the test fold, and give each task's mean metric over the corpora on it, in percent."""
    with tempfile.TemporaryDirectory(prefix="mmpsr-") as place:
        run = RunDirectory(Path(place))
        model = train(config, part, tasks, Accelerator(cpu=True), run, lambda message: None, baseline, watch=watch)
    rows = part.rows(config.corpora.trained(), "test")
    figures = evaluate_rows(predict(model, part, rows), part, rows, tasks, config.corpora)
    return {task: float(np.mean([each.value for each in figures if each.task == task])) for task in tasks}
