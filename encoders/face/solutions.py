"""MediaPipe's solutions, imported without what only its drawing and its microphone need: three quarters of the time.

Importing this module imports MediaPipe.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["solutions"]


class _Later(ModuleType):
    """A module that is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def _imported() -> Any:
    names = ("matplotlib", "matplotlib.pyplot", "sounddevice")
    later = {name: _Later(name) for name in names if name not in sys.modules}
    if "matplotlib" in later:
        later["matplotlib"].__dict__["pyplot"] = later["matplotlib.pyplot"]
    sys.modules.update(later)
    try:
        return importlib.import_module("mediapipe").solutions
    finally:
        for name, module in later.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


solutions = _imported()
