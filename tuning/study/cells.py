"""Cells of a study: which are done, and how one is computed by the parts of a training run.

A cell is done when its folder holds the results of the same configuration. One that was stopped continues from its
checkpoint; one of another configuration is set aside as `<seed>.replaced-<k>` and computed anew. A lock that a process
holds on the cell it computes keeps a second one from computing it, too.
"""

from __future__ import annotations

import json
import os
import platform
import traceback
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from filelock import FileLock

from corpora.clips import CorpusError
from encoders.errors import ExtractionError
from mmpsr.config import ConfigError
from mmpsr.errors import Interrupted
from training.config import RunConfig
from training.data.load import RunData, load_run_data
from training.fit.baseline import LinearBaseline
from training.pipeline import train_joined
from training.runs.accelerator import create_accelerator
from training.runs.directory import RunDirectory, package_versions
from tuning.study.config import Cell, configuration_hash

__all__ = ["CellRunner", "is_done", "prepare"]

FAILURE, INPUTS = "failure.txt", "inputs.json"


def prepare(config: RunConfig, accelerator: Accelerator) -> tuple[RunData, LinearBaseline]:
    """Load what cells with the same corpora, features and tasks share, and fit the linear baseline on it.

    Nothing is printed but extraction's progress: what a run would say is in the folder of each cell.
    """
    data = load_run_data(config, accelerator)
    return data, LinearBaseline(data.joined, config.tasks.resolve(), config.corpora)


def is_done(cell: Cell) -> bool:
    """Whether the cell's folder holds the results of its configuration."""
    return RunDirectory(cell.path).finished and _stored_hash(cell.path) == cell.digest


class CellRunner:
    """Computes cells one after another, and keeps the data of the last one."""

    def __init__(self) -> None:
        self._data: tuple[str, RunData, LinearBaseline] | None = None
        self._refused: dict[str, Exception] = {}
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_deterministic_debug_mode("warn")  # as use_deterministic_algorithms, which imports the compiler
        torch.set_num_threads(1)  # sums depend on how they are split over threads

    def run(self, cell: Cell) -> str | None:
        """Compute a cell, or continue it.

        Returns:
            Why it failed, in one line, with the whole story in its folder's `failure.txt`; None where it is done.

        Raises:
            Interrupted: a signal came in training, and a checkpoint was written.
        """
        cell.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cell.path.parent / f".{cell.path.name}.lock"):
            if is_done(cell):
                return None
            run = _open(cell)
            try:
                self._compute(cell.config, cell.data_key, run)
            except Interrupted:
                raise
            except Exception as error:
                (run.path / FAILURE).write_text(traceback.format_exc(), encoding="utf-8")
                return f"{type(error).__name__}: {' '.join(str(error).split())}"
        return None

    def _compute(self, config: RunConfig, data_key: str, run: RunDirectory) -> None:
        AcceleratorState._reset_state()  # it refuses another precision than that of the first cell
        accelerator = create_accelerator(config)
        if self._data is None or self._data[0] != data_key:
            self._data = None  # the old one need not stay while the new one is made
            if data_key in self._refused:
                raise self._refused[data_key]  # the row's other seeds need not try in vain again
            try:
                self._data = data_key, *prepare(config, accelerator)
            except (ConfigError, CorpusError, ExtractionError) as error:
                self._refused[data_key] = error
                raise
        _, data, baseline = self._data
        run.write_json(INPUTS, data.hashes)
        train_joined(config, data, baseline, accelerator, run, lambda message: None)


def _stored_hash(path: Path) -> str | None:
    try:
        return configuration_hash(json.loads((path / "config.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _open(cell: Cell) -> RunDirectory:
    """The cell's folder, with its configuration and versions in it."""
    stored = _stored_hash(cell.path)
    if stored is not None and stored != cell.digest:
        number = 1
        while (aside := cell.path.with_name(f"{cell.path.name}.replaced-{number}")).exists():
            number += 1
        cell.path.rename(aside)
    cell.path.mkdir(exist_ok=True)
    run = RunDirectory(cell.path)
    (run.path / FAILURE).unlink(missing_ok=True)
    if stored != cell.digest:
        run.write_json("versions.json", {"python": platform.python_version(), **package_versions()})
        run.write_json("config.json", cell.config.model_dump(mode="json"))
    return run
