"""Imports that worker processes share: made in the process that they are forked from, and nowhere else.

A module that cannot be imported is left to the worker that needs it, which says so. What was imported is no garbage,
so that collectors of workers need not look at it, nor copy its pages.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
from contextlib import suppress

MODULES = "MMPSR_PRELOAD"
"""Variable of the environment with names of modules, separated by commas."""

if MODULES in os.environ:  # elsewhere this module is imported for the name alone, in whatever thread
    _before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launched process' to handle
    for module in filter(None, os.environ.pop(MODULES).split(",")):
        with suppress(Exception):
            importlib.import_module(module)
    signal.signal(signal.SIGINT, _before)
    gc.collect()
    gc.freeze()
