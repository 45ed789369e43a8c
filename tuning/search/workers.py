"""The workers that serve a search: this process, several that are replaced when killed, or an executor's.

Processes of this machine ask the storage themselves what to try. An executor's workers are told, and see no storage:
the launched process alone reads and writes it.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import shutil
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from encoders.errors import ExtractionError
from encoders.workers import Workers
from mmpsr.config import ConfigError
from mmpsr.errors import Interrupted, UserError
from mmpsr.executors.base import LOCAL, Engine, works_away
from mmpsr.executors.build import open_engine
from training.config import RunConfig
from training.runs.accelerator import create_accelerator
from tuning.search import trials
from tuning.search.objective import HaltedError, Objective, Search, SurplusTrial, labels_of, require_tries
from tuning.search.space import Label, Plan, SearchConfig, Slot, dimensions, make_plan

__all__ = ["SearchError", "give_away", "run_search", "work"]

Say = Callable[[str], None]

POLL_SECONDS = 0.5
TAKEN_FOR_DEAD = "a trial of this worker was taken for dead, without a heartbeat for too long, and is tried again"
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher of several processes sets, and a worker that trains alone must not see."""


class SearchError(UserError):
    """A search that ended without a result."""


def _sampler(search: SearchConfig, number: int, index: int) -> optuna.samplers.BaseSampler:
    """Seed anew for every trial, so that a worker that starts again does not repeat itself."""
    seed = int(np.random.SeedSequence([search.seed, number, index]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed)


def work(search: Search, index: int, say: Say) -> None:
    """Serve a search until it has all its trials.

    Args:
        search: the search.
        index: of the worker, from 0.
        say: takes progress messages.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config, parent = search.config, multiprocessing.parent_process()
    space = dimensions(config, search.base, search.source)
    optuna_study, plan = search.open_study(say), make_plan(config, space)
    optuna_study.pruner = optuna.pruners.NopPruner()
    if config.method == "hyperband":
        most = search.base.training.num_epochs
        optuna_study.pruner = optuna.pruners.HyperbandPruner(min_resource=config.min_epochs, max_resource=most)
    objective = Objective(search, space, create_accelerator(search.base, with_trackers=False), Console(quiet=index > 0))
    while parent is None or parent.is_alive():
        trials.release(optuna_study)
        known = optuna_study.get_trials(deepcopy=False)
        is_queued = _queue_next(optuna_study, plan, config, index, known)
        if is_queued is None:
            return
        if not is_queued:
            time.sleep(POLL_SECONDS)  # others train the last trials, and may be killed
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                optuna_study.optimize(objective, n_trials=1, catch=(*Objective.FAILURES, SurplusTrial))
        except HaltedError as error:
            raise error.reason from None
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            say(TAKEN_FOR_DEAD)
            continue
        _tell(optuna_study, known, say)


def _queue_next(
    optuna_study: optuna.Study, plan: Plan, config: SearchConfig, index: int, known: Sequence[FrozenTrial]
) -> bool | None:
    """See that a trial waits to be asked for; False where there is none at present, None where all are finished."""
    missing = _missing(plan, known)
    if missing is None:
        return None
    if not any(trial.state == TrialState.WAITING for trial in known):
        if not missing:
            return False
        trials.queue(optuna_study, *missing[0])
    optuna_study.sampler = _sampler(config, len(known), index)
    return True


def _missing(plan: Plan, known: Sequence[FrozenTrial]) -> list[Slot] | None:
    """Find the next slot that nobody serves, if there is one; None where the search is complete."""
    living, is_complete = trials.living(known), True
    for slot in plan.needed(trials.figures(known)):
        is_complete = False
        if slot[0] not in living:
            return [slot]
    return None if is_complete else []


def _tell(optuna_study: optuna.Study, before: Sequence[FrozenTrial], say: Say) -> None:
    """Say a line for every trial that this worker has finished."""
    worker, finished_before = trials.worker_name(), {t.number for t in before if t.state.is_finished()}
    for trial in optuna_study.get_trials(deepcopy=False):
        if trial.number in finished_before or trial.user_attrs.get("worker") != worker or not trials.is_counted(trial):
            continue
        values = ", ".join(f"{name} = {value}" for name, value in trial.params.items())
        reason = trial.user_attrs.get("reason", f"pruned after {trial.last_step} epochs")
        outcome = f"dev {trial.value:6.2f}" if trial.state == TrialState.COMPLETE else reason
        say(f"trial {trial.number:3d}  {outcome}  {values}")


def _worker_process(search: Search, index: int) -> None:
    """Run a worker process; exit status 2 after an error of the user's making, 130 after a signal."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        work(search, index, partial(print, flush=True))
    except (Interrupted, KeyboardInterrupt):
        sys.exit(130)


def run_search(search: Search, num_workers: int, say: Say) -> optuna.Study:
    """Run a search to its end, or continue it.

    Args:
        search: the search; `features.executor` of its base says who trains.
        num_workers: processes on this machine; 1 trains in this process. A worker that is killed is replaced. Those of
            an executor that does not tell how many it has.
        say: takes progress messages.

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
        work(search, 0, say)
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
            process = context.Process(target=_worker_process, args=(search, index))
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
    """What a worker says of a trial.

    Attributes:
        figures: best dev figure of each seed.
        epochs: of the first seed, dev figure by epoch.
        reason: why there are none.
    """

    figures: list[float]
    epochs: dict[int, float] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True)
class _Try:
    """A trial to be trained, for a command of this name."""

    search: Search
    number: int
    labels: Mapping[str, Label]
    command: str

    @property
    def names(self) -> list[str]:
        return [f"trial {self.number}"]

    @property
    def culprits(self) -> tuple[()]:
        return ()  # whatever number of trials needs too much memory, the next may need less

    def parts(self) -> list[_Try]:
        return [self]

    def dead(self) -> _Outcome:
        return _Outcome([], reason="its workers died, one after another")


def give_away(search: Search, engine: Engine, say: Say) -> None:
    """Have an executor train the trials of a search until it has all; see `run_search`."""
    config, command = search.config, uuid.uuid4().hex
    space = dimensions(config, search.base, search.source)
    optuna_study, plan = search.open_study(say), make_plan(config, space)
    with suppress(*Objective.FAILURES):  # what the store lacks is extracted once; what fails here, the trials say
        search.load(search.base, create_accelerator(search.base, with_trackers=False), Console())
    there = replace(search, base=_without_executor(search))
    given: dict[int, optuna.Trial] = {}
    signs_of_life = _SignsOfLife(optuna_study, config.heartbeat)
    with Workers(engine, train_there) as workers:
        while True:
            trials.release(optuna_study)
            is_queued: bool | None = True
            while len(given) < min(workers.limit, engine.num_workers) and is_queued:
                known = optuna_study.get_trials(deepcopy=False)
                is_queued = _queue_next(optuna_study, plan, config, 0, known)
                if is_queued and (trial := _ask(optuna_study, search)) is not None:
                    given[trial.number] = trial
                    workers.submit(_Try(there, trial.number, labels_of(trial, space), command))
            if is_queued is None and not given:
                return
            if not given:
                time.sleep(POLL_SECONDS)  # others train the last trials, and may be killed
            for job, outcome in workers.completed(1.0):
                before = optuna_study.get_trials(deepcopy=False)
                try:
                    _finish(given.pop(job.number), outcome)
                except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                    say(TAKEN_FOR_DEAD)
                _tell(optuna_study, before, say)
            signs_of_life.give(given.values())


def _without_executor(search: Search) -> RunConfig:
    """Make a worker find by itself what it still lacks: all others may be waiting for trials of their own."""
    features = search.base.features.model_copy(update={"executor": LOCAL})
    return search.base.model_copy(update={"features": features})


def _ask(optuna_study: optuna.Study, search: Search) -> optuna.Trial | None:
    """Ask for the trial that waits; None where it need not be trained, or has killed too many workers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")  # `_SignsOfLife` sees to it
        trial = optuna_study.ask()
    if trials.is_surplus(trial.number, optuna_study.get_trials(deepcopy=False)):
        optuna_study.tell(trial, state=TrialState.FAIL)
        return None
    trial.set_user_attr("worker", trials.worker_name())
    try:
        require_tries(trial, search)
    except ConfigError as error:
        _finish(trial, _Outcome([], reason=str(error)))
        return None
    return trial


def _finish(trial: optuna.Trial, outcome: _Outcome) -> None:
    """Write what a worker said of a trial into the storage."""
    if outcome.reason is not None:
        trial.set_user_attr("reason", outcome.reason)
        trial.study.tell(trial, state=TrialState.FAIL)
        return
    for epoch, figure in outcome.epochs.items():
        trial.report(figure, epoch)
    trial.set_user_attr("figures", outcome.figures)
    trial.study.tell(trial, float(np.mean(outcome.figures)))


class _SignsOfLife:
    """Says of trials that workers of an executor have that they are not dead.

    Args:
        optuna_study: of the trials; only databases keep what is said.
        seconds: between two.
    """

    def __init__(self, optuna_study: optuna.Study, seconds: int) -> None:
        self._record = getattr(optuna_study._storage, "record_heartbeat", None)
        self._seconds, self._last = seconds, -float(seconds)

    def give(self, running: Iterable[optuna.Trial]) -> None:
        """Say it of all, where it is time to."""
        if self._record is not None and time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            for trial in running:
                self._record(trial._trial_id)


# What follows runs in the worker processes of an executor.

_objectives: dict[str, Objective] = {}


def train_there(job: _Try) -> _Outcome:
    """Train a trial; the clips stay in memory for the next one of the same command.

    Raises:
        ExtractionError: an encoder cannot be used, which is no configuration's fault.
    """
    if works_away():
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if job.command not in _objectives:
        _objectives.clear()  # what another command read may have changed since
        space = dimensions(job.search.config, job.search.base, job.search.source)
        accelerator = create_accelerator(job.search.base, with_trackers=False)
        _objectives[job.command] = Objective(job.search, space, accelerator, Console(quiet=True))
    epochs: dict[int, float] = {}
    try:
        figures = _objectives[job.command].figures(
            job.number, job.labels, lambda epoch, figure, is_last: epochs.update({epoch: figure})
        )
    except Objective.FAILURES as error:
        if isinstance(error, ExtractionError):
            raise
        return _Outcome([], epochs, " ".join(str(error).split()))
    return _Outcome(figures, epochs)
