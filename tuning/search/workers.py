"""The workers that serve a search: in this process, or several that are replaced when killed."""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.connection
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from mmpsr.errors import Interrupted, UserError
from training.runs.accelerator import create_accelerator
from tuning.search import trials
from tuning.search.objective import HaltedError, Objective, Search
from tuning.search.space import Plan, SearchConfig, Slot, dimensions, make_plan

__all__ = ["SearchError", "run_search", "work"]

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


def work(search: Search, index: int, say: Say, num_workers: int = 1) -> None:
    """Serve a search until it has all its trials.

    Args:
        search: the search.
        index: of the worker, from 0.
        say: takes progress messages.
        num_workers: that serve it beside each other and share its trials evenly.
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
        missing = _missing(plan, known, objective.most * num_workers)
        if missing is None:
            return
        num_waiting = sum(trial.state == TrialState.WAITING for trial in known)
        if not num_waiting:
            if not missing:
                time.sleep(POLL_SECONDS)  # others train the last trials, and may be killed
                continue
            share = math.ceil(len(missing) / num_workers)
            chosen = objective.alike(missing)[:share]
            for slot in chosen:
                trials.queue(optuna_study, *slot)
            num_waiting = len(chosen)
        optuna_study.sampler = _sampler(config, len(known), index)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that only `optimize` would give signs of life
            asked = [optuna_study.ask() for _ in range(min(num_waiting, objective.most))]
        _judge(objective, asked, optuna_study, say)


def _judge(objective: Objective, asked: list[optuna.Trial], optuna_study: optuna.Study, say: Say) -> None:
    """Train and judge trials, store how each ended, and say it; those that are left are tried again."""
    with trials.alive(optuna_study, asked):
        try:
            for judged in objective.judge(list(asked)):
                asked.remove(judged.trial)
                try:
                    frozen = optuna_study.tell(judged.trial, judged.figure, state=judged.state)
                except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                    say("a trial of this worker was taken for dead, its heartbeat late for too long; it is tried again")
                else:
                    _tell(frozen, say)
        except HaltedError as error:
            raise error.reason from None
        finally:
            for trial in asked:
                with suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
                    optuna_study.tell(trial, state=TrialState.FAIL)


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
        work(search, index, partial(print, flush=True), num_workers)
    except (Interrupted, KeyboardInterrupt):
        sys.exit(130)


def run_search(search: Search, num_workers: int, say: Say) -> optuna.Study:
    """Run a search to its end, or continue it.

    Args:
        search: the search.
        num_workers: processes on this machine; 1 trains in this process. A worker that is killed is replaced.
        say: takes progress messages.

    Returns:
        The study with all its trials.

    Raises:
        ConfigError: the space does not fit the configuration, or the storage is of another search.
        SearchError: a worker failed, or no trial has a figure.
        Interrupted: SIGINT or SIGTERM came.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    dimensions(search.config, search.base, search.source)
    optuna_study = search.open_study(say)
    done = trials.counted(optuna_study.get_trials(deepcopy=False))
    if done:
        say(f"continuing after {len(done)} finished trials")
    if num_workers == 1:
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
