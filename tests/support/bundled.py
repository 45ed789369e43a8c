"""A small finished run and its bundle, made once for all tests of a process; tests must not change them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stored_run import finish
from training.bundle.bundle import write_bundle

_MADE: dict[str, Path] = {}


def small_run(factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of four corpora over text and audio, with a trained linear path."""
    if "run" not in _MADE:
        _MADE["run"] = finish(factory.mktemp("runs"), model={"linear_path": {"emotion": "trained"}})
    return _MADE["run"]


def small_bundle(factory: pytest.TempPathFactory) -> Path:
    """Folder of its bundle."""
    if "bundle" not in _MADE:
        folder = factory.mktemp("bundles") / "bundle"
        write_bundle(small_run(factory), folder)
        _MADE["bundle"] = folder
    return _MADE["bundle"]
