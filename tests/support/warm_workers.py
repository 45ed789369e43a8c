"""Worker processes that are handed what spawned ones are, but need not import anything first."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver

import pytest


@contextmanager
def warm_workers(*modules: str) -> Iterator[None]:
    """Fork what this process starts by `multiprocessing` from a new process that has imported the modules."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda method=None: context)
        yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
