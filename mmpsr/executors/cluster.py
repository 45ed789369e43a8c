"""Workers of a Dask cluster: they come and go, and the scheduler does jobs again of those that died."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mmpsr.executors.base import Engine, ExecutorError, away, home
from mmpsr.extras import require_extra

if TYPE_CHECKING:
    import distributed
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
        self._num_workers, self._seen = 1, -_LOOK

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Give a job to the scheduler, which holds it as bytes and needs none of the job's libraries."""
        from distributed.protocol.pickle import dumps

        name = getattr(function, "func", function).__name__  # of a partial one, too
        key = f"{name}-{uuid.uuid4().hex}"  # what the cluster's own page shows
        there = self._client.submit(away, home(), _unpacked, (dumps((function, arguments)),), key=key)
        here: Future[Any] = Future()
        here.add_done_callback(lambda done: there.cancel() if done.cancelled() and not there.done() else None)
        self._client.loop.add_callback(self._hand_over, there, here)  # type: ignore[union-attr]
        return here

    async def _hand_over(self, there: distributed.Future, here: Future[Any]) -> None:
        """Give the outcome of a job to its future, also where its worker dies while the result is fetched.

        Dask's own executor never tells of a job that was given up in that moment.
        """
        result, error = None, None
        try:
            (result,) = await self._client.gather([there], asynchronous=True)
        except (asyncio.CancelledError, CancelledError):
            here.cancel()
        except BaseException as raised:  # whatever it is, the job's
            error = raised
        if not here.set_running_or_notify_cancel():
            return
        if error is None:
            here.set_result(result)
        else:
            here.set_exception(error)

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


def _unpacked(job: bytes) -> Any:
    """Do a job in a worker, where its module is imported when its turn has come."""
    from distributed.protocol.pickle import loads

    function, arguments = loads(job)
    return function(*arguments)
