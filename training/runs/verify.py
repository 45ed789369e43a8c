"""Verification of a run: is it still what it was, and do its figures follow from its predictions?

`manifest.json` is written last: the sum (SHA-256) of every file that figures follow from, the command and the versions.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from corpora.clips import label_columns
from mmpsr.config import ConfigError
from mmpsr.files import sha256_of
from training.runs.directory import RunDirectory, RunError, read_json, runs_below
from training.runs.stored import RunPredictions
from training.scoring.novelty import NOVELTY

__all__ = ["MANIFEST", "changed_files", "verify_run", "write_manifest"]

MANIFEST = "manifest.json"
NEEDED = ("config.json", "features.json", "calibration.json", "baseline.json", "predictions.parquet", "results.json")
OTHERS = (
    "versions.json", "defects.csv", "ledger.csv", "faces.csv", "metrics.jsonl", "best.safetensors",
    "identities.parquet", "data.json", NOVELTY,
)  # fmt: skip
TOLERANCE = 1e-6  # percentage points, of figures made again on another machine
PREDICTION_TOLERANCE = 1e-6  # of `predicted` columns, which are float32
FIGURES = ("model", "uncalibrated", "linear", "chance")


def write_manifest(run: RunDirectory) -> None:
    """Note the sums of a finished run's files, how it was started and with what.

    Args:
        run: with its `results.json`.
    """
    names = [name for name in (*NEEDED, *OTHERS) if (run.path / name).exists()]
    manifest = {
        "command": sys.argv,
        "versions": run.read_json("versions.json"),
        "tolerance": TOLERANCE,
        "sha256": {name: sha256_of(run.path / name) for name in names},
    }
    run.write_json(MANIFEST, manifest)


def verify_run(path: Path) -> list[str]:
    """Compare files with the manifest, calibrated predictions with uncalibrated ones, and figures with predictions.

    Args:
        path: run directory.

    Returns:
        A sentence for everything that is not what it should be.

    Raises:
        RunError: there is no finished run.
        ConfigError: its configuration is not one of this version.
    """
    if not (path / "results.json").exists():
        what = "has no results.json: the run is not finished" if path.is_dir() else "is no folder"
        raise RunError(f"{path} {what}{runs_below(path)}")
    problems = list(changed_files(path))
    try:
        run = RunPredictions.read(path)
        results = read_json(path, "results.json")
    except (RunError, ConfigError) as error:
        return [*problems, f"figures cannot be made again: {error}"]
    return [*problems, *_wrong_predictions(run), *_wrong_figures(run, results)]


def changed_files(path: Path, needed: Sequence[str] = NEEDED) -> Iterator[str]:
    """Compare files with the manifest.

    Args:
        path: run directory.
        needed: files that the manifest has to name.
    """
    try:
        noted = dict(read_json(path, MANIFEST)["sha256"])
    except (RunError, KeyError, TypeError, ValueError):
        yield f"{MANIFEST} is missing or damaged, so that no file can be compared with what it was"
        return
    for name in (name for name in needed if name not in noted):
        yield f"{MANIFEST} says nothing of {name}"
    for name, expected in noted.items():
        if not (path / name).exists():
            yield f"{name} is missing; {MANIFEST} lists it"
        elif (actual := sha256_of(path / name)) != expected:
            yield f"{name} was changed: its SHA-256 is {actual[:12]}..., {MANIFEST} says {str(expected)[:12]}..."


def _wrong_predictions(run: RunPredictions) -> Iterator[str]:
    """Find calibrated predictions that do not follow from uncalibrated ones, the first of each column."""
    for task, spec in run.tasks.items():
        columns = label_columns(task, spec)
        before = run.table[[f"uncalibrated.{column}" for column in columns]].to_numpy(dtype=np.float64)
        expected = run.calibration.apply(task, before)
        for index, column in enumerate(columns):
            stored = run.table[f"predicted.{column}"].to_numpy(dtype=np.float64)
            wrong = np.flatnonzero(~np.isclose(stored, expected[:, index], 0.0, PREDICTION_TOLERANCE, equal_nan=True))
            if len(wrong):
                row = run.table.iloc[wrong[0]]
                yield (
                    f"predictions.parquet: predicted.{column} of {len(wrong)} clip(s) is not the calibration of "
                    f"uncalibrated.{column}; the first is {row['corpus']} {row['clip_id']}: {stored[wrong[0]]:.6f} "
                    f"instead of {expected[wrong[0], index]:.6f}"
                )


def _wrong_figures(run: RunPredictions, results: list[dict[str, Any]]) -> Iterator[str]:
    stated, made = _by_place(results), _by_place(run.results())
    for place in sorted(stated.keys() ^ made.keys()):
        name = "/".join(place)
        if place not in made:
            yield f"results.json: {name} does not follow from any prediction"
        else:
            yield f"results.json: {name} is missing"
    for place in sorted(stated.keys() & made.keys()):
        for figure in ("num_clips", *FIGURES):
            if figure in made[place] and not _agree(stated[place].get(figure), made[place][figure]):
                yield (
                    f"results.json: {figure} of {'/'.join(place)} is {stated[place].get(figure)}, the predictions give "
                    f"{made[place][figure]}"
                )
    if not run.has_linear:
        yield "predictions.parquet has no linear.<task>.<class> columns, so that the baseline's figures are unproven"


def _by_place(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    return {tuple(str(row[name]) for name in ("corpus", "split", "task", "metric")): row for row in rows}


def _agree(stated: Any, made: float) -> bool:
    if not isinstance(stated, int | float):
        return False
    return abs(stated - made) <= TOLERANCE or (math.isnan(stated) and math.isnan(made))
