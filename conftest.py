"""Tests run in two processes, so each computes with one thread unless the environment says otherwise.

A shell that starts them in the background has them ignore Ctrl-C, and every process they start; some send it.
"""

import os
import signal

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with whole systems and with studies: their files take longest, and others would wait for the last."""
    items.sort(key=lambda item: not {"system", "tuning"} & set(item.path.parts))
