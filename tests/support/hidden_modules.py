"""Start of a program in which some top-level modules cannot be imported, as where they are not installed."""

from __future__ import annotations

from collections.abc import Iterable

_HIDE = """
import sys

class Hide:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {hidden!r} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Hide(finder) for finder in sys.meta_path]
"""


def without_modules(modules: Iterable[str]) -> str:
    """Lines to put before a program."""
    return _HIDE.format(hidden=set(modules))
