"""The trials of a search as its storage holds them: which count, which wait or run, and whose worker is gone.

Every trial has a slot, the name under which the plan needs it. A trial counts when it is complete, was pruned, or
failed for a reason of its configuration's. A trial whose worker was killed fails without a reason and is queued again
with the same values. Workers may queue a slot twice at once; the later trial then ends as surplus before it trains, so
that every slot counts exactly once.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import psutil
import sqlalchemy
import sqlalchemy.event
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from mmpsr.config import ConfigError
from mmpsr.errors import UserError
from mmpsr.files import json_lines

__all__ = [
    "alive", "claim", "counted", "deaths", "figures", "is_counted", "is_surplus", "living", "open_study", "queue",
    "release", "worker_name",
]  # fmt: skip

LIVING = (TrialState.WAITING, TrialState.RUNNING)
NAMELESS_SECONDS = 20.0
"""A worker names a trial within milliseconds of taking it."""


def open_study(
    url: str | None,
    name: str,
    folder: Path,
    heartbeat: int,
    contents: Mapping[str, Any],
    say: Callable[[str], None] = warnings.warn,
) -> optuna.Study:
    """Open the search's study, made where there is none yet.

    Args:
        url: a database's URL, the path of a journal file, or None for SQLite in the folder.
        name: of the study in its storage.
        folder: of the search's output.
        heartbeat: seconds between signs of life of a running trial; journal files have none.
        contents: what the study is of, flat; a study of something else is refused.
        say: takes a sentence where a journal was mended.

    Raises:
        ConfigError: the storage cannot be used, or holds a study of this name of something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if url is not None and "://" not in url:
        _mend_journal(Path(url), say)
    try:
        optuna_study = optuna.create_study(
            study_name=name, storage=_storage(url, folder, heartbeat), direction="maximize", load_if_exists=True
        )
    except ImportError as error:
        raise ConfigError(f"search.storage: {url}: its driver is not installed ({error.__cause__ or error})") from None
    except Exception as error:  # whatever the driver, or the file system, says
        raise ConfigError(f"search.storage: {url}: cannot be used: {error}") from None
    stored = optuna_study.user_attrs.get("contents")
    if stored is None:
        optuna_study.set_user_attr("contents", dict(contents))
    elif different := sorted(
        key for key in {*stored, *contents} if _without_none(stored.get(key)) != _without_none(contents.get(key))
    ):
        raise ConfigError(
            f"{url or folder} holds a search named {name!r} of another configuration, which differs in "
            f"{', '.join(different)}; repeat its settings, or set another output.name"
        )
    return optuna_study


def _without_none(settings: Any) -> Any:
    """Leave out settings that are None, as one that has come since is by default."""
    if not isinstance(settings, Mapping):
        return settings
    return {key: _without_none(value) for key, value in settings.items() if value is not None}


def _mend_journal(path: Path, say: Callable[[str], None]) -> None:
    """Cut a journal back to its last whole line, where a full disk or a kill took the end of the last.

    Raises:
        ConfigError: another line is damaged, or the file cannot be read.
    """
    try:
        if not path.exists() or _whole_size(path) == path.stat().st_size:
            return
        lock = JournalFileSymlinkLock(str(path))
        lock.acquire()  # a worker may be writing the line
        try:
            size, whole = path.stat().st_size, _whole_size(path)
            if whole < size:
                os.truncate(path, whole)
                say(f"{path}: its last line was not whole; {size - whole} bytes are cut off, all lines before it stay")
        finally:
            lock.release()
    except OSError as error:
        raise ConfigError(f"search.storage: {path}: cannot be used: {error}") from None
    except UserError as error:
        raise ConfigError(f"search.storage: {error}") from None


def _whole_size(path: Path) -> int:
    """Bytes of a journal's whole lines."""
    content = path.read_bytes()
    records, size = json_lines(content[: content.rfind(b"\n") + 1], path)
    for number, record in enumerate(records, start=1):
        if not {"op_code", "worker_id"} <= set(record):
            raise UserError(f"{path}, record {number}: is none of a journal; restore the file from a copy")
    return size


def _storage(url: str | None, folder: Path, heartbeat: int) -> optuna.storages.BaseStorage:
    if url is not None and "://" not in url:
        Path(url).parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.JournalStorage(JournalFileBackend(url))
    url = url or f"sqlite:///{(folder / 'trials.sqlite').resolve()}"
    waiting = {"connect_args": {"timeout": 120}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = optuna.storages.RDBStorage(
            url,
            engine_kwargs=waiting,
            heartbeat_interval=heartbeat,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
        )
    if url.startswith("sqlite"):
        _lock_from_the_start(storage.engine)
    return storage


def _lock_from_the_start(engine: sqlalchemy.Engine) -> None:
    """Make SQLite's transactions exclude each other from their first read; otherwise two workers can take one trial.

    Python's driver begins a transaction at the first change only.
    """
    engine.dispose()

    @sqlalchemy.event.listens_for(engine, "connect")
    def _leave_to_us(connection: Any, record: object) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def worker_name() -> str:
    """Name this process as trials do: machine, process id, and when it started, since ids return."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time()}"


def _is_gone(worker: str) -> bool:
    """Tell whether a worker ran on this machine and does no more; of other machines' nothing is known."""
    host, process, started = worker.rsplit(" ", 2)
    if host != socket.gethostname():
        return False
    try:
        namesake = psutil.Process(int(process))
        return namesake.create_time() != float(started) or namesake.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def claim(trial: optuna.Trial) -> None:
    """Say whose a trial is that was just taken, and that it lives."""
    trial.set_user_attr("worker", worker_name())
    storage: Any = trial.study._storage
    if getattr(storage, "get_heartbeat_interval", lambda: None)() is not None:
        storage.record_heartbeat(trial._trial_id)


def release(optuna_study: optuna.Study, nameless: dict[int, float]) -> None:
    """Queue the trials again whose worker is gone: at once where it was of this machine, or by its heartbeat.

    Args:
        optuna_study: the search's study.
        nameless: when this process first saw which running trial without a worker's name; kept from call to call. One
            that gets no name for `NAMELESS_SECONDS` was taken by a worker that was killed at once.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(optuna_study)
        retry = RetryHeartbeatStaleTrialCallback()
    now = time.monotonic()
    for trial in optuna_study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if "worker" in trial.user_attrs:
            is_gone = _is_gone(trial.user_attrs["worker"])
        else:
            is_gone = now - nameless.setdefault(trial.number, now) > NAMELESS_SECONDS
        if is_gone:
            try:
                optuna_study.tell(trial.number, state=TrialState.FAIL)
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                continue  # another worker was first
            retry(optuna_study, optuna_study.get_trials()[trial.number])


def queue(optuna_study: optuna.Study, slot: str, labels: Mapping[str, Any] | None) -> None:
    """Queue a trial; without labels a sampler chooses them."""
    optuna_study.enqueue_trial(
        dict(labels or {}), user_attrs={"slot": slot, "fixed": None if labels is None else [*labels]}
    )


@contextmanager
def alive(optuna_study: optuna.Study, asked: Collection[optuna.Trial]) -> Iterator[None]:
    """Give signs of life of the trials in `asked`, where the storage has any."""
    storage: Any = optuna_study._storage
    interval = storage.get_heartbeat_interval() if hasattr(storage, "get_heartbeat_interval") else None
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            for trial in list(asked):
                with suppress(Exception):  # a missed one is made up by the next
                    storage.record_heartbeat(trial._trial_id)
            over.wait(interval)

    thread = threading.Thread(target=beat, daemon=True)
    if interval is not None:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if interval is not None:
            thread.join()


def deaths(trial: FrozenTrial) -> int:
    """Count how often the worker of a trial was killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return len(RetryHeartbeatStaleTrialCallback.retry_history(trial))


def is_counted(trial: FrozenTrial) -> bool:
    """Tell whether a trial is one of those that were asked for, and finished."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or (
        trial.state == TrialState.FAIL and "reason" in trial.user_attrs
    )


def counted(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Select the trials that were asked for, and finished."""
    return [trial for trial in trials if is_counted(trial)]


def figures(trials: Iterable[FrozenTrial]) -> dict[str, float | None]:
    """Map every counted slot to its dev figure, None for pruned and failed ones."""
    return {
        trial.user_attrs["slot"]: trial.value if trial.state == TrialState.COMPLETE else None
        for trial in counted(trials)
    }


def living(trials: Iterable[FrozenTrial]) -> set[str]:
    """List the slots that wait or run."""
    return {trial.user_attrs["slot"] for trial in trials if trial.state in LIVING and "slot" in trial.user_attrs}


def is_surplus(number: int, trials: Iterable[FrozenTrial]) -> bool:
    """Tell whether another trial stands for this one's slot, or nobody queued it."""
    trials = list(trials)
    slot = trials[number].user_attrs.get("slot")
    return slot is None or any(
        other.user_attrs.get("slot") == slot
        and other.number != number
        and (is_counted(other) or (other.state in LIVING and other.number < number))
        for other in trials
    )
