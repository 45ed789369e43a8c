"""The workers that serve a search: this process, several that are replaced when killed, or an executor's.

Processes of this machine ask the storage themselves what to try. An executor's workers are told, and see no storage:
the launched process alone reads and writes it.
"""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.connection
import os
import shutil
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import optuna
import torch
from optuna.trial import FixedTrial, FrozenTrial, TrialState
from rich.console import Console

from encoders.workers import Workers
from mmpsr.config import ConfigError
from mmpsr.errors import Interrupted, UserError
from mmpsr.executors.base import LOCAL, Engine, works_away
from mmpsr.executors.build import open_engine
from training.config import RunConfig
from training.fit.live import PAUSE, LiveLines, Show
from training.runs.accelerator import create_accelerator
from tuning.search import trials
from tuning.search.objective import HaltedError, Judged, Objective, Search
from tuning.search.space import Plan, SearchConfig, Slot, dimensions, make_plan

__all__ = ["SearchError", "give_away", "run_search", "work"]

Say = Callable[[str], None]

POLL_SECONDS = 0.5
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher of several processes sets, and a worker that trains alone must not see."""


class SearchError(UserError):
    """A search that ended without a result."""


def _sampler(search: SearchConfig, number: int, index: int) -> optuna.samplers.BaseSampler:
    """Seed anew for every trial, so that a worker that starts again does not repeat itself."""
    seed = int(np.random.SeedSequence([search.seed, number, index]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)  # trials that run keep others elsewhere


def work(search: Search, index: int, say: Say, num_workers: int = 1, show: Show = lambda name, stand: None) -> None:
    """Serve a search until it has all its trials.

    Args:
        search: the search.
        index: of the worker, from 0.
        say: takes progress messages.
        num_workers: that serve it beside each other and share its trials evenly.
        show: told where trainings stand, see `Objective`.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config, parent = search.config, multiprocessing.parent_process()
    space = dimensions(config, search.base, search.source)
    optuna_study, plan = search.open_study(say), make_plan(config, space)
    optuna_study.pruner = optuna.pruners.NopPruner()
    if config.method == "hyperband":
        most = search.base.training.num_epochs
        optuna_study.pruner = optuna.pruners.HyperbandPruner(min_resource=config.min_epochs, max_resource=most)
    accelerator = create_accelerator(search.base, with_trackers=False)
    objective = Objective(search, space, accelerator, Console(quiet=index > 0), show)
    nameless: dict[int, float] = {}
    while parent is None or parent.is_alive():
        trials.release(optuna_study, nameless)
        asked = _ask(objective, optuna_study, plan, index, num_workers)
        if asked is None:
            return
        if asked:
            _judge(objective, asked, optuna_study, say)
        else:
            time.sleep(POLL_SECONDS)  # others train the last trials, and may be killed


def _ask(
    objective: Objective, optuna_study: optuna.Study, plan: Plan, index: int, num_workers: int
) -> list[optuna.Trial] | None:
    """Ask for the trials that a worker may train together; none where others have the last, None where all are over."""
    known = optuna_study.get_trials(deepcopy=False)
    missing = _missing(plan, known, objective.most * num_workers)
    if missing is None:
        return None
    num_waiting = sum(trial.state == TrialState.WAITING for trial in known)
    if not num_waiting:
        if not missing:
            return []
        share = math.ceil(len(missing) / num_workers)
        chosen = objective.alike(missing)[:share]
        for slot in chosen:
            trials.queue(optuna_study, *slot)
        num_waiting = len(chosen)
    optuna_study.sampler = _sampler(objective.search.config, len(known), index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that only `optimize` would give signs of life
        asked = []
        for _ in range(min(num_waiting, objective.most)):
            asked.append(optuna_study.ask())
            trials.claim(asked[-1])
        return asked


def _judge(objective: Objective, asked: list[optuna.Trial], optuna_study: optuna.Study, say: Say) -> None:
    """Train and judge trials, store how each ended, and say it; those that are left are tried again."""
    with trials.alive(optuna_study, asked):
        try:
            for judged in objective.judge(list(asked)):
                trial = next(trial for trial in asked if trial is judged.trial)
                asked.remove(trial)
                _store(trial, judged, say)
        except HaltedError as error:
            raise error.reason from None
        finally:
            _let_go(asked)


def _store(trial: optuna.Trial, judged: Judged, say: Say) -> None:
    """Store how a trial ended, and say it."""
    try:
        frozen = trial.study.tell(trial, judged.figure, state=judged.state)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        say("a trial of this worker was taken for dead, its heartbeat late for too long; it is tried again")
    else:
        _tell(frozen, say)


def _let_go(left: Collection[optuna.Trial]) -> None:
    """Leave trials to be tried again."""
    for trial in left:
        with suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
            trial.study.tell(trial, state=TrialState.FAIL)


def _missing(plan: Plan, known: Sequence[FrozenTrial], most: int) -> list[Slot] | None:
    """Find the next slots that nobody serves, if there are any; None where the search is complete."""
    living, is_complete, found = trials.living(known), True, list[Slot]()
    for slot in plan.needed(trials.figures(known)):
        is_complete = False
        if slot[0] not in living:
            found.append(slot)
            if len(found) == most:
                break
    return None if is_complete else found


def _tell(trial: FrozenTrial, say: Say) -> None:
    """Say a line for a trial that has ended."""
    if trials.is_counted(trial):
        values = ", ".join(f"{name} = {value}" for name, value in trial.params.items())
        reason = trial.user_attrs.get("reason", f"pruned after {trial.last_step} epochs")
        outcome = f"dev {trial.value:6.2f}" if trial.state == TrialState.COMPLETE else reason
        say(f"trial {trial.number:3d}  {outcome}  {values}")


def _worker_process(search: Search, index: int, num_workers: int) -> None:
    """Run a worker process; exit status 2 after an error of the user's making, 130 after a signal."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        with LiveLines(Console(force_terminal=False), pause=PAUSE) as lines:  # one that moves would be in others' way
            work(search, index, partial(print, flush=True), num_workers, lines.show)
    except (Interrupted, KeyboardInterrupt):
        sys.exit(130)


def run_search(search: Search, num_workers: int, say: Say, show: Show = lambda name, stand: None) -> optuna.Study:
    """Run a search to its end, or continue it.

    Args:
        search: the search; `features.executor` of its base says who trains.
        num_workers: processes on this machine; 1 trains in this process. A worker that is killed is replaced. Those of
            an executor that does not tell how many it has.
        say: takes progress messages.
        show: told where trainings of this process stand, see `Objective`; workers print lines themselves.

    Returns:
        The study with all its trials.

    Raises:
        ConfigError: the space does not fit the configuration, the storage is of another search, or the method cannot
            be an executor's.
        ExecutorError: nobody answers at the executor.
        ExtractionError: the connection to it is lost, or an encoder cannot be used; finished trials are kept.
        SearchError: a worker failed, or no trial has a figure.
        Interrupted: SIGINT or SIGTERM came.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    dimensions(search.config, search.base, search.source)
    executor = search.base.features.executor
    if executor != LOCAL and search.config.method == "hyperband":
        raise ConfigError(
            "search.method: 'hyperband' ends trials by the epochs of others, of which workers of an executor know "
            "nothing; take another method, or run the same command on each machine with one search.storage"
        )
    optuna_study = search.open_study(say)
    done = trials.counted(optuna_study.get_trials(deepcopy=False))
    if done:
        say(f"continuing after {len(done)} finished trials")
    if executor != LOCAL:
        with open_engine(executor, num_workers) as engine:
            give_away(search, engine, say)
    elif num_workers == 1:
        work(search, 0, say, show=show)
    else:
        _serve(search, num_workers, say)
    shutil.rmtree(search.folder / "running", ignore_errors=True)
    finished = trials.counted(optuna_study.get_trials())
    if not any(trial.state == TrialState.COMPLETE for trial in finished):
        reasons = [trial.user_attrs["reason"] for trial in finished if "reason" in trial.user_attrs]
        raise SearchError(
            f"none of {len(finished)} trials has a figure" + (f"; one says: {reasons[0]}" if reasons else "")
        )
    return optuna_study


def _serve(search: Search, num_workers: int, say: Say) -> None:
    """Keep the workers going until each has ended by itself."""
    context = multiprocessing.get_context("spawn")
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if os.environ.get("CUDA_VISIBLE_DEVICES") else []
    devices = devices or [str(number) for number in range(torch.cuda.device_count())]

    def start(index: int) -> multiprocessing.process.BaseProcess:
        environment = dict(os.environ)
        for name in LAUNCHED:
            os.environ.pop(name, None)
        if devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[index % len(devices)]
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_workers)))
        try:
            process = context.Process(target=_worker_process, args=(search, index, num_workers))
            process.start()
        finally:
            os.environ.clear()
            os.environ.update(environment)
        return process

    workers, statuses = {index: start(index) for index in range(num_workers)}, []
    try:
        while workers:
            multiprocessing.connection.wait([process.sentinel for process in workers.values()])
            for index, process in list(workers.items()):
                if process.exitcode is None:
                    continue
                if process.exitcode < 0:
                    say(f"worker {index} was killed by signal {-process.exitcode} and is replaced")
                    workers[index] = start(index)
                else:
                    statuses.append(workers.pop(index).exitcode)
    except KeyboardInterrupt:
        for process in workers.values():  # the terminal has told them, too
            process.join()
        raise
    if 130 in statuses:
        raise Interrupted("stopped; finished trials are kept, and the same command continues")
    if any(statuses):
        raise SearchError("a worker failed; its message is above, and the same command continues")


@dataclass(frozen=True)
class _Outcome:
    """How a trial ended.

    Attributes:
        state: in which.
        figures: by seed, the best dev figure of its epochs.
        attributes: what was noted of it.
        epochs: of the first seed, dev figure by epoch.
    """

    state: TrialState
    figures: dict[int, float] = field(default_factory=dict)
    attributes: dict[str, object] = field(default_factory=dict)
    epochs: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Group:
    """Trials that may be trained together, for a command of this name: number, deaths, configurations of the seeds."""

    search: Search
    members: tuple[tuple[int, int, tuple[RunConfig, ...]], ...]
    command: str

    @property
    def names(self) -> list[str]:
        return [f"trial {number}" for number, *_ in self.members]

    @property
    def culprits(self) -> tuple[()]:
        return ()  # whatever number of trials needs too much memory, the next may need less

    def parts(self) -> list[_Group]:
        return [replace(self, members=(member,)) for member in self.members]

    def dead(self) -> list[_Outcome]:
        return [_Outcome(TrialState.FAIL, attributes={"reason": "its workers died, one after another"})]


def give_away(search: Search, engine: Engine, say: Say) -> None:
    """Have an executor train the trials of a search until it has all; see `run_search`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = dimensions(search.config, search.base, search.source)
    optuna_study, plan = search.open_study(say), make_plan(search.config, space)
    console, accelerator = Console(), create_accelerator(search.base, with_trackers=False)
    with suppress(*Objective.FAILURES):  # what the store lacks is extracted once; what fails here, the trials say
        search.load(search.base, accelerator, console)
    # a worker finds by itself what it still lacks: all others may be waiting for trials of their own
    features = search.base.features.model_copy(update={"executor": LOCAL})
    there = replace(search, base=search.base.model_copy(update={"features": features}))
    objective, command = Objective(there, space, accelerator, console), uuid.uuid4().hex
    running: dict[int, optuna.Trial] = {}
    nameless: dict[int, float] = {}
    with trials.alive(optuna_study, running.values()), Workers(engine, train_there) as workers:
        try:
            while True:
                trials.release(optuna_study, nameless)
                asked: list[optuna.Trial] | None = []
                while len(workers.jobs) < min(workers.limit, engine.num_workers):
                    asked = _ask(objective, optuna_study, plan, 0, engine.num_workers)
                    if not asked:
                        break
                    batch = [(trial, objective.begin(trial)) for trial in asked]
                    for trial, judged in batch:
                        if judged.state is not None:
                            _store(trial, judged, say)
                    alive = [(trial, judged) for trial, judged in batch if judged.state is None]
                    running |= {trial.number: trial for trial, _ in alive}
                    members = [(trial.number, judged.deaths, tuple(judged.configs)) for trial, judged in alive]
                    if members:
                        workers.submit(_Group(there, tuple(members), command))
                if asked is None and not workers.in_flight:
                    return
                if not workers.in_flight:
                    time.sleep(POLL_SECONDS)  # others train the last trials, and may be killed
                for group, outcomes in workers.completed(1.0):
                    for (number, deaths, configs), outcome in zip(group.members, outcomes, strict=True):
                        trial = running.pop(number)
                        with suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):  # which is said below
                            for epoch, figure in outcome.epochs.items():
                                trial.report(figure, epoch)
                            for name, value in outcome.attributes.items():
                                trial.set_user_attr(name, value)
                        _store(trial, Judged(trial, deaths, configs, outcome.figures, outcome.state), say)
        finally:
            _let_go(running.values())


# What follows runs in the worker processes of an executor.

_objectives: dict[str, Objective] = {}


class _Distant(FixedTrial):
    """Stands for a trial whose storage is elsewhere, and keeps what is said of it."""

    def __init__(self, number: int) -> None:
        super().__init__({}, number)
        self.epochs: dict[int, float] = {}

    def report(self, value: float, step: int) -> None:
        """Keep an epoch's figure."""
        self.epochs[step] = value


def train_there(group: _Group) -> list[_Outcome]:
    """Train and judge trials; the clips stay in memory for the next ones of the same command.

    Raises:
        ExtractionError: an encoder cannot be used, which is no configuration's fault.
    """
    if works_away():
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if group.command not in _objectives:
        _objectives.clear()  # what another command read may have changed since
        space = dimensions(group.search.config, group.search.base, group.search.source)
        accelerator = create_accelerator(group.search.base, with_trackers=False)
        _objectives[group.command] = Objective(group.search, space, accelerator, Console(quiet=True))
    batch = [Judged(_Distant(number), deaths, configs) for number, deaths, configs in group.members]
    try:
        for _ in _objectives[group.command].judge_begun(batch):
            pass
    except HaltedError as error:
        raise error.reason from None
    return [
        _Outcome(one.state, one.figures, dict(one.trial.user_attrs), one.trial.epochs)
        for one in batch
        if isinstance(one.trial, _Distant) and one.state is not None
    ]
