"""Workers of a Dask cluster: they come and go, and the scheduler does jobs again of those that died."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mmpsr.executors.base import Engine, ExecutorError, away, home
from mmpsr.extras import require_extra

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["SCHEME", "DaskCluster", "connect"]

SCHEME = "dask://"
_PATIENCE = 30.0
"""Seconds that a scheduler has to answer."""
_LOOK = 1.0
"""Seconds for which a number of workers counts as known."""


def connect(name: str) -> DaskCluster:
    """Connect to the scheduler of an address `dask://host:port`; errors as of `open_engine`."""
    require_extra("dask")
    from distributed import Client

    address = f"tcp://{name.removeprefix(SCHEME)}"
    try:
        return DaskCluster(name, Client(address, timeout=_PATIENCE, set_as_default=False))
    except (OSError, TimeoutError) as error:
        raise ExecutorError(
            f"{name}: no scheduler answers there ({error}); start one by `dask scheduler`, and workers by "
            f"`dask worker {address} --nthreads 1`"
        ) from None


class DaskCluster(Engine):
    """Workers of a Dask cluster, as many as it has at the moment.

    Args:
        name: for messages.
        client: connected to its scheduler; it is closed with this.
    """

    def __init__(self, name: str, client: Client) -> None:
        self.name, self._client = name, client
        self._executor = client.get_executor()
        self._num_workers, self._seen = 1, -_LOOK

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Give a job to the scheduler."""
        name = getattr(function, "func", function).__name__  # of a partial one, too
        key = f"{name}-{uuid.uuid4().hex}"  # what the cluster's own page shows
        future: Future[Any] = self._executor.submit(away, home(), function, arguments, key=key)
        return future

    @property
    def num_workers(self) -> int:
        """Workers that the scheduler knows, at least one: for want of any, jobs wait there."""
        if time.monotonic() - self._seen >= _LOOK and self.is_open:
            with suppress(OSError, TimeoutError):
                self._num_workers = max(1, len(self._client.nthreads()))
            self._seen = time.monotonic()
        return self._num_workers

    @property
    def is_open(self) -> bool:
        """Whether there is a connection to the scheduler."""
        return self._client.status == "running"

    def has_killed(self, error: BaseException | None) -> bool:
        """Tell whether the scheduler gave a job up, since one worker after another died that had it."""
        return type(error).__name__ == "KilledWorker"

    def close(self, at_once: bool = False) -> None:
        """Leave the cluster; it goes on without what this has given it."""
        self._client.close(timeout=_PATIENCE)
