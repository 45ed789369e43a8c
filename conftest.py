"""Tests run in two processes, so each computes with one thread unless the environment says otherwise.

A shell that starts them in the background has them ignore Ctrl-C, and every process they start; some send it.

Python's collector of cyclic garbage would go through everything that the libraries made when they were imported, more
than a million objects, again and again: it waits until all tests are collected, and leaves those objects alone.
"""

import gc
import os
import signal
from collections.abc import Generator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage meanwhile."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with whole systems and with studies: their files take longest, and others would wait for the last."""
    items.sort(key=lambda item: not {"system", "tuning"} & set(item.path.parts))
