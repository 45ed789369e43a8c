"""The engine that a name stands for; the only module that knows them all."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from mmpsr.executors.base import Engine, ExecutorError, away, end_executor, home
from mmpsr.executors.cluster import SCHEME, DaskCluster, connect

__all__ = ["open_engine"]


def open_engine(name: str, num_workers: int = 1) -> Engine:
    """Open an executor of elsewhere.

    Args:
        name: as above, not `local`.
        num_workers: how many it has where it does not tell.

    Raises:
        ExecutorError: no scheduler answers, or there is no such function, or it gives no executor.
        MissingExtraError: Dask is not installed.
    """
    if name.startswith(SCHEME):
        return connect(name)
    make = _factory(name)
    executor = _made(name, make)
    client = getattr(executor, "_client", None)
    if type(executor).__name__ == "ClientExecutor" and client is not None:
        return DaskCluster(name, client)
    return _Made(name, make, executor, num_workers)


def _factory(name: str) -> Callable[[], Executor]:
    module, _, function = name.partition(":")
    try:
        make: Callable[[], Executor] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ExecutorError(
            f"executor {name!r}: {error}; its module must be importable from the working directory or PYTHONPATH"
        ) from error
    return make


def _made(name: str, make: Callable[[], Executor]) -> Executor:
    executor = make()
    if not isinstance(executor, Executor):
        raise ExecutorError(f"executor {name!r} gives {executor!r}, and not a concurrent.futures.Executor")
    return executor


class _Made(Engine):
    """The executor that a function gives."""

    def __init__(self, name: str, make: Callable[[], Executor], executor: Executor, num_workers: int) -> None:
        self.name, self._make, self._executor, self._num_workers = name, make, executor, num_workers

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._executor.submit(away, home(), function, arguments)

    @property
    def num_workers(self) -> int:
        """Workers that the executor says it has, by the name that MPI's and others use, or by that of Python's own."""
        for name in ("num_workers", "_max_workers"):
            number = getattr(self._executor, name, None)
            if isinstance(number, int) and number > 0:
                return number
        return self._num_workers

    def renew(self, alone: bool = False) -> None:
        self.close(at_once=True)
        self._executor = _made(self.name, self._make)

    def close(self, at_once: bool = False) -> None:
        end_executor(self._executor, at_once)
